//go:build databases

package postgres_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/internal/dbtest"
	"fencerow/sink/sqlsink/sqltest"
	"fencerow/source"
	"fencerow/source/postgres"
)

// newStreamingWorld is on a server that keeps little of a transaction in memory.
func newStreamingWorld(t *testing.T) *world {
	t.Helper()
	small, err := dbtest.StartPostgres("wal_level=logical", "logical_decoding_work_mem=64kB")
	require.NoError(t, err)
	t.Cleanup(small.Close)
	return newWorldOn(t, small)
}

// on runs statements over a connection.
func (w *world) on(conn *pgx.Conn, statements ...string) {
	w.Helper()
	for _, text := range statements {
		_, err := conn.Exec(w.ctx, text)
		require.NoError(w, err, text)
	}
}

// streams returns how often the server has streamed, once it says so.
func (w *world) streams(s *postgres.Source, what string) string {
	w.Helper()
	return w.text(`SELECT (`+what+`)::text FROM pg_stat_replication_slots WHERE slot_name = $1`, s.SlotName())
}

// until takes events until everything below a position has come.
func (w *world) until(log source.Log, end change.Position) (out []change.Change) {
	w.Helper()
	for {
		event, err := log.Next(w.ctx)
		require.NoError(w, err)
		if out = append(out, event.Changes...); event.To.Position >= end {
			return out
		}
	}
}

// both reads everything above a position with streaming and without, and returns what it is after it was found to be the same.
func (w *world) both(above change.Position) []change.Change {
	w.Helper()
	end, err := w.open(way{}).Head(w.ctx)
	require.NoError(w, err)
	streaming := w.open(way{epoch: 8})
	log := w.followFrom(streaming, above)
	streamed := w.until(log, end)
	require.NoError(w, log.Close())
	w.eventually("it was streamed", func() bool { return w.streams(streaming, "stream_txns > 0") == "true" })
	log = w.followFrom(w.open(way{epoch: 9, options: changefeed.Options{postgres.OptionStreaming: "off"}}), above)
	whole := w.until(log, end)
	require.NoError(w, log.Close())
	w.eventually("it was spilled", func() bool { return w.streams(streaming, "spill_txns > 0") == "true" })
	require.Equal(w, lines(whole), lines(streamed))
	for i := range whole {
		require.Equal(w, whole[i].Position, streamed[i].Position)
		require.Equal(w, whole[i].CommitTime, streamed[i].CommitTime)
		require.Equal(w, whole[i].Table, streamed[i].Table)
	}
	return streamed
}

func fill(table string, from, to int) string {
	return `INSERT INTO ` + table + ` (id, v) SELECT i, repeat('x', 50) FROM generate_series(` + strconv.Itoa(from) + `, ` + strconv.Itoa(to) + `) i`
}

