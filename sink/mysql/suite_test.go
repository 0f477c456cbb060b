//go:build databases

package mysql_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/dbtest"
	"fencerow/sink"
	"fencerow/sink/mysql"
	"fencerow/sink/sinktest"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

var (
	server *dbtest.Server
	root   *sql.DB
)

func TestMain(m *testing.M) {
	var err error
	if server, err = dbtest.StartMariaDB(); err == nil {
		root, err = sql.Open("mysql", server.MariaDB(""))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Close()
	os.Exit(code)
}

// target is a database of its own.
type target struct {
	database string
	admin    *sql.DB
	options  changefeed.Options
}

var databases int

// recording notes what happens to a copy, so that a test can judge its history, and where in it sync points are.
func recording() []string {
	note := func(when, row string, deleted int, value string) string {
		return fmt.Sprintf("CREATE TRIGGER note_%s AFTER %s ON fencerow_data FOR EACH ROW INSERT INTO history (`key`, value, deleted) VALUES (%s.`key`, %s, %d)",
			when, when, row, value, deleted)
	}
	return []string{
		"CREATE TABLE history (id bigint AUTO_INCREMENT PRIMARY KEY, `key` varbinary(3072), value longblob, deleted int)",
		"CREATE TABLE cuts (position bigint unsigned, upto bigint)",
		note("INSERT", "NEW", 0, "NEW.value"), note("UPDATE", "NEW", 0, "NEW.value"), note("DELETE", "OLD", 1, "NULL"),
		"CREATE TRIGGER cut AFTER INSERT ON fencerow_syncs FOR EACH ROW INSERT INTO cuts SELECT NEW.position, coalesce(max(id), 0) FROM history",
	}
}

func newTarget(t testing.TB, options changefeed.Options) *target {
	t.Helper()
	databases++
	x := &target{database: "t" + strconv.Itoa(databases), options: options}
	_, err := root.ExecContext(t.Context(), "CREATE DATABASE "+x.database)
	require.NoError(t, err)
	x.admin, err = sql.Open("mysql", server.MariaDB(x.database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.admin.Close() })
	return x
}

// newCopy is a target whose copy records its history.
func newCopy(t testing.TB) *target {
	t.Helper()
	x := newTarget(t, nil)
	x.exec(t, sqlsink.CreateTable(mysql.Dialect(), "fencerow_data", sqlsink.ModeCopy))
	for _, statement := range mysql.Dialect().Setup() {
		x.exec(t, statement.Text)
	}
	for _, text := range recording() {
		x.exec(t, text)
	}
	return x
}

func (x *target) exec(t testing.TB, text string, args ...any) {
	t.Helper()
	_, err := x.admin.ExecContext(t.Context(), text, args...)
	require.NoError(t, err)
}

// place is the target as package sqltest sees it.
type place struct{ *target }

func (x place) Host() string { return server.Host }

func (x place) Exec(t testing.TB, text string) {
	t.Helper()
	x.exec(t, text)
}

func (x place) Log(t testing.TB) []string {
	t.Helper()
	return x.strings(t, "SELECT `key` FROM fencerow_data ORDER BY position, position_index")
}

func (x place) Keys(t testing.TB) []string {
	t.Helper()
	return x.strings(t, "SELECT `key` FROM fencerow_data ORDER BY `key`")
}

func (x place) Backends(t testing.TB) int {
	t.Helper()
	var n int
	require.NoError(t, x.admin.QueryRowContext(t.Context(),
		"SELECT count(*) FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID() AND user <> 'root' OR db = ? AND user = 'copy'",
		x.database, x.database).Scan(&n))
	return n
}

func (x *target) strings(t testing.TB, text string) []string {
	t.Helper()
	rows, err := x.admin.QueryContext(t.Context(), text)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var one string
		require.NoError(t, rows.Scan(&one))
		out = append(out, one)
	}
	require.NoError(t, rows.Err())
	return out
}

func (x place) Open(t testing.TB, as sink.Identity, way sqltest.Way) sink.Sink {
	t.Helper()
	way.User = cmp.Or(way.User, "copy")
	return x.open(t, as, way)
}

func (x *target) open(t testing.TB, as sink.Identity, way sqltest.Way) sink.Sink {
	t.Helper()
	s, err := mysql.NewWrapped(x.config(t, as, way), way.Wrap)
	require.NoError(t, err)
	return s
}

