//go:build databases

package postgres_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/internal/dbtest"
	"fencerow/source"
	"fencerow/source/postgres"
)

// faultOf reads until there is a fault.
func faultOf(t *testing.T, from *postgres.Source) *changefeed.Fault {
	t.Helper()
	reader := openPages(t, from, changefeed.Whole())
	defer func() { require.NoError(t, reader.Close()) }()
	for {
		_, err := reader.Next(t.Context())
		if err == nil {
			continue
		}
		require.NotErrorIs(t, err, io.EOF)
		fault := changefeed.AsFault(err, "")
		require.NotEmpty(t, fault.Cure, "%v", err)
		_, again := reader.Next(t.Context())
		require.Equal(t, err, again)
		return fault
	}
}

func TestSnapshotNamesTheRightThatIsMissing(t *testing.T) {
	w := newWorld(t)
	role := "reader_" + w.database
	w.exec(`CREATE ROLE ` + role + ` LOGIN REPLICATION; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE "B b" (id int PRIMARY KEY); INSERT INTO "B b" VALUES (1);
		GRANT SELECT ON a TO ` + role)
	w.prepare()
	from := w.open(way{user: role})
	fault := faultOf(t, from)
	require.Equal(t, changefeed.CodeSourceUnreachable, fault.Code)
	require.False(t, fault.Permanent)
	require.Contains(t, fault.Cure, fmt.Sprintf(`GRANT SELECT ON "public"."B b" TO "%s"`, role))
	w.exec(`GRANT SELECT ON "B b" TO ` + role + `; ALTER TABLE "B b" ENABLE ROW LEVEL SECURITY`)
	fault = faultOf(t, from)
	require.Contains(t, fault.Cure, "BYPASSRLS")
	w.exec(`ALTER ROLE ` + role + ` BYPASSRLS`)
	require.Len(t, rowsOf(t, all(t, from, changefeed.Whole())), 1)
	w.exec(`DROP OWNED BY ` + role)
}

func TestATableWithoutAKeyIsBounded(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE history (n int); INSERT INTO history SELECT generate_series(1, 100)`)
	w.prepare()
	from := w.open(way{})
	from.SmallWholes(10_000)
	fault := faultOf(t, from)
	require.True(t, fault.Permanent)
	require.Equal(t, "public.history", fault.Value)
	require.Contains(t, fault.Cure, "primary key")
}

func TestASnapshotNeedsASlot(t *testing.T) {
	small, err := dbtest.StartPostgres("wal_level=logical", "max_replication_slots=2")
	require.NoError(t, err)
	defer small.Close()
	t.Run("on a server with two", func(t *testing.T) {
		w := newWorldOn(t, small)
		w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
		w.prepare()
		w.exec(`SELECT pg_create_logical_replication_slot('other', 'pgoutput')`)
		from := w.open(way{})
		fault := faultOf(t, from)
		require.False(t, fault.Permanent)
		require.Contains(t, fault.Cure, "max_replication_slots")
		w.exec(`SELECT pg_drop_replication_slot('other')`)
		all(t, from, changefeed.Whole())
	})
}

// However many spans a node reads, it has one slot for them, and they are of one moment.
func TestReadersShareASnapshot(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 400)`)
	w.prepare()
	from := w.paged("10")
	spans := changefeed.Whole().SplitAt([]byte("public.a:0000000000000000100"), []byte("public.a:0000000000000000200"), []byte("public.a:0000000000000000300"))
	var group sync.WaitGroup
	started := make(chan struct{}, len(spans))
	counted := make(chan struct{})
	marks := make([]change.Mark, len(spans))
	rows := make([]int, len(spans))
	for i, span := range spans {
		reader := openPages(t, from, span)
		group.Go(func() {
			defer func() { _ = reader.Close() }()
			for {
				event, err := reader.Next(t.Context())
				if err != nil {
					return
				}
				if marks[i] == (change.Mark{}) {
					marks[i] = event.To
					started <- struct{}{}
					<-counted
				}
				rows[i] += len(event.Changes)
			}
		})
	}
	for range spans {
		<-started
	}
	slots := w.text(`SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database() AND temporary`)
	named := w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fencerow default/orders snapshot'`)
	close(counted)
	group.Wait()
	require.Equal(t, "1", slots)
	require.GreaterOrEqual(t, named, "5", "a connection for the slot, and a lane for each")
	require.Len(t, slices.Compact(marks), 1)
	require.Equal(t, []int{99, 100, 100, 101}, rows)
}

