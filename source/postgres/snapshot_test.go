//go:build databases

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/postgres"
)

// read reads to the end and checks each page's form, and that together they cover what was asked for.
func all(t *testing.T, s *postgres.Source, spans ...changefeed.Span) []source.Event {
	t.Helper()
	reader := openPages(t, s, spans...)
	defer func() { require.NoError(t, reader.Close()) }()
	events := toEnd(t, reader)
	checkPages(t, events, spans)
	return events
}

func toEnd(t *testing.T, reader source.Reader) (events []source.Event) {
	t.Helper()
	for {
		event, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return events
		}
		require.NoError(t, err)
		events = append(events, event)
	}
}

func openPages(t *testing.T, s *postgres.Source, spans ...changefeed.Span) source.Reader {
	t.Helper()
	var pieces []source.Piece
	for _, span := range spans {
		pieces = append(pieces, source.Piece{Span: span})
	}
	reader, err := s.Read(t.Context(), source.Request{Pieces: pieces})
	require.NoError(t, err)
	return reader
}

// prepare has the changefeed begin at the server: only tables that are published then are in a snapshot.
func (w *world) prepare() {
	w.Helper()
	_, err := w.open(way{}).Prepare(w.ctx, false)
	require.NoError(w, err)
}

// paged opens a source whose pages have so many rows.
func (w *world) paged(rows string) *postgres.Source {
	w.Helper()
	return w.open(way{options: changefeed.Options{source.OptionSnapshotChunk: rows}})
}

// connect opens another connection to the database.
func (w *world) connect() *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(w.ctx, w.server.Postgres(w.database))
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, conn.Close(context.Background())) })
	return conn
}

func spansOf(events []source.Event) []changefeed.Span {
	var out []changefeed.Span
	for _, event := range events {
		out = append(out, event.Span)
	}
	return out
}

func checkPages(t *testing.T, events []source.Event, spans []changefeed.Span) {
	t.Helper()
	covered := spansOf(events)
	for _, event := range events {
		require.True(t, event.Snapshot)
		for i, one := range event.Changes {
			require.True(t, event.Span.Contains(one.Key), "%q is outside %v", one.Key, event.Span)
			require.Equal(t, change.OpRead, one.Op)
			require.Equal(t, event.To.Position, one.Position)
			if i > 0 {
				before := event.Changes[i-1]
				require.Equal(t, before.Table, one.Table)
				require.Greater(t, one.Index, before.Index)
				require.LessOrEqual(t, string(before.Key), string(one.Key))
			}
		}
	}
	slices.SortFunc(covered, changefeed.Span.Compare)
	for _, span := range spans {
		var inner []changefeed.Span
		for _, one := range covered {
			if span.Encloses(one) {
				inner = append(inner, one)
			}
		}
		require.NoError(t, changefeed.CheckCover(span, inner))
	}
}

// rowsOf returns the rows by key, each as its cells in order.
func rowsOf(t *testing.T, events []source.Event) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, event := range events {
		for _, one := range event.Changes {
			if _, found := out[string(one.Key)]; found {
				require.Fail(t, "twice", "%q", one.Key)
			}
			cells := slices.Clone(one.After.(*change.Tuple).Cells)
			for i := range cells {
				if cells[i] == nil {
					cells[i] = []byte("\x00NULL") // which no text of a database is
				}
			}
			out[string(one.Key)] = string(bytes.Join(cells, []byte("|")))
		}
	}
	return out
}

