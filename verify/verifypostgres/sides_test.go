//go:build databases

package verifypostgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/endpoint"
	"fencerow/internal/dbtest"
	"fencerow/internal/pgdial"
	"fencerow/verify"
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

func session(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server.Postgres("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func do(t testing.TB, conn *pgconn.PgConn, text string) {
	t.Helper()
	require.NoError(t, conn.Exec(context.Background(), text).Close(), text)
}

func dial(t *testing.T) *Server {
	t.Helper()
	uri, err := endpoint.Parse("postgres://postgres@"+server.Host+"/postgres", endpoint.Policy{Field: "source"})
	require.NoError(t, err)
	out := &Server{Dial: pgdial.Server{URI: uri, Field: "source"}, Name: "fencerow verify test", Fault: func(err error) error { return err }}
	t.Cleanup(func() { require.NoError(t, out.Close()) })
	return out
}

func named(names ...string) (out []Column) {
	for _, name := range names {
		out = append(out, Column{Name: name})
	}
	return out
}

func side(t *testing.T, schema string) *Side {
	t.Helper()
	return &Side{Server: dial(t), Tables: []Table{
		{
			Name: "public.lines", Columns: []string{"order", "line", "note", "price", "at"},
			Relation: Relation{Schema: schema, Name: "lines", Key: named("order", "line"), Columns: named("order", "line", "note", "price", "at")},
		},
		{
			Name: "public.names", Columns: []string{"name", "raw"},
			Relation: Relation{Schema: schema, Name: "names", Key: named("name"), Columns: named("name", "raw")},
		},
	}}
}

// feed copies the source's tables to the target's, transaction by transaction, by what a trigger wrote down.
type feed struct {
	reached atomic.Uint64
	written atomic.Int64
	group   sync.WaitGroup
}

const tables = `
DROP SCHEMA IF EXISTS source CASCADE; DROP SCHEMA IF EXISTS target CASCADE; CREATE SCHEMA source; CREATE SCHEMA target;
CREATE TABLE source.lines ("order" text COLLATE "C", line int, note text, price numeric(10,2), at timestamptz, PRIMARY KEY ("order", line));
CREATE TABLE target.lines (LIKE source.lines INCLUDING ALL);
CREATE TABLE source.names (name text PRIMARY KEY, raw bytea);
CREATE TABLE target.names (LIKE source.names INCLUDING ALL);
INSERT INTO source.lines SELECT 'still' || n % 7, n, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'a "b", c' END, n / 7.0, '2026-01-01Z'::timestamptz + n * interval '1 s'
	FROM generate_series(1, 3500) n;
INSERT INTO target.lines SELECT * FROM source.lines;
INSERT INTO source.names SELECT 'still ' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 1500) n;
INSERT INTO target.names SELECT * FROM source.names;
CREATE TABLE source.told (n bigserial, op text, "order" text, line int, note text);
CREATE FUNCTION source.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF TG_OP = 'DELETE' THEN INSERT INTO source.told (op, "order", line) VALUES ('D', OLD."order", OLD.line);
	ELSE INSERT INTO source.told (op, "order", line, note) VALUES ('P', NEW."order", NEW.line, NEW.note); END IF; RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON source.lines FOR EACH ROW EXECUTE FUNCTION source.tell();`

func (f *feed) write(ctx context.Context, conn *pgconn.PgConn) {
	random := rand.New(rand.NewPCG(1, 3))
	for ctx.Err() == nil {
		key := fmt.Sprintf("'busy', %d", random.IntN(30))
		text := fmt.Sprintf(`INSERT INTO source.lines VALUES (%s, '%d', 1, '2026-01-01Z') ON CONFLICT ("order", line) DO UPDATE SET note = excluded.note`, key, random.IntN(5))
		if random.IntN(3) == 0 {
			text = fmt.Sprintf(`DELETE FROM source.lines WHERE ("order", line) = (%s)`, key)
		}
		if conn.Exec(ctx, text).Close() == nil {
			f.written.Add(1)
		}
	}
}

func (f *feed) copy(ctx context.Context, conn *pgconn.PgConn) {
	for ctx.Err() == nil {
		read := conn.ExecParams(ctx, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn", nil, nil, nil, nil).Read()
		if read.Err != nil {
			return
		}
		at, err := change.ParsePosition(string(read.Rows[0][0]))
		if err != nil {
			return
		}
		if conn.Exec(ctx, `DO $$ DECLARE r record; BEGIN
			FOR r IN WITH gone AS (DELETE FROM source.told RETURNING *) SELECT * FROM gone ORDER BY n LOOP
				IF r.op = 'D' THEN DELETE FROM target.lines WHERE ("order", line) = (r."order", r.line);
				ELSE INSERT INTO target.lines VALUES (r."order", r.line, r.note, 1, '2026-01-01Z')
					ON CONFLICT ("order", line) DO UPDATE SET note = excluded.note; END IF;
			END LOOP; END $$`).Close() != nil {
			return
		}
		f.reached.Store(uint64(at))
	}
}

func compare(t *testing.T, f *feed) verify.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), verify.Config{
		Source: side(t, "source"), Target: side(t, "target"), Poll: time.Millisecond,
		Reached: func(context.Context) (change.Position, error) { return change.Position(f.reached.Load()), nil },
		Pace:    func(context.Context, int) error { return nil },
	})
	require.NoError(t, err)
	return report
}

