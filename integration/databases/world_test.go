//go:build databases

package databases

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
	"fencerow/internal/dbtest"
)

// Where the databases are: each is reached by the nodes at an address of its own, which can be cut.
const (
	sourceAt = 1
	targetAt = 2
	mariaAt  = 3
)

const clusterName = "db"

// world is a source, the targets, and nodes that keep their records in an etcd.
type world struct {
	t      *testing.T
	binary string

	server  *dbtest.Server // of the source
	source  *sql.DB
	target  *dbtest.Server
	mariadb *dbtest.Server
	bench   *proc.Process
	etcd    *lab.Member
	nodes   []*lab.Node
	feeds   []*feed

	mu         sync.Mutex // guards what follows
	objections []string
}

// newWorld starts the servers and nodes, with pgbench's tables at the source.
func newWorld(t *testing.T, program string, nodes int) *world {
	t.Helper()
	w := &world{t: t, binary: program}
	var err error
	w.server, err = dbtest.StartPostgresAt(lab.Apart(sourceAt), "wal_level=logical", "max_wal_senders=20", "max_replication_slots=20")
	require.NoError(t, err)
	t.Cleanup(w.server.Close)
	w.target, err = dbtest.StartPostgresAt(lab.Apart(targetAt))
	require.NoError(t, err)
	t.Cleanup(w.target.Close)
	w.mariadb, err = dbtest.StartMariaDBAt(lab.Apart(mariaAt))
	require.NoError(t, err)
	t.Cleanup(w.mariadb.Close)
	w.source = w.open("pgx", w.server.Postgres("postgres"))
	w.pgbench("-i", "-q", "-s", "1")
	w.etcd = lab.StartEtcd(t, binary, "records", 1)[0]
	for i := range nodes {
		w.add(fmt.Sprintf("n%d", i+1)).AwaitReady()
	}
	return w
}

func (w *world) open(driver, name string) *sql.DB {
	w.t.Helper()
	db, err := sql.Open(driver, name)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

// add starts one more node.
func (w *world) add(name string) *lab.Node {
	w.t.Helper()
	n := lab.NewNode(w.t, name, clusterName, []string{w.etcd.Endpoint})
	n.Run(w.binary)
	w.nodes = append(w.nodes, n)
	return n
}

// object notes what is wrong.
func (w *world) object(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if len(w.objections) < objectionsMax && !slices.Contains(w.objections, text) {
		w.objections = append(w.objections, text)
	}
}

// objectionsMax is enough to see what goes wrong.
const objectionsMax = 40

func (w *world) wrong() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.objections...)
}

// pgbench runs it at the source to its end.
func (w *world) pgbench(args ...string) {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), "pgbench", w.pgbenchArgs(args...)...).CombinedOutput()
	require.NoError(w.t, err, "%s", out)
}

func (w *world) pgbenchArgs(args ...string) []string {
	host, port, err := net.SplitHostPort(w.server.Host)
	require.NoError(w.t, err)
	return append(args, "-h", host, "-p", port, "-U", w.server.User, "postgres")
}

// load starts pgbench's transactions, about rate a second.
func (w *world) load(rate int) {
	w.t.Helper()
	var err error
	w.bench, err = proc.Start("pgbench", exec.Command("pgbench",
		w.pgbenchArgs("-n", "-c", "4", "-R", fmt.Sprint(rate), "-T", "3600")...))
	require.NoError(w.t, err)
	w.t.Cleanup(w.bench.Kill)
}

// unload ends pgbench, and waits until nothing of it runs at the source.
func (w *world) unload() {
	w.t.Helper()
	require.True(w.t, w.bench.Alive(), "pgbench ended by itself: %s", w.bench.Output.Last(10))
	w.bench.Kill()
	lab.Eventually(w.t, "pgbench is gone from the source", func() error {
		var n int
		err := w.source.QueryRowContext(w.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d of its connections are open", n)
		}
		return err
	})
}

// end returns the position that the source has come to.
func (w *world) end() (int64, error) {
	var at int64
	ctx, cancel := context.WithTimeout(w.t.Context(), lab.WaitMax)
	defer cancel()
	return at, w.source.QueryRowContext(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&at)
}

// feed is one changefeed, with a database of its own.
type feed struct {
	w    *world
	name string
	db   *sql.DB
	kind *kind

	audited map[string]bool // sync points that were looked at
}