func TestSnapshotHoldsEveryRowOnce(t *testing.T) {
	d := newWorld(t)
	d.exec(`CREATE TABLE numbers (id int PRIMARY KEY, note text);
		INSERT INTO numbers SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE 'note ' || i END FROM generate_series(-500, 500) i;
		CREATE TABLE words (word text PRIMARY KEY, n int);
		INSERT INTO words SELECT md5(i::text), i FROM generate_series(1, 300) i;
		CREATE TABLE history (n int, note text);
		INSERT INTO history SELECT i, 'same' FROM generate_series(1, 100) i;
		CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE "Odd; na.me:%" ("a""b" int PRIMARY KEY); INSERT INTO "Odd; na.me:%" VALUES (1)`)
	d.prepare()
	d.exec(`CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)`) // it comes through the log
	events := all(t, d.paged("7"), changefeed.Whole())
	counts := make(map[string]int)
	for _, event := range events {
		for _, one := range event.Changes {
			counts[one.Table]++
			tuple := one.After.(*change.Tuple)
			if one.Table == "public.numbers" {
				n, err := strconv.Atoi(string(tuple.Cells[0]))
				require.NoError(t, err)
				if n%3 == 0 {
					require.Nil(t, tuple.Cells[1])
				} else {
					require.Equal(t, fmt.Sprint("note ", n), string(tuple.Cells[1]))
				}
			}
		}
	}
	require.Equal(t, map[string]int{
		"public.numbers": 1001, "public.words": 300, "public.history": 100, "public.Odd; na.me:%": 1,
	}, counts)
}

// Keys of every kind, in a database whose own order is another: any border between keys parts the rows as it parts the keys.
func TestSnapshotOfAnyPart(t *testing.T) {
	d := newWorld(t)
	d.exec(`CREATE COLLATION other (provider = icu, locale = 'de-DE');
		CREATE TABLE a (id bigint PRIMARY KEY, v text); INSERT INTO a SELECT (i - 50) * 99999999999, i FROM generate_series(1, 100) i;
		CREATE TABLE b (id text COLLATE other PRIMARY KEY);
		INSERT INTO b SELECT left(s, 3) FROM (SELECT DISTINCT ON (left(s, 3)) s FROM unnest(ARRAY['a','B','b','ä','Ä','z','Z','é','€','😀','a b','a-b','aB','Ab','AB','_','.', '', ' ', E'\t', E'\\', E'\n', '''', '"','ß','ss','~', '0', '1', '10', '9']) s) q;
		CREATE TABLE c (tenant int, name text, flag boolean, PRIMARY KEY (name, tenant, flag));
		INSERT INTO c SELECT i % 5 - 2, 'n' || i / 10, i % 2 = 0 FROM generate_series(1, 60) i ON CONFLICT DO NOTHING;
		CREATE TABLE d (id uuid PRIMARY KEY); INSERT INTO d SELECT md5(i::text)::uuid FROM generate_series(1, 40) i;
		CREATE TABLE e (tenant smallint, id bytea, PRIMARY KEY (tenant, id)); INSERT INTO e SELECT i % 3 - 1, decode(md5(i::text), 'hex') FROM generate_series(1, 40) i;
		CREATE TABLE f (id char(5) PRIMARY KEY); INSERT INTO f VALUES ('a'), (E'a\x01'), ('ab'), ('A');
		CREATE TABLE g (id inet, at timestamptz, PRIMARY KEY (id, at));
		INSERT INTO g SELECT ('10.0.0.' || i)::inet, '2020-01-01'::timestamptz + i * interval '1 s 1 ms' FROM generate_series(1, 30) i;
		INSERT INTO g VALUES ('10.0.0.0/8', 'infinity'), ('10.0.0.0/8', '-infinity'), ('::1', '0044-03-15 BC')`)
	d.prepare()
	s := d.paged("5")
	everything := rowsOf(t, all(t, s, changefeed.Whole()))
	require.Len(t, everything, 100+31+60+40+40+4+33)
	keys := slices.Sorted(maps.Keys(everything))
	random := rand.New(rand.NewPCG(5, 6))
	border := func() []byte {
		key := []byte(keys[random.IntN(len(keys))])
		switch random.IntN(5) {
		case 0:
			return key
		case 1:
			return append(key, 0)
		case 2:
			return key[:random.IntN(len(key)+1)]
		case 3:
			return append(key[:random.IntN(len(key)+1)], byte(random.IntN(256)))
		default:
			key[random.IntN(len(key))] = byte(random.IntN(256))
			return key
		}
	}
	for range 60 {
		spans := changefeed.Whole().SplitAt(border(), border(), border())
		span := spans[random.IntN(len(spans))]
		got := rowsOf(t, all(t, s, span))
		for _, key := range keys {
			_, found := got[key]
			require.Equal(t, span.Contains([]byte(key)), found, "%q in %v", key, span)
		}
	}
}