// TestComparingTablesWhileRowsAreWritten: nothing is named that is not damaged, and all that is.
func TestComparingTablesWhileRowsAreWritten(t *testing.T) {
	conn := session(t)
	do(t, conn, tables)
	f := &feed{}
	ctx, cancel := context.WithCancel(t.Context())
	writes, copies := session(t), session(t)
	f.group.Go(func() { f.write(ctx, writes) })
	f.group.Go(func() { f.copy(ctx, copies) })
	t.Cleanup(func() { cancel(); f.group.Wait() })
	for round := range 8 {
		report := compare(t, f)
		require.Empty(t, report.Differences, "round %d", round)
		require.GreaterOrEqual(t, report.Rows, int64(5000))
	}
	require.Positive(t, f.written.Load())
	do(t, conn, `UPDATE target.lines SET price = 0, note = 'x' WHERE line = 70; DELETE FROM target.lines WHERE line = 3500;
		UPDATE target.lines SET note = '' WHERE line = 3 AND note IS NULL;
		INSERT INTO target.names VALUES ('stray', NULL); DELETE FROM target.names WHERE name = 'still 1'`)
	report := compare(t, f)
	require.ElementsMatch(t, []verify.Difference{
		{Kind: verify.Different, Table: "public.lines", Key: `["still0", "70"]`, Columns: []string{"note", "price"}},
		{Kind: verify.Missing, Table: "public.lines", Key: `["still0", "3500"]`},
		{Kind: verify.Different, Table: "public.lines", Key: `["still3", "3"]`, Columns: []string{"note"}},
		{Kind: verify.Extra, Table: "public.names", Key: `["stray"]`},
		{Kind: verify.Missing, Table: "public.names", Key: `["still 1"]`},
	}, report.Differences)
}

