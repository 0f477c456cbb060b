//go:build databases

package integration

import (
	"database/sql"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"fencerow/integration/judge"
	"fencerow/integration/proc"
	"fencerow/internal/dbtest"
)

// table is the target of one changefeed.
type table struct {
	feed string
	db   *sql.DB
	key  string // the column, as its server wants it quoted
}

// databases are a PostgreSQL and a MariaDB of their own.
type databases struct {
	t                 *testing.T
	postgres, mariadb *dbtest.Server
	inPostgres        *sql.DB
	inMariaDB         *sql.DB
}

func startDatabases(t *testing.T) *databases {
	t.Helper()
	d := &databases{t: t}
	var err error
	d.postgres, err = dbtest.StartPostgres("wal_level=logical")
	require.NoError(t, err)
	t.Cleanup(d.postgres.Close)
	d.mariadb, err = dbtest.StartMariaDB()
	require.NoError(t, err)
	t.Cleanup(d.mariadb.Close)
	d.inPostgres, err = sql.Open("pgx", d.postgres.Postgres("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.inPostgres.Close() })
	d.inMariaDB, err = sql.Open("mysql", d.mariadb.MariaDB(""))
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.inMariaDB.Close() })
	_, err = d.inMariaDB.Exec("CREATE DATABASE copy")
	require.NoError(t, err)
	_ = d.inMariaDB.Close()
	d.inMariaDB, err = sql.Open("mysql", d.mariadb.MariaDB("copy"))
	require.NoError(t, err)
	return d
}

// create makes a changefeed that writes to a table of its own name.
func (d *databases) create(c *nodes, feed, source, mode string, options ...string) table {
	d.t.Helper()
	to, at := "postgres://postgres@"+d.postgres.Host+"/postgres", table{feed: feed, db: d.inPostgres, key: `"key"`}
	if strings.HasPrefix(feed, "my") {
		to, at = "mysql://root@"+d.mariadb.Host+"/copy", table{feed: feed, db: d.inMariaDB, key: "`key`"}
	}
	args := []string{"changefeed", "create", feed, "--server", c.alive().url(), "--source", source, "--sink", to, "--start", "now"}
	for _, option := range append(options, "table="+feed, "mode="+mode) {
		args = append(args, "--option", option)
	}
	must(d.t, args...)
	c.awaitState(feed, "running")
	return at
}

// stored reads a copy.
func (x table) stored(t *testing.T) map[string]judge.Stored {
	t.Helper()
	rows, err := x.db.QueryContext(t.Context(), "SELECT "+x.key+", value, version FROM "+x.feed)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	out := map[string]judge.Stored{}
	for rows.Next() {
		var key, value []byte
		var one judge.Stored
		require.NoError(t, rows.Scan(&key, &value, &one.Version))
		one.Value = string(value)
		out[strings.TrimPrefix(string(key), sourcePrefix)] = one
	}
	require.NoError(t, rows.Err())
	return out
}

// seen reads a log.
func (x table) seen(t *testing.T) []judge.Seen {
	t.Helper()
	rows, err := x.db.QueryContext(t.Context(), "SELECT "+x.key+", value, op, position FROM "+x.feed+" ORDER BY position, position_index")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var out []judge.Seen
	for rows.Next() {
		var key, value []byte
		var op string
		var one judge.Seen
		require.NoError(t, rows.Scan(&key, &value, &op, &one.Revision))
		one.Key, one.Value, one.Delete = strings.TrimPrefix(string(key), sourcePrefix), string(value), op == "delete"
		out = append(out, one)
	}
	require.NoError(t, rows.Err())
	return out
}

// has reports whether a key is in the table.
func (x table) has(t *testing.T, key string) error {
	t.Helper()
	var n int
	err := x.db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+x.feed+" WHERE "+x.key+" = '"+sourcePrefix+key+"'").Scan(&n)
	if err == nil && n != 1 {
		err = fmt.Errorf("%s has it %d times", x.feed, n)
	}
	return err
}

// killOrFreeze kills a node in even turns and freezes it in odd ones. What it returns brings it back.
func (c *nodes) killOrFreeze(victim *server, turn int) (thaw func()) {
	if turn%2 == 0 {
		victim.Kill()
		return func() { c.restart(victim) }
	}
	wake := victim.freeze()
	return func() {
		wake()
		eventually(c.t, victim.name+" is ready", func() error { return ready(c.t.Context(), victim) })
	}
}