// A snapshot that is read while its rows change, and what changes above its mark, are the rows at the end.
func TestSnapshotUnderWrites(t *testing.T) {
	d := newWorld(t)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 5000) i;
		CREATE TABLE sum (id int PRIMARY KEY, total int); INSERT INTO sum VALUES (1, 0)`)
	d.prepare()
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i := range 3 {
		writer := d.connect()
		group.Go(func() {
			for n := i; ; n += 3 {
				select {
				case <-stop:
					return
				default:
				}
				batch := &pgx.Batch{}
				batch.Queue("BEGIN")
				batch.Queue("UPDATE a SET v = v + 1 WHERE id = $1", 1+(n*977)%5000)
				batch.Queue("UPDATE sum SET total = total + 1")
				batch.Queue("COMMIT")
				if err := writer.SendBatch(context.Background(), batch).Close(); err != nil {
					return
				}
			}
		})
	}
	for range 5 {
		events := all(t, d.paged("100"), changefeed.Whole())
		total, sum := 0, -1
		for _, row := range rowsOf(t, events) {
			var id, v int
			_, err := fmt.Sscanf(row, "%d|%d", &id, &v)
			require.NoError(t, err)
			total += v
		}
		for _, event := range events {
			for _, one := range event.Changes {
				if one.Table == "public.sum" {
					_, err := fmt.Sscan(string(one.After.(*change.Tuple).Cells[1]), &sum)
					require.NoError(t, err)
				}
			}
		}
		require.Equal(t, 2*sum, total, "all pages are of one moment")
	}
	close(stop)
	group.Wait()
}

func TestSnapshotIsResumedWithAnother(t *testing.T) {
	d := newWorld(t)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 500) i`)
	d.prepare()
	s := d.paged("50")
	reader := openPages(t, s, changefeed.Whole())
	var events []source.Event
	for range 4 {
		event, err := reader.Next(t.Context())
		require.NoError(t, err)
		events = append(events, event)
	}
	todo := changefeed.Gaps(changefeed.Whole(), spansOf(events))
	require.NoError(t, reader.Close())
	_, err := reader.Next(t.Context())
	require.Error(t, err)
	require.NoError(t, s.Close())
	d.exec("UPDATE a SET v = 1")
	later := all(t, d.paged("50"), todo...)
	checkPages(t, append(events, later...), []changefeed.Span{changefeed.Whole()})
	require.Greater(t, later[0].To.Position, events[0].To.Position)
	require.Len(t, rowsOf(t, append(events, later...)), 500)
}

// What is done to a table while its snapshot is read must not make a page that lies: a table that was emptied or written anew looks empty
// to a snapshot from before.
func TestSnapshotOfTablesThatChange(t *testing.T) {
	for form, open := range bothForms {
		t.Run(form, func(t *testing.T) { tablesThatChange(t, open) })
	}
}