// postgresFeed makes a changefeed into a database of the PostgreSQL.
func (w *world) postgresFeed(name string, options map[string]string) *feed {
	w.t.Helper()
	_, err := w.open("pgx", w.target.Postgres("postgres")).ExecContext(w.t.Context(), "CREATE DATABASE "+name)
	require.NoError(w.t, err)
	f := &feed{w: w, name: name, db: w.open("pgx", w.target.Postgres(name)), kind: &inPostgres, audited: map[string]bool{}}
	f.create(w.from(), "postgres://"+w.target.User+"@"+w.target.Host+"/"+name, options)
	return f
}

// mariaFeed makes a changefeed into a database of the MariaDB.
func (w *world) mariaFeed(name string, options map[string]string) *feed {
	w.t.Helper()
	_, err := w.open("mysql", w.mariadb.MariaDB("")).ExecContext(w.t.Context(), "CREATE DATABASE "+name)
	require.NoError(w.t, err)
	f := &feed{w: w, name: name, db: w.open("mysql", w.mariadb.MariaDB(name)), kind: &inMariaDB, audited: map[string]bool{}}
	f.create(w.from(), "mysql://"+w.mariadb.User+"@"+w.mariadb.Host+"/"+name, options)
	return f
}

// from is the source as changefeeds name it.
func (w *world) from() string {
	return "postgres://" + w.server.User + "@" + w.server.Host + "/postgres"
}

func (f *feed) create(source, sink string, options map[string]string) {
	f.w.t.Helper()
	given := map[string]string{"tables": "public.*", "sync_point_interval": "1s"}
	maps.Copy(given, options)
	err := lab.Ask(f.w.nodes, http.MethodPost, "/api/v1/changefeeds", map[string]any{
		"name": f.name, "source": source, "sink": sink, "start": "snapshot",
		"options": given,
	}, nil)
	if err != nil && !strings.Contains(err.Error(), "changefeed.exists") { // another node was asked before, and had no time to answer
		require.NoError(f.w.t, err)
	}
	f.w.feeds = append(f.w.feeds, f)
}

// running waits until the changefeed runs and has the tables of the snapshot; then each sync point is audited.
func (f *feed) running() {
	f.w.t.Helper()
	lab.Eventually(f.w.t, f.name+" runs", func() error {
		got, err := f.look(f.w.nodes)
		if err == nil && got.State != "running" {
			err = fmt.Errorf("it is %q (%v)", got.State, got.Error)
		}
		return err
	})
	f.wait()
	for _, statement := range f.kind.audit {
		_, err := f.db.ExecContext(f.w.t.Context(), statement)
		require.NoError(f.w.t, err)
	}
}

// wait waits until the target is the source, as people do.
func (f *feed) wait() {
	f.w.t.Helper()
	f.w.cli("changefeed", "wait", f.name, "--caught-up", "--timeout", lab.WaitMax.String())
}

// cli runs a command of the binary to its end, on the lab's own host, and returns what it printed.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	out, err := w.try(args...)
	require.NoError(w.t, err)
	return out
}

func (w *world) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*lab.WaitMax)
	defer cancel()
	args = append(args, "--server", "http://"+string(w.nodes[0].API()))
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cdc-node %s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// seen is what is known of a changefeed at a moment.
type seen struct {
	State      string `json:"state"`
	Epoch      uint64 `json:"epoch"`
	Owner      string `json:"owner_name"`
	Checkpoint int64  `json:"checkpoint,string"`
	Error      any    `json:"error"`

	Spans []span `json:"-"`
}

type span struct {
	Start string `json:"start"`
	Node  string `json:"node_name"`
	State string `json:"state"`

	Checkpoint string `json:"checkpoint"`
}

// look asks some of the nodes.
func (f *feed) look(nodes []*lab.Node) (seen, error) {
	var out seen
	if err := lab.Ask(nodes, http.MethodGet, "/api/v1/changefeeds/default/"+f.name, nil, &out); err != nil {
		return out, err
	}
	if out.State == "failed" {
		f.w.object("%s failed: %v", f.name, out.Error)
	}
	var list struct {
		Items []span `json:"items"`
	}
	err := lab.Ask(nodes, http.MethodGet, "/api/v1/changefeeds/default/"+f.name+"/spans", nil, &list)
	out.Spans = list.Items
	return out, err
}

// settled waits until everything runs, with all of the nodes.
func (w *world) settled(limit time.Duration) error {
	return proc.Await(limit, func() error {
		for _, f := range w.feeds {
			got, err := f.look(w.nodes)
			if err != nil {
				return err
			}
			if got.State != "running" {
				return fmt.Errorf("%s is %q (%v)", f.name, got.State, got.Error)
			}
			for _, s := range got.Spans {
				if s.State != "running" {
					return fmt.Errorf("a span of %s is %s on %s", f.name, s.State, s.Node)
				}
			}
		}
		return nil
	})
}

func joined(lines []string) string { return strings.Join(lines, "\n") }
