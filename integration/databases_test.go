//go:build databases

package integration

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"fencerow/integration/judge"
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
	d.postgres, err = dbtest.StartPostgres()
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
		thaw := func() { c.restart(victim) }
		if i%2 == 0 {
			victim.kill()
		} else {
			wake := victim.freeze()
			thaw = func() {
				wake()
				eventually(t, victim.name+" is ready", func() error { return ready(t.Context(), victim) })
			}
		}
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
		points.arm(t, "write of default/"+feed)
		put := func(key string) judge.Put {
			done, err := source.client.Put(t.Context(), sourcePrefix+key, key)
			require.NoError(t, err)
			return judge.Put{Key: key, Value: key, Revision: done.Header.Revision}
		}
		log := []judge.Put{put("held")}
		points.await(t)
		thaw := first.freeze()
		require.Empty(t, x.seen(t))

		c.add("n2")
		log = append(log, put("after"))
		eventually(t, "the next owner gets past the transaction", func() error { return x.has(t, "after") })
		thaw()
		points.release(t)
		eventually(t, first.name+" is ready again", func() error { return ready(t.Context(), first) })
		log = append(log, put("late"))
		eventually(t, "all goes on", func() error { return x.has(t, "late") })
		require.Empty(t, judge.Log(log, x.seen(t)), feed)
		for _, s := range c.all {
			s.kill()
		}
	}
}

// failpoints tell one process after the other, built with them, to wait at a commit.
type failpoints struct {
	binary   string
	socket   string
	listener net.Listener
	conn     net.Conn
	news     *bufio.Scanner
}

func listenFailpoints(t *testing.T) *failpoints {
	t.Helper()
	dir := t.TempDir()
	f := &failpoints{binary: filepath.Join(dir, "cdc-node"), socket: filepath.Join(dir, "s")}
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-o", f.binary, "fencerow/cmd/cdc-node")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	f.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "unix", f.socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.listener.Close() })
	return f
}

// add starts a node of the binary with failpoints.
func (f *failpoints) add(c *nodes, name string) *server {
	c.t.Helper()
	plain := binary
	binary = f.binary
	c.t.Setenv("CDC_FAILPOINTS", f.socket)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := f.listener.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	s := c.add(name)
	binary = plain
	c.t.Setenv("CDC_FAILPOINTS", "")
	select {
	case f.conn = <-accepted:
	case <-time.After(waitMax):
		c.t.Fatal("the process did not connect")
	}
	f.news = bufio.NewScanner(f.conn)
	f.next(c.t, "pid")
	return s
}

func (f *failpoints) order(t *testing.T, order map[string]string) {
	t.Helper()
	line, err := json.Marshal(order)
	require.NoError(t, err)
	_, err = f.conn.Write(append(line, '\n'))
	require.NoError(t, err)
}

// next reads what the process tells until a line has the field.
func (f *failpoints) next(t *testing.T, field string) {
	t.Helper()
	require.NoError(t, f.conn.SetReadDeadline(time.Now().Add(waitMax)))
	for f.news.Scan() {
		var line map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(f.news.Bytes(), &line))
		require.NotContains(t, line, "error")
		if _, found := line[field]; found {
			return
		}
	}
	require.NoError(t, f.news.Err())
	t.Fatal("the process is gone")
}

func (f *failpoints) arm(t *testing.T, match string) {
	t.Helper()
	f.order(t, map[string]string{"arm": "held", "point": "commit", "match": match})
	f.next(t, "done")
}

func (f *failpoints) await(t *testing.T) {
	t.Helper()
	f.next(t, "hit")
}

func (f *failpoints) release(t *testing.T) {
	t.Helper()
	f.order(t, map[string]string{"release": "held"})
	f.next(t, "done")
}