func TestLanesReadPartsOfATable(t *testing.T) {
	for name, after := range map[string]string{"with statistics": "ANALYZE a", "without": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.exec(`CREATE TABLE a (id bigint, n int, PRIMARY KEY (id, n)); INSERT INTO a SELECT i * 1000003, j FROM generate_series(-300, 300) i, generate_series(1, 3) j`)
			w.exec(after)
			w.prepare()
			from := w.paged("50")
			from.SmallParts(100)
			reader := openPages(t, from, changefeed.Whole())
			defer func() { require.NoError(t, reader.Close()) }()
			progressing := reader.(source.Progressing)
			var events []source.Event
			for {
				event, err := reader.Next(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				events = append(events, event)
				progress, reading := progressing.Progress()
				require.True(t, reading)
				require.GreaterOrEqual(t, progress.RowsTotal, progress.RowsRead)
				if after != "" {
					require.InDelta(t, 1803, progress.RowsTotal, 200)
				}
			}
			progress, reading := progressing.Progress()
			require.False(t, reading)
			require.Equal(t, int64(1803), progress.RowsRead)
			checkPages(t, events, []changefeed.Span{changefeed.Whole()})
			require.Len(t, rowsOf(t, events), 1803)
			require.False(t, slices.IsSortedFunc(events, func(a, b source.Event) int { return a.Span.Compare(b.Span) }), "one lane would do it in order")
		})
	}
}

// What a table is in the log, it is in a snapshot.
func TestSnapshotRelationsAreThoseOfTheLog(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN small AS int CHECK (VALUE < 100);
		CREATE TABLE keyed (v numeric(10, 2), b text, a int, g int GENERATED ALWAYS AS (a * 2) STORED, gone int, m mood, s small NOT NULL, PRIMARY KEY (b, a));
		ALTER TABLE keyed DROP COLUMN gone;
		CREATE TABLE indexed (code text NOT NULL, n int); CREATE UNIQUE INDEX by_code ON indexed (code); ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_code;
		CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE none (v text); CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY); INSERT INTO unlogged VALUES (1);
		CREATE TABLE parted (at date, id int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
		CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
		CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
		CREATE TABLE tmp_out (id int PRIMARY KEY); INSERT INTO tmp_out VALUES (1)`)
	from := w.open(way{options: changefeed.Options{postgres.OptionTables: "public.*,!public.tmp_*"}})
	log := w.follow(from)
	w.exec(`INSERT INTO keyed VALUES (1.5, 'x', 1, DEFAULT, 'glad', 7); INSERT INTO indexed VALUES ('c', 1); INSERT INTO whole VALUES (1, 'v'); INSERT INTO none VALUES ('n');
		INSERT INTO parted VALUES ('2020-05-05', 2), ('2021-05-05', 1); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)`)
	logged := make(map[string]string)
	relations := make(map[string]*change.Relation)
	for _, one := range w.take(log, 8) {
		logged[string(one.Key)] = cells(one.After)
		relations[one.Table] = one.After.(*change.Tuple).Of
	}
	read := make(map[string]string)
	for _, event := range all(t, from, changefeed.Whole()) {
		for _, one := range event.Changes {
			read[string(one.Key)] = cells(one.After)
			require.Equal(t, relations[one.Table], one.After.(*change.Tuple).Of)
		}
	}
	require.Equal(t, logged, read)
}