func TestStreamedTransactionsAreWhatWholeOnesAre(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text, big text); CREATE TABLE c (id int PRIMARY KEY, v text);
		CREATE TABLE d (id int PRIMARY KEY, v text);
		ALTER TABLE b ALTER big SET STORAGE EXTERNAL`)
	above, err := w.open(way{}).Prepare(w.ctx, false)
	require.NoError(t, err)
	one, other, gone := w.connect(), w.connect(), w.connect()
	w.on(one, `BEGIN`, fill("a", 1, 3000), `SAVEPOINT s`, fill("b", 1, 3000), `UPDATE a SET v = 'gone'`)
	w.on(other, `BEGIN`, fill("c", 1, 3000))
	w.exec(fill("a", -10, -1))
	w.on(gone, `BEGIN`, fill("d", 1, 3000), `SAVEPOINT s`, fill("d", 3001, 6000))
	w.on(one, `ROLLBACK TO s`, fill("b", 1, 3000), `SAVEPOINT t`, `INSERT INTO b SELECT 9999, 'x', repeat('b', 20000)`, `UPDATE b SET v = 'y' WHERE id = 9999`)
	w.exec(fill("c", -3, -1))
	w.on(other, `SAVEPOINT d`, `ALTER TABLE c ADD more text`, `UPDATE c SET more = v WHERE id > 0`, `ROLLBACK TO d`, `UPDATE c SET v = 'kept' WHERE id > 0`)
	w.on(one, `SAVEPOINT u`, `DELETE FROM a`, `ROLLBACK TO t`, `ALTER TABLE a ADD more int`, `UPDATE a SET more = id WHERE id > 0`, `TRUNCATE b`, fill("b", 1, 10))
	w.on(gone, `ROLLBACK`)
	w.on(other, `COMMIT`)
	w.on(one, `COMMIT`)
	w.exec(fill("a", 5000, 5001))
	w.exec(fill("c", 5000, 5001))
	require.Len(t, w.both(above), 10+3+(3000+3000)+(3000+3000+3000+1+10)+4)
}

// What is kept of transactions in progress is shown, and gone when they are over.
func TestWhatIsStreamedIsShown(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	log := w.follow(w.open(way{}))
	streaming, ok := log.(source.Streaming)
	require.True(t, ok)
	for _, end := range []string{`COMMIT`, `ROLLBACK`} {
		require.Zero(t, streaming.Streamed())
		one := w.connect()
		w.on(one, `BEGIN`, `DELETE FROM a`, fill("a", 1, 3000))
		w.eventually("something is kept", func() bool { return streaming.Streamed() > 0 })
		w.on(one, end)
		w.exec(fill("a", 5000, 5000))
		head, err := w.open(way{}).Head(w.ctx)
		require.NoError(t, err)
		w.until(log, head)
		require.Zero(t, streaming.Streamed())
		w.exec(`DELETE FROM a WHERE id = 5000`)
	}
}

// Every block of a transaction with a savepoint around each row is cut somewhere within one.
func TestStreamedSavepointsAreRolledBackEach(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	above, err := w.open(way{}).Prepare(w.ctx, false)
	require.NoError(t, err)
	w.exec(`DO $$ BEGIN FOR i IN 1..3000 LOOP
			BEGIN
				INSERT INTO a VALUES (i, repeat('x', 50)), (-i, repeat('y', 50));
				IF i % 3 = 0 THEN RAISE EXCEPTION 'no'; END IF;
				BEGIN INSERT INTO a VALUES (10000 + i, 'inner'); EXCEPTION WHEN OTHERS THEN NULL; END;
				IF i % 5 = 0 THEN RAISE EXCEPTION 'no'; END IF;
			EXCEPTION WHEN OTHERS THEN NULL; END;
		END LOOP; END $$`)
	require.Len(t, w.both(above), 3*(3000-1000-600+200))
}

// A table that is known by another name since its rows were streamed is known by that afterwards.
func TestATableThatIsRenamedWhileItsRowsAreStreamed(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE SCHEMA before; CREATE TABLE before.a (id int PRIMARY KEY, v text)`)
	above, err := w.open(way{}).Prepare(w.ctx, false)
	require.NoError(t, err)
	one := w.connect()
	w.on(one, `BEGIN`, fill("before.a", 1, 3000))
	w.exec(`ALTER SCHEMA before RENAME TO after`) // which takes no lock of the table
	w.exec(fill("after.a", 3001, 3001))
	w.on(one, `COMMIT`)
	w.exec(fill("after.a", 3002, 3002))
	end, err := w.open(way{}).Head(w.ctx)
	require.NoError(t, err)
	changes := w.until(w.followFrom(w.open(way{epoch: 8}), above), end)
	if again := slices.IndexFunc(changes, func(c change.Change) bool { return c.Op == change.OpTruncate }); again >= 0 {
		changes = changes[:again] // it joins under the new name
	}
	require.Equal(t, 3002, len(changes)) //nolint:testifylint // it would show them all
	require.Equal(t, []string{"after.a", "before.a"}, []string{changes[0].Table, changes[1].Table})
	// A transaction that goes on hears of the new name at its end, or sooner where the server tells it (from 17.5 and its like on).
	known := slices.IndexFunc(changes[1:], func(c change.Change) bool { return c.Table == "after.a" })
	require.Positive(t, known)
	for _, one := range changes[1+known:] {
		require.Equal(t, "after.a", one.Table)
	}
}

