//go:build databases

package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/internal/dbtest"
)

// unsynchronized is a database on a server of its own, for tests in which commits wait for a standby that is not there: until they are let
// go, others do not see what the log has already. Those of the world's own connection never wait.
func unsynchronized(t *testing.T) *world {
	t.Helper()
	own, err := dbtest.StartPostgres("wal_level=logical")
	require.NoError(t, err)
	t.Cleanup(own.Close)
	w := newWorldOn(t, own)
	w.exec(`SET synchronous_commit = local`)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	return w
}

// names says which standby commits wait for; "" is none.
func (w *world) names(standbys string) {
	w.Helper()
	w.exec(`ALTER SYSTEM SET synchronous_standby_names = '` + standbys + `'`)
	w.exec(`SELECT pg_reload_conf()`)
	w.eventually("the setting holds", func() bool { return w.text(`SHOW synchronous_standby_names`) == standbys })
}

// looked waits until a commit waits, and the reader of the log has asked whether its transaction is over.
func (w *world) looked() {
	w.Helper()
	w.eventually("a commit waits, and the reader has looked", func() bool {
		return w.text(`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()`) == "1" &&
			w.text(`SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%pg_locks%'`) != "0"
	})
}

// The rows of a table that joins are in the log before anybody else sees that it joined: none is left out.
func TestRowsOfATableThatJoinsBeforeOthersSeeIt(t *testing.T) {
	w := unsynchronized(t)
	log := w.follow(w.open(way{}))
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	w.names("nobody")
	w.exec(`CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (2)`)
	w.looked()
	w.names("")
	require.Equal(t, []string{"0 truncate public.b:", "1 create public.b:0000000000000000002 after(id=2)"}, lines(w.take(log, 2)))
}

// A transaction alters a table and writes to it: what the rows are like is read when it can be seen.
func TestATableThatIsAlteredBeforeOthersSeeIt(t *testing.T) {
	w := unsynchronized(t)
	log := w.follow(w.open(way{}))
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	w.names("nobody")
	other, err := pgx.Connect(w.ctx, w.server.Postgres(w.database))
	require.NoError(t, err)
	committed := make(chan error, 1)
	go func() {
		_, err := other.Exec(w.ctx, `BEGIN; ALTER TABLE a ADD more int NOT NULL DEFAULT 5; INSERT INTO a VALUES (2, 7); COMMIT`)
		committed <- err
	}()
	w.looked()
	w.names("")
	changes := w.take(log, 1)
	require.NoError(t, <-committed)
	require.NoError(t, other.Close(w.ctx))
	row, ok := changes[0].After.(*change.Tuple)
	require.True(t, ok)
	more := row.Of.Columns[1]
	require.Equal(t, 2, more.Number)
	require.False(t, more.Null)
	require.Equal(t, change.Added{Known: true, Text: "5"}, more.Added)
	require.True(t, strings.HasPrefix(more.Type, "integer"))
}
