//go:build databases

package postgres_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/internal/dbtest"
	"fencerow/sink"
	"fencerow/sink/postgres"
	"fencerow/sink/sinktest"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

var server *dbtest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = dbtest.StartPostgres(); err != nil {
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
	admin    *pgx.Conn
	options  changefeed.Options
}

var databases int

// recording notes what happens to a copy, so that a test can judge its history, and where in it sync points are.
const recording = `
	CREATE TABLE history (id bigserial PRIMARY KEY, key bytea, value bytea, deleted boolean);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF TG_OP = 'DELETE' THEN INSERT INTO history (key, deleted) VALUES (OLD.key, true);
		ELSE INSERT INTO history (key, value, deleted) VALUES (NEW.key, NEW.value, false); END IF;
		RETURN NULL; END $$;
	CREATE TABLE cuts (position numeric, upto bigint);
	CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO cuts SELECT NEW.position, coalesce(max(id), 0) FROM history; RETURN NULL; END $$;`

func newTarget(t testing.TB, options changefeed.Options) *target {
	t.Helper()
	databases++
	x := &target{database: "t" + strconv.Itoa(databases), options: options}
	root, err := pgx.Connect(t.Context(), server.Postgres("postgres"))
	require.NoError(t, err)
	_, err = root.Exec(t.Context(), "CREATE DATABASE "+x.database)
	require.NoError(t, err)
	require.NoError(t, root.Close(t.Context()))
	x.admin, err = pgx.Connect(t.Context(), server.Postgres(x.database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.admin.Close(context.Background()) })
	return x
}

// newCopy is a target whose copy records its history.
func newCopy(t testing.TB) *target {
	t.Helper()
	x := newTarget(t, nil)
	x.exec(t, recording)
	x.exec(t, sqlsink.CreateTable(postgres.Dialect(), "fencerow_data", sqlsink.ModeCopy))
	x.exec(t, `CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON fencerow_data FOR EACH ROW EXECUTE FUNCTION note()`)
	for _, statement := range postgres.Dialect().Setup() {
		x.exec(t, statement.Text)
	}
	x.exec(t, `CREATE TRIGGER cut AFTER INSERT ON fencerow.syncs FOR EACH ROW EXECUTE FUNCTION cut()`)
	return x
}

func (x *target) exec(t testing.TB, text string, args ...any) {
	t.Helper()
	_, err := x.admin.Exec(t.Context(), text, args...)
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
	return x.strings(t, `SELECT convert_from(key, 'UTF8') FROM fencerow_data ORDER BY position, position_index`)
}

func (x place) Keys(t testing.TB) []string {
	t.Helper()
	return x.strings(t, `SELECT convert_from(key, 'UTF8') FROM fencerow_data ORDER BY key`)
}

func (x place) Backends(t testing.TB) int {
	t.Helper()
	var n int
	require.NoError(t, x.admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE application_name LIKE 'fencerow %' AND datname = current_database()`).Scan(&n))
	return n
}

func (x *target) strings(t testing.TB, text string) []string {
	t.Helper()
	rows, err := x.admin.Query(t.Context(), text)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return out
}

func (x place) Open(t testing.TB, as sink.Identity, way sqltest.Way) sink.Sink {
	t.Helper()
	return x.open(t, as, way)
}

func (x *target) open(t testing.TB, as sink.Identity, way sqltest.Way) sink.Sink {
	t.Helper()
	uri, err := endpoint.Parse(fmt.Sprintf("postgres://%s@%s/%s",
		cmp.Or(way.User, server.User), cmp.Or(way.Host, server.Host), x.database), endpoint.Policy{Field: "sink"})
	require.NoError(t, err)
	s, err := postgres.NewWrapped(postgres.Config{URI: uri, Options: way.Options, Layout: way.Layout, Identity: as}, way.Wrap)
	require.NoError(t, err)
	return s
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
		return x.read(t, `SELECT key, value, op = 'delete' FROM fencerow_data ORDER BY key, position, position_index`)
	}
	x.compare(t)
	return x.read(t, `SELECT key, value, deleted FROM history ORDER BY id`)
}

// compare holds the history against the table itself.
func (x *target) compare(t testing.TB) {
	t.Helper()
	var differences int
	require.NoError(t, x.admin.QueryRow(t.Context(), `
		WITH last AS (SELECT DISTINCT ON (key) key, value, deleted FROM history ORDER BY key, id DESC)
		SELECT count(*) FROM (SELECT key, value FROM last WHERE NOT deleted) l
		FULL JOIN (SELECT key, value FROM fencerow_data) d USING (key) WHERE l.value IS DISTINCT FROM d.value`).Scan(&differences))
	require.Zero(t, differences)
}

func (x *target) ReadCut(t testing.TB, _ sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	if x.options["mode"] == "log" {
		return x.read(t, `SELECT key, value, op = 'delete' FROM fencerow_data WHERE position <= (SELECT position FROM fencerow.syncs WHERE position = $1)
			ORDER BY key, position, position_index`, at.String())
	}
	return x.read(t, `SELECT key, value, deleted FROM history WHERE id <= (SELECT upto FROM cuts WHERE position = $1) ORDER BY id`, at.String())
}

func (x *target) read(t testing.TB, text string, args ...any) []sinktest.Entry {
	t.Helper()
	rows, err := x.admin.Query(t.Context(), text, args...)
	require.NoError(t, err)
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sinktest.Entry, error) {
		var key, value []byte
		var entry sinktest.Entry
		err := row.Scan(&key, &value, &entry.Deleted)
		entry.Key, entry.Value = string(key), string(value)
		return entry, err
	})
	require.NoError(t, err)
	return entries
}

func (x *target) Plant(t testing.TB, key, value string) {
	t.Helper()
	x.exec(t, `INSERT INTO fencerow_data (key, value) VALUES ($1, $2)`, []byte(key), []byte(value))
}

func (x *target) Lose(t testing.TB) {
	t.Helper()
	x.exec(t, `TRUNCATE fencerow.heads, fencerow.claims, fencerow.targets, fencerow.syncs`)
}

func TestSuiteOfACopy(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Copies: true, Syncs: true, Short: true, New: func(t testing.TB) sinktest.Target { return newCopy(t) }})
}

// F23 and F24 in PostgreSQL: the quicker of the two.
func TestSuiteOfALog(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Syncs: true, Short: true, New: func(t testing.TB) sinktest.Target {
		return newTarget(t, changefeed.Options{"mode": "log"})
	}})
}

// F22 under writers that stand still and connections that are cut.
func TestHostile(t *testing.T) {
	sqltest.Run(t, sqltest.Harness{
		Dialect: postgres.Dialect(), Certs: server.Certs,
		New: func(t testing.TB) sqltest.Target { return place{newTarget(t, nil)} },
		Poor: func(t testing.TB, x sqltest.Target) string {
			t.Helper()
			x.Exec(t, `DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
			return "poor"
		},
		Certified: func(t testing.TB, x sqltest.Target) string {
			t.Helper()
			x.Exec(t, `DROP ROLE IF EXISTS `+dbtest.Certified+`; CREATE ROLE `+dbtest.Certified+` LOGIN SUPERUSER`)
			return dbtest.Certified
		},
	})
}