func (x *target) config(t testing.TB, as sink.Identity, way sqltest.Way) mysql.Config {
	t.Helper()
	uri, err := endpoint.Parse(fmt.Sprintf("mysql://%s@%s/%s",
		cmp.Or(way.User, server.User), cmp.Or(way.Host, server.Host), x.database), endpoint.Policy{Field: "sink"})
	require.NoError(t, err)
	return mysql.Config{URI: uri, Options: way.Options, Identity: as, Layout: way.Layout}
}

func (x *target) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return x.open(t, as, sqltest.Way{Options: x.options})
}

func (x *target) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	t.Helper()
	faults := sqltest.NewCrashing(crash)
	return x.open(t, as, sqltest.Way{Options: x.options, Wrap: faults.Wrap}), faults.Fired
}

func (x *target) Read(t testing.TB, _ sink.Identity) []sinktest.Entry {
	t.Helper()
	if x.options["mode"] == "log" {
		return x.read(t, "SELECT `key`, value, op = 'delete' FROM fencerow_data ORDER BY `key`, position, position_index")
	}
	entries := x.read(t, "SELECT `key`, value, deleted FROM history ORDER BY id")
	state, live := map[string]string{}, map[string]string{}
	for _, entry := range entries {
		state[entry.Key] = entry.Value
		if entry.Deleted {
			delete(state, entry.Key)
		}
	}
	for _, entry := range x.read(t, "SELECT `key`, value, 0 FROM fencerow_data") {
		live[entry.Key] = entry.Value
	}
	require.Equal(t, state, live)
	return entries
}

func (x *target) ReadCut(t testing.TB, _ sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	if x.options["mode"] == "log" {
		return x.read(t, "SELECT `key`, value, op = 'delete' FROM fencerow_data WHERE position <= (SELECT position FROM fencerow_syncs WHERE position = ?)"+
			" ORDER BY `key`, position, position_index", at.String())
	}
	return x.read(t, "SELECT `key`, value, deleted FROM history WHERE id <= (SELECT upto FROM cuts WHERE position = ?) ORDER BY id", at.String())
}

func (x *target) read(t testing.TB, text string, args ...any) []sinktest.Entry {
	t.Helper()
	rows, err := x.admin.QueryContext(t.Context(), text, args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var entries []sinktest.Entry
	for rows.Next() {
		var key, value []byte
		var entry sinktest.Entry
		require.NoError(t, rows.Scan(&key, &value, &entry.Deleted))
		entry.Key, entry.Value = string(key), string(value)
		entries = append(entries, entry)
	}
	require.NoError(t, rows.Err())
	return entries
}

func (x *target) Plant(t testing.TB, key, value string) {
	t.Helper()
	x.exec(t, "INSERT INTO fencerow_data (`key`, value) VALUES (?, ?)", []byte(key), []byte(value))
}

func (x *target) Lose(t testing.TB) {
	t.Helper()
	x.exec(t, "DELETE FROM fencerow_heads; DELETE FROM fencerow_claims; DELETE FROM fencerow_targets; DELETE FROM fencerow_syncs")
}

func TestSuiteOfACopy(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Copies: true, Syncs: true, Short: true, New: func(t testing.TB) sinktest.Target { return newCopy(t) }})
}

// F23 and F24 in MariaDB: the quicker of the two.
func TestSuiteOfALog(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Syncs: true, Short: true, New: func(t testing.TB) sinktest.Target {
		return newTarget(t, changefeed.Options{"mode": "log"})
	}})
}

// F22 under writers that stand still and connections that are cut.
func TestHostile(t *testing.T) {
	sqltest.Run(t, sqltest.Harness{
		Dialect: mysql.Dialect(), Certs: server.Certs,
		New: func(t testing.TB) sqltest.Target {
			x := newTarget(t, nil)
			x.exec(t, "CREATE USER IF NOT EXISTS copy; GRANT ALL ON "+x.database+".* TO copy")
			return place{x}
		},
		Poor: func(t testing.TB, x sqltest.Target) string {
			t.Helper()
			x.Exec(t, "CREATE USER IF NOT EXISTS poor; GRANT SELECT ON "+x.(place).database+".* TO poor")
			return "poor"
		},
		Certified: func(t testing.TB, x sqltest.Target) string {
			t.Helper()
			x.Exec(t, "CREATE USER IF NOT EXISTS "+dbtest.Certified+" REQUIRE X509; GRANT ALL ON "+x.(place).database+".* TO "+dbtest.Certified)
			return dbtest.Certified
		},
	})
}
