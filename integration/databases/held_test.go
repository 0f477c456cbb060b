//go:build databases

package databases

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
)

// A transaction with rows of tables is held between its last statement and its commit, and the process that holds it is
// stopped. The next owner gets past it: the server or the claim ends its connection. When the process goes on, its commit
// fails, and each row is there once.
func TestATransactionThatIsHeldBeforeItsCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binary, 1)
	first := w.nodes[0]
	quiet := map[string]string{"sync_point_interval": "0s"}
	w.postgresFeed("pgheld", quiet)
	w.mariaFeed("myheld", quiet)
	w.history(1) // so that the table is there
	require.NoError(t, w.settled(settleLimit))
	require.NoError(t, w.reached(w.nodes))
	for _, f := range w.feeds {
		require.NoError(t, first.Orders.Arm(f.name, "commit", "^write of default/"+f.name+"$"))
	}
	w.history(2)
	held := map[string]*proc.Hit{}
	for range w.feeds {
		hit, err := proc.FirstHit(lab.WaitMax, []*proc.Orders{first.Orders})
		require.NoError(t, err)
		held[hit.Name] = hit
	}
	open := map[string][]string{}
	for _, f := range w.feeds {
		require.Equal(t, 1, f.historyRows(), f.name)
		open[f.name] = f.open()
		require.Len(t, open[f.name], 1, "%s: the transaction that is held", f.name)
	}
	w.signal(first, syscall.SIGSTOP)
	began := time.Now()
	w.add("n2")
	w.history(3)
	for _, f := range w.feeds {
		lab.Eventually(t, "the next owner of "+f.name+" gets past the transaction", func() error {
			if n := f.historyRows(); n != 3 {
				return fmt.Errorf("%d rows are there", n)
			}
			return nil
		})
		t.Logf("%s: past it after %v, of which the session of the stopped process is %v", f.name, time.Since(began), lab.SessionTTL)
		require.NotSubset(t, f.open(), open[f.name], "%s: the connection that could commit is gone", f.name)
	}
	w.signal(first, syscall.SIGCONT)
	for _, hit := range held {
		hit.Release()
	}
	first.AwaitReady()
	w.history(4)
	for _, f := range w.feeds {
		f.wait()
		f.compare()
	}
	require.Empty(t, w.wrong())
}

// history adds a row to the table without a key.
func (w *world) history(n int) {
	w.t.Helper()
	_, err := w.source.ExecContext(w.t.Context(), "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, $1, 0, now())", n)
	require.NoError(w.t, err)
}

func (f *feed) historyRows() int {
	f.w.t.Helper()
	var n int
	require.NoError(f.w.t, f.db.QueryRowContext(f.w.t.Context(), "SELECT count(*) FROM pgbench_history").Scan(&n))
	return n
}

// open lists the connections to the target whose open transaction has written to the table.
func (f *feed) open() []string {
	f.w.t.Helper()
	ctx, cancel := context.WithTimeout(f.w.t.Context(), lab.WaitMax)
	defer cancel()
	query := "SELECT DISTINCT pid::text FROM pg_locks WHERE locktype = 'relation' AND relation = 'pgbench_history'::regclass AND mode = 'RowExclusiveLock'"
	if f.kind == &inMariaDB {
		query = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_rows_modified > 1" // its claim, and rows
	}
	rows, err := f.db.QueryContext(ctx, query)
	require.NoError(f.w.t, err)
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var one string
		require.NoError(f.w.t, rows.Scan(&one))
		out = append(out, one)
	}
	require.NoError(f.w.t, errors.Join(rows.Err(), ctx.Err()))
	return out
}