// The rights that docs/sinks-sql.md names are enough, and each is needed.
func TestTheLeastPermissionsAreEnough(t *testing.T) {
	x := newCopy(t)
	x.exec(t, `DO $$ BEGIN CREATE ROLE least LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	x.exec(t, `GRANT CONNECT ON DATABASE `+x.database+` TO least;
		GRANT USAGE ON SCHEMA fencerow TO least;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fencerow TO least;
		GRANT SELECT, INSERT, UPDATE, DELETE ON fencerow_data TO least;
		ALTER FUNCTION note() SECURITY DEFINER; ALTER FUNCTION cut() SECURITY DEFINER;`)
	as := sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}
	s := x.open(t, as, sqltest.Way{User: "least"})
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	write := func(seq fence.Seq) error {
		w, err := s.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, seq), From: change.At(1)})
		require.NoError(t, err)
		defer func() { _ = w.Close() }()
		return w.Write(t.Context(), sink.Batch{Span: changefeed.Whole(), To: change.At(2), Changes: []change.Change{
			{Position: 2, Op: change.OpCreate, Key: []byte("a"), After: &change.KV{Key: []byte("a"), Value: []byte("1")}},
		}})
	}
	require.NoError(t, write(1))
	x.exec(t, `REVOKE UPDATE ON fencerow_data FROM least`)
	fault, ok := errors.AsType[*changefeed.Fault](write(2))
	require.True(t, ok)
	require.Equal(t, changefeed.CodeSinkUnreachable, fault.Code)
	require.Contains(t, fault.Cure, `GRANT SELECT, INSERT, UPDATE, DELETE ON "fencerow_data" TO "least"`)
}

// The query in docs/sinks-sql.md says at which position a snapshot of the database is the source, and when it is at none.
func TestTheDocumentedCut(t *testing.T) {
	text, err := os.ReadFile("../../docs/sinks-sql.md")
	require.NoError(t, err)
	_, text, _ = bytes.Cut(text, []byte("REPEATABLE READ;\n"))
	query, _, found := bytes.Cut(text, []byte(";"))
	require.True(t, found)
	x := newCopy(t)
	as := sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}
	s := x.open(t, as, sqltest.Way{})
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	move := func(seq fence.Seq, span changefeed.Span, to change.Position) {
		w, err := s.Claim(t.Context(), sink.Claim{Span: span, Token: fence.Mint(2, seq), From: change.At(1)})
		require.NoError(t, err)
		require.NoError(t, w.Write(t.Context(), sink.Batch{Span: span, To: change.At(to)}))
		require.NoError(t, w.Close())
	}
	cut := func() *string {
		var at *string
		require.NoError(t, x.admin.QueryRow(t.Context(), "SELECT position::text FROM ("+string(query)+") q").Scan(&at))
		return at
	}
	move(1, changefeed.Whole(), 5)
	require.Equal(t, "5", *cut())
	move(2, changefeed.Span{Start: []byte("m")}, 7)
	require.Nil(t, cut(), "one part is ahead, and the other has no writer")
	move(3, changefeed.Span{End: []byte("m")}, 6)
	require.Nil(t, cut())
	move(4, changefeed.Span{End: []byte("m")}, 7)
	require.Equal(t, "7", *cut())
}