// Nodes that own or move spans are killed and stopped under load; what is in the tables is what the source has, and the
// tables that are only appended to have each change once.
func TestDatabasesUnderFaults(t *testing.T) {
	const faults = 8
	d := startDatabases(t)
	source := startEtcd(t, "source")
	c := startNodes(t, startEtcd(t, "control"), 3)
	from := "etcd://" + source.endpoint + sourcePrefix
	split := "split_keys=" + sourcePrefix + "k00400" // two spans, so that dispatchers run on several nodes
	copies := []table{d.create(c, "pgcopy", from, "copy", split), d.create(c, "mycopy", from, "copy", split)}
	logs := []table{d.create(c, "pglog", from, "log", split), d.create(c, "mylog", from, "log")}
	all := slices.Concat(copies, logs)
	load := startWriters(t, source, sourcePrefix, 8, 300, 800)
	for i := range faults {
		f, err := c.feed(c.alive(), all[i%len(all)].feed)
		require.NoError(t, err)
		at := slices.IndexFunc(c.all, func(s *server) bool { return s.name == f.OwnerName })
		require.GreaterOrEqual(t, at, 0, "%+v", f)
		victim := c.all[(at+i/len(all))%len(c.all)] // the owner, and in the second round the one after it
		thaw := c.killOrFreeze(victim, i)
		probe := fmt.Sprintf("probe-%d", i)
		put, err := source.client.Put(t.Context(), sourcePrefix+probe, probe)
		require.NoError(t, err)
		load.mu.Lock()
		load.log = append(load.log, judge.Put{Key: probe, Value: probe, Revision: put.Header.Revision})
		load.mu.Unlock()
		for _, x := range all {
			eventually(t, fmt.Sprintf("%s goes on after fault %d", x.feed, i), func() error { return x.has(t, probe) })
		}
		thaw()
	}
	log := load.finish()
	for _, x := range all {
		must(t, "changefeed", "wait", x.feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
	}
	for _, x := range copies {
		require.Empty(t, judge.Copy(source.stored(sourcePrefix), x.stored(t)), x.feed)
	}
	for _, x := range logs {
		seen := x.seen(t)
		require.Empty(t, judge.Log(log, seen), x.feed)
		t.Logf("%s: %d writes, %d rows", x.feed, len(log), len(seen))
	}
	must(t, "check", "--server", c.alive().url())
}

// A node is stopped with everything of a transaction done but its commit. The next one gets past it, and when the first
// wakes up, its commit fails.
func TestDatabasesATransactionThatIsHeldBeforeItsCommit(t *testing.T) {
	d := startDatabases(t)
	points := listenFailpoints(t)
	for _, feed := range []string{"pgheld", "myheld"} {
		source := startEtcd(t, "source "+feed)
		c := &nodes{t: t, etcd: startEtcd(t, "control "+feed)}
		first := points.add(c, "n1")
		x := d.create(c, feed, "etcd://"+source.endpoint+sourcePrefix, "log")
		require.NoError(t, points.Arm(feed, "commit", "write of default/"+feed))
		put := func(key string) judge.Put {
			done, err := source.client.Put(t.Context(), sourcePrefix+key, key)
			require.NoError(t, err)
			return judge.Put{Key: key, Value: key, Revision: done.Header.Revision}
		}
		log := []judge.Put{put("held")}
		held, err := proc.FirstHit(waitMax, []*proc.Orders{points.Orders})
		require.NoError(t, err)
		thaw := first.freeze()
		require.Empty(t, x.seen(t))

		c.add("n2")
		log = append(log, put("after"))
		eventually(t, "the next owner gets past the transaction", func() error { return x.has(t, "after") })
		thaw()
		held.Release()
		eventually(t, first.name+" is ready again", func() error { return ready(t.Context(), first) })
		log = append(log, put("late"))
		eventually(t, "all goes on", func() error { return x.has(t, "late") })
		require.Empty(t, judge.Log(log, x.seen(t)), feed)
		for _, s := range c.all {
			s.Kill()
		}
	}
}

// failpoints are of one process after the other, built with them.
type failpoints struct {
	*proc.Orders

	binary string
}

func listenFailpoints(t *testing.T) *failpoints {
	t.Helper()
	f := &failpoints{binary: filepath.Join(t.TempDir(), "cdc-node")}
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-o", f.binary, "fencerow/cmd/cdc-node")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	f.Orders, err = proc.NewOrders()
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

// add starts a node of the binary with failpoints.
func (f *failpoints) add(c *nodes, name string) *server {
	c.t.Helper()
	key, value, _ := strings.Cut(f.Env, "=")
	c.t.Setenv(key, value)
	plain := binary
	binary = f.binary
	s := c.add(name)
	binary = plain
	c.t.Setenv(key, "")
	return s
}