// TestATransactionThatGoesOnIsWaitedFor: what it did may be at a target before anybody sees it.
func TestATransactionThatGoesOnIsWaitedFor(t *testing.T) {
	conn := session(t)
	do(t, conn, tables)
	s := side(t, "source")
	require.NoError(t, s.Settle(t.Context()))
	do(t, conn, `BEGIN; DELETE FROM source.names WHERE name = 'still 1'`)
	settled := make(chan error, 1)
	go func() { settled <- s.Settle(t.Context()) }()
	watching := session(t)
	require.Eventually(t, func() bool {
		read := watching.ExecParams(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fencerow verify test'
			AND query LIKE '%pg_snapshot_xmin%'`, nil, nil, nil, nil).Read()
		return read.Err == nil && string(read.Rows[0][0]) == "1"
	}, 10*time.Second, 10*time.Millisecond)
	select {
	case err := <-settled:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	do(t, conn, "COMMIT")
	require.NoError(t, <-settled)
	rows, err := s.Look(t.Context(), "public.names", []string{`["still 1"]`})
	require.NoError(t, err)
	require.Empty(t, rows)
}

// TestNothingIsWritten, whatever the user may do.
func TestNothingIsWritten(t *testing.T) {
	s := dial(t)
	_, err := s.ask(t.Context(), "CREATE TABLE public.mine (a int)")
	require.Equal(t, "25006", codeOf(err))
}

// TestOrdersAreThoseOfTheColumns: texts have that of their collation, which may be the database's, and types of users any.
func TestOrdersAreThoseOfTheColumns(t *testing.T) {
	conn := session(t)
	do(t, conn, `DROP SCHEMA IF EXISTS ordered CASCADE; CREATE SCHEMA ordered; CREATE TYPE ordered.mood AS ENUM ('sad');
		CREATE COLLATION ordered.loose (provider = icu, locale = 'und', deterministic = false);
		CREATE TABLE ordered.t (a int, b text, c text COLLATE "C", d text COLLATE "en-x-icu", e char(3), f ordered.mood, g int[],
			h text COLLATE ordered.loose, i timestamptz, j uuid)`)
	got, err := dial(t).Orders(t.Context(), "ordered", "t")
	require.NoError(t, err)
	require.Equal(t, map[string]Order{
		"a": OrderNatural, "b": OrderBytes, "c": OrderBytes, "d": "i:en", "e": OrderBytes + ", padded", "i": OrderNatural, "j": OrderNatural,
	}, got)
}

// TestASourceIsBroughtToWhatTheTargetHas: numbers with more digits after the point, and keys that are dates at one side.
func TestASourceIsBroughtToWhatTheTargetHas(t *testing.T) {
	conn := session(t)
	do(t, conn, `DROP SCHEMA IF EXISTS brought CASCADE; CREATE SCHEMA brought;
		CREATE TABLE brought.a (day date PRIMARY KEY, n numeric(10,2), j json, b boolean, c char(5));
		CREATE TABLE brought.b (day timestamp PRIMARY KEY, n numeric(12,4), j jsonb, b text, c text);
		INSERT INTO brought.a VALUES ('2024-01-01', 1.5, '{"b":1,"a":2}', true, 'ab'), ('2024-01-02', NULL, NULL, NULL, NULL);
		INSERT INTO brought.b VALUES ('2024-01-01', 1.5, '{"a":2,"b":1}', 't', 'ab   '), ('2024-01-02', NULL, NULL, NULL, NULL)`)
	columns := []string{"day", "n", "j", "b", "c"}
	a := &Side{Server: dial(t), Tables: []Table{{Name: "t", Columns: columns, Relation: Relation{
		Schema: "brought", Name: "a", Only: true, Key: []Column{{"day", "timestamp without time zone"}},
		Columns: []Column{{"day", "timestamp without time zone"}, {"n", "numeric(12,4)"}, {"j", "jsonb"}, {"b", ""}, {"c", ""}},
	}}}}
	b := &Side{Server: dial(t), Tables: []Table{{
		Name: "t", Columns: columns, Relation: Relation{Schema: "brought", Name: "b", Key: named("day"), Columns: named(columns...)},
	}}}
	page, err := a.Next(t.Context(), verify.Chunk{}, 10)
	require.NoError(t, err)
	sum, err := b.Sum(t.Context(), page.Chunk)
	require.NoError(t, err)
	require.Equal(t, page.Sum, sum)
	keys, err := b.Keys(t.Context(), "t", "", 10)
	require.NoError(t, err)
	rows, err := a.Look(t.Context(), "t", append(keys, `["2024-01-01 00:00:01"]`, `["no date"]`))
	require.NoError(t, err)
	require.ElementsMatch(t, keys, []string{rows[0].Key, rows[1].Key}, "what the source can't have is not there")
	do(t, conn, `UPDATE brought.a SET j = '"\u0000"' WHERE day = '2024-01-01'`)
	_, err = a.Next(t.Context(), verify.Chunk{}, 10)
	leave, ok := errors.AsType[*verify.Leave](err)
	require.True(t, ok, err)
	require.NotContains(t, leave.Why, "u0000", "values are not shown")
}

// TestATableWithoutAKeyIsAMultiset at both sides, and one that the target has not is one without rows.
func TestATableWithoutAKeyIsAMultiset(t *testing.T) {
	conn := session(t)
	do(t, conn, `DROP SCHEMA IF EXISTS keyless CASCADE; CREATE SCHEMA keyless; CREATE TABLE keyless.a (v text); CREATE TABLE keyless.b (v text);
		INSERT INTO keyless.a VALUES ('x'), ('y'), ('x'), (NULL); INSERT INTO keyless.b VALUES (NULL), ('x'), ('x'), ('y')`)
	of := func(name string) *Side {
		return &Side{Server: dial(t), Tables: []Table{{
			Name: "t", Columns: []string{"v"}, Absent: name == "none", Relation: Relation{Schema: "keyless", Name: name, Columns: named("v")},
		}}}
	}
	a, b := of("a"), of("b")
	page, err := a.Next(t.Context(), verify.Chunk{}, 10)
	require.NoError(t, err)
	sum, err := b.Sum(t.Context(), page.Chunk)
	require.NoError(t, err)
	require.Equal(t, page.Sum, sum)
	before, err := b.Look(t.Context(), "t", []string{""})
	require.NoError(t, err)
	do(t, conn, `DELETE FROM keyless.b WHERE v = 'y'; INSERT INTO keyless.b VALUES ('y')`)
	after, err := b.Look(t.Context(), "t", []string{""})
	require.NoError(t, err)
	require.Equal(t, before[0].Digest, after[0].Digest)
	require.NotEqual(t, before[0].Version, after[0].Version, "it was written to")
	do(t, conn, `DELETE FROM keyless.a`)
	empty, err := a.List(t.Context(), page.Chunk, 10)
	require.NoError(t, err)
	absent := of("none")
	none, err := absent.List(t.Context(), page.Chunk, 10)
	require.NoError(t, err)
	require.Equal(t, empty[0].Digest, none[0].Digest)
	do(t, conn, `CREATE TABLE keyless.none (v text)`)
	_, err = absent.List(t.Context(), page.Chunk, 10)
	_, left := errors.AsType[*verify.Leave](err)
	require.True(t, left, err)
}