func tablesThatChange(t *testing.T, open func(*testing.T, *postgres.Source, ...changefeed.Span) source.Reader) {
	t.Helper()
	for name, statement := range map[string]string{
		"dropped":    "DROP TABLE z",
		"emptied":    "TRUNCATE z",
		"rewritten":  "ALTER TABLE z ALTER v TYPE bigint USING v + 1",
		"renamed":    "ALTER TABLE z RENAME TO y",
		"replaced":   "ALTER TABLE z RENAME TO zz; CREATE TABLE z (id int PRIMARY KEY, v int)",
		"one column": "ALTER TABLE z DROP COLUMN v",
		"swapped":    "ALTER TABLE z RENAME v TO x; ALTER TABLE z RENAME w TO v; ALTER TABLE z RENAME x TO w",
		"added":      "ALTER TABLE z ADD COLUMN n int DEFAULT 7; CREATE TABLE zzz (id int PRIMARY KEY)",
	} {
		t.Run(name, func(t *testing.T) {
			d := newWorld(t)
			d.exec(`CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 100) i;
				CREATE TABLE z (id int PRIMARY KEY, v int, w int); INSERT INTO z SELECT i, 1, 2 FROM generate_series(1, 100) i`)
			d.prepare()
			s := d.paged("10")
			s.OneLane()
			reader := open(t, s, changefeed.Whole())
			defer func() { require.NoError(t, reader.Close()) }()
			first, err := reader.Next(t.Context())
			require.NoError(t, err)
			d.exec(statement)
			events := []source.Event{first}
			for err == nil {
				var event source.Event
				if event, err = reader.Next(t.Context()); err == nil {
					events = append(events, event)
				}
			}
			require.ErrorIs(t, err, io.EOF)
			checkPages(t, events, []changefeed.Span{changefeed.Whole()})
			rows := rowsOf(t, events)
			held := 0
			for table := range strings.SplitSeq(d.text(`SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`), " ") {
				var n int
				_, err := fmt.Sscan(d.text(`SELECT count(*)::text FROM `+table), &n)
				require.NoError(t, err)
				held += n
			}
			require.Len(t, rows, held)
			for key, row := range rows {
				if name == "swapped" && strings.HasPrefix(key, "public.z:") {
					require.True(t, strings.HasSuffix(row, "|1|2"), row)
				}
			}
		})
	}
}

func TestSnapshotOverCutConnections(t *testing.T) {
	for form, open := range bothForms {
		t.Run(form, func(t *testing.T) { overCutConnections(t, open) })
	}
}

func overCutConnections(t *testing.T, open func(*testing.T, *postgres.Source, ...changefeed.Span) source.Reader) {
	t.Helper()
	d := newWorld(t)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, repeat('x', 500) FROM generate_series(1, 60000) i;
		CREATE TABLE b (id text PRIMARY KEY, v text); INSERT INTO b SELECT i, repeat('x', 500) FROM generate_series(1, 60000) i; ANALYZE`)
	d.prepare()
	s := d.paged("1000")
	reader := open(t, s, changefeed.Whole())
	defer func() { require.NoError(t, reader.Close()) }()
	var events []source.Event
	for {
		if len(events)%30 == 5 {
			kind := []string{"walsender", "client backend"}[len(events)/30%2]
			d.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fencerow default/orders snapshot'
				AND datname = current_database() AND backend_type = $1`, kind)
		}
		event, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		events = append(events, event)
	}
	checkPages(t, events, []changefeed.Span{changefeed.Whole()})
	require.Len(t, rowsOf(t, events), 120000)
}

// A snapshot waits for a transaction that has written and goes on: people are told which.
func TestSnapshotSaysWhatItWaitsFor(t *testing.T) {
	d := newWorld(t)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	d.prepare()
	old := d.connect()
	_, err := old.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (1)")
	require.NoError(t, err)
	s := d.paged("1000")
	s.Impatient()
	reader := openPages(t, s, changefeed.Whole())
	_, err = reader.Next(t.Context())
	require.NoError(t, reader.Close())
	fault := changefeed.AsFault(err, "")
	require.Equal(t, changefeed.CodeSourceUnreachable, fault.Code)
	require.False(t, fault.Permanent)
	require.Contains(t, fault.Detail, fmt.Sprint("process ", old.PgConn().PID()))
	require.NotEmpty(t, fault.Cure)
	// The slot that waits goes on, and the next reader has it.
	require.Equal(t, "1", d.text(`SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database() AND temporary`))
	_, err = old.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Len(t, rowsOf(t, all(t, s, changefeed.Whole())), 1)
	require.Eventually(t, func() bool {
		return d.text(`SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database() AND temporary`) == "0"
	}, 10*time.Second, 10*time.Millisecond)
}

// Of several hosts the one that takes writes is used, also for connections that only read.
func TestASourceOfSeveralHosts(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2)`)
	s := w.open(way{host: "127.0.0.1:1," + w.server.Host})
	log := w.follow(s)
	var rows int
	for _, event := range all(t, s, changefeed.Whole()) {
		rows += event.Rows()
	}
	require.Equal(t, 2, rows)
	w.exec(`INSERT INTO a VALUES (3)`)
	w.take(log, 1)
}
