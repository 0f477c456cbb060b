//go:build databases

package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A snapshot goes in large transactions. Nodes are killed and stopped in the middle of it: at its end the tables are equal, and the one
// without a key has each row once.
func TestDatabasesASnapshotIsTakenOver(t *testing.T) {
	const rows, faults = 1_200_000, 3
	d := startDatabases(t)
	exec := func(statement string) {
		t.Helper()
		_, err := d.inPostgres.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	exec("CREATE DATABASE target")
	exec("CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
	exec("CREATE TABLE log (id bigint, note text)")
	exec(fmt.Sprintf("INSERT INTO orders SELECT i, 'the note of order ' || i || repeat('.', 60) FROM generate_series(1, %d) i", rows))
	exec(fmt.Sprintf("INSERT INTO log SELECT i, 'the note of entry ' || i FROM generate_series(1, %d) i", rows/20))
	target, err := sql.Open("pgx", d.postgres.Postgres("target"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })

	c := startNodes(t, startEtcd(t, "control"), 3)
	must(t, "changefeed", "create", "orders", "--server", c.alive().url(), "--start", "snapshot", "--option", "tables=public.*",
		"--source", "postgres://postgres@"+d.postgres.Host+"/postgres", "--sink", "postgres://postgres@"+d.postgres.Host+"/target")
	copied := func() int64 {
		var n int64
		err := target.QueryRowContext(t.Context(), "SELECT pg_relation_size(to_regclass('orders'))").Scan(&n)
		if err != nil {
			return 0
		}
		return n
	}
	// comes waits for more of the snapshot, and returns the changefeed.
	comes := func() (f feed) {
		t.Helper()
		before := copied()
		eventually(t, "more of the snapshot comes", func() (err error) {
			if f, err = c.feed(c.alive(), "orders"); err != nil {
				return err
			}
			require.Contains(t, []string{"", "0"}, f.Checkpoint, "the snapshot was whole before it was disturbed often enough")
			if copied() <= before {
				return errors.New("none yet")
			}
			return nil
		})
		return f
	}
	for i := range faults {
		f := comes()
		at := slices.IndexFunc(c.all, func(s *server) bool { return s.name == f.OwnerName })
		require.GreaterOrEqual(t, at, 0, "%+v", f)
		victim := c.all[at]
		thaw := c.killOrFreeze(victim, i)
		eventually(t, "another owns it", func() error {
			now, err := c.feed(c.alive(victim), "orders")
			if err == nil && now.Epoch == f.Epoch {
				err = errors.New("not yet")
			}
			return err
		})
		thaw()
	}
	must(t, "changefeed", "wait", "orders", "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
	for _, table := range []string{"orders", "log"} {
		digest := "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(id) || ' ' || sum(hashtextextended(note, 0)) FROM " + table
		var want, got string
		require.NoError(t, d.inPostgres.QueryRowContext(t.Context(), digest).Scan(&want))
		require.NoError(t, target.QueryRowContext(t.Context(), digest).Scan(&got))
		require.Equal(t, want, got, table)
	}
	var key string
	require.NoError(t, target.QueryRowContext(t.Context(), "SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'p'").Scan(&key))
	must(t, "check", "--server", c.alive().url())
}