// Whatever is cut where, also within a stream, each change comes once and in order.
func TestStreamedTransactionsThatAreCutLoseAndRepeatNothing(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE TABLE a (id bigserial PRIMARY KEY, v text)`)
	proxy := sqltest.NewProxy(t, w.server.Host)
	s := w.open(way{host: proxy.Host()})
	log := w.follow(s)
	random := rand.New(rand.NewPCG(3, 4))
	const rounds, rows, gone = 15, 6000, 2000
	var got, cuts int
	var to change.Mark
	id := int64(0)
	for range rounds {
		proxy.CutAfter(sqltest.Direction(random.IntN(2)), random.IntN(1_500_000))
		half := `INSERT INTO a (v) SELECT repeat('x', 50) FROM generate_series(1, ` + strconv.Itoa(rows/2) + `)`
		w.on(w.admin, `BEGIN`, half, `SAVEPOINT s`, `INSERT INTO a (v) SELECT 'gone' FROM generate_series(1, `+strconv.Itoa(gone)+`)`, `ROLLBACK TO s`, half, `COMMIT`)
		first := id + 1
		id += rows + gone
		want := got + rows
		for got < want {
			event, err := log.Next(w.ctx)
			require.NoError(t, err)
			require.True(t, to.Before(event.To))
			for _, c := range event.Changes {
				require.False(t, to.Done(c.Position, c.Index))
				require.True(t, event.To.Done(c.Position, c.Index))
				expected := first + int64(c.Index)
				if c.Index >= rows/2 {
					expected += gone
				}
				require.Equal(t, strconv.FormatInt(expected, 10), string(c.After.(*change.Tuple).Cells[0]))
				got++
			}
			to = event.To
			log.Acknowledge(to.Whole())
		}
		if proxy.WasCut() {
			cuts++
		}
	}
	require.Greater(t, cuts, rounds/4)
	require.Equal(t, "true", w.streams(s, "stream_txns > 0"))
}

// While a transaction is streamed the log goes on without it, and what is acknowledged leaves it alone.
func TestAcknowledgingWhileATransactionIsStreamed(t *testing.T) {
	w := newStreamingWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	s := w.open(way{})
	log := w.follow(s)
	one := w.connect()
	w.on(one, `BEGIN`, fill("a", 1, 3000))
	w.exec(fill("a", -1, -1))
	head, err := s.Head(w.ctx)
	require.NoError(t, err)
	require.Len(t, w.until(log, head), 1)
	log.Acknowledge(head)
	w.eventually("it is confirmed", func() bool { return w.confirmedFlush(s.SlotName()) >= head })
	w.eventually("it is streamed", func() bool { return w.streams(s, "stream_txns > 0") == "true" })
	require.NoError(t, log.Close())
	log = w.followFrom(w.open(way{epoch: 8}), head)
	w.on(one, fill("a", 3001, 3010), `COMMIT`)
	changes := w.take(log, 3010)
	require.Equal(t, "0 create public.a:0000000000000000001 after(id=1 v=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx)", shown(changes[0]))
}

// What does not fit on the disk is left to the server, and said.
func TestATransactionThatIsTooLargeForTheSpoolComesWhole(t *testing.T) {
	for name, how := range map[string]way{
		"it is bounded": {spoolBytes: 200 << 10},
		"no folder":     {directory: "/proc/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newStreamingWorld(t)
			w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
			core, said := observer.New(zap.WarnLevel)
			how.logger = zap.New(core)
			s := hastened(w.open(how))
			log := w.follow(s)
			one := w.connect()
			w.on(one, `BEGIN`, fill("a", 1, 2000))
			w.exec(fill("a", -1, -1))
			w.on(one, fill("a", 2001, 6000), `COMMIT`)
			w.exec(fill("a", 6001, 12_000))
			changes := w.take(log, 12_001)
			require.Equal(t, "-1", string(changes[0].After.(*change.Tuple).Cells[0]))
			for i, one := range changes[1:] {
				require.Equal(t, strconv.Itoa(i+1), string(one.After.(*change.Tuple).Cells[0]))
			}
			require.Equal(t, 1, said.Len())
			require.Contains(t, said.All()[0].Message, "streamed")
			w.eventually("it was spilled", func() bool { return w.streams(s, "spill_txns > 0") == "true" })
		})
	}
}
