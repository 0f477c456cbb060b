//go:build databases

package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// alterations are made one after another, each within a transaction that writes before it and after. applied says how many statements each
// is in the target.
var alterations = []struct {
	text    string
	applied int
}{
	{"ADD COLUMN note text DEFAULT 'as it was'", 1},
	{"RENAME COLUMN note TO remark", 1},
	{"ALTER COLUMN n TYPE bigint, ADD COLUMN price numeric(10,2)", 2},
	{"DROP COLUMN remark, ADD COLUMN note text DEFAULT 'another'", 2},
	{"DROP COLUMN price", 1},
	{"RENAME COLUMN n TO amount", 1},
}

// alteredRows are the keys of the table, which is cut into spans at a third and two thirds of them.
const alteredRows = 900

// altered is a table that is written and altered, and where it is copied to.
type altered struct {
	t       *testing.T
	source  *sql.DB
	targets map[string]*sql.DB // by changefeed
}

func (x *altered) exec(db *sql.DB, statements ...string) {
	x.t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(x.t.Context(), statement)
		require.NoError(x.t, err, statement)
	}
}

// write writes rows of all spans, in columns that are never altered, until stopped.
func (x *altered) write() (stop func()) {
	ctx, cancel := context.WithCancel(x.t.Context())
	var group sync.WaitGroup
	for writer := range 3 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(writer), 5)) //nolint:gosec // small
			for ctx.Err() == nil {
				id := random.IntN(alteredRows)
				text := fmt.Sprintf("INSERT INTO items (id, v) VALUES (%d, 1) ON CONFLICT (id) DO UPDATE SET v = items.v + 1", id)
				if random.IntN(8) == 0 {
					text = fmt.Sprintf("DELETE FROM items WHERE id = %d", id)
				}
				_, _ = x.source.ExecContext(ctx, text+"; SELECT pg_sleep(0.002)")
			}
		})
	}
	return func() { cancel(); group.Wait() }
}

// alter makes one alteration. Its transaction has rows of both forms in all spans, and leaves a row that tells that it has come.
func (x *altered) alter(turn int) {
	x.t.Helper()
	some := "UPDATE items SET v = v + 1 WHERE id % 30 = 7"
	text := fmt.Sprintf("BEGIN; %[1]s; ALTER TABLE items %[2]s; %[1]s; INSERT INTO items (id, v) VALUES (%[3]d, 0); COMMIT",
		some, alterations[turn].text, alteredRows+turn)
	eventually(x.t, "the table is altered", func() error { // a writer that waits for the same lock may make it a deadlock
		_, err := x.source.ExecContext(x.t.Context(), text)
		return err
	})
}

// columns are those of the source now.
func (x *altered) columns() []string {
	x.t.Helper()
	return x.texts(x.source, "SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname")
}

func (x *altered) texts(db *sql.DB, query string) []string {
	x.t.Helper()
	rows, err := db.QueryContext(x.t.Context(), query)
	require.NoError(x.t, err)
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var text string
		require.NoError(x.t, rows.Scan(&text))
		out = append(out, text)
	}
	require.NoError(x.t, rows.Err())
	return out
}

// rows returns all rows, each with its columns as text.
func (x *altered) rows(db *sql.DB, columns []string) []string {
	x.t.Helper()
	var cells []string
	for _, column := range columns {
		cells = append(cells, "coalesce(concat("+column+"), '')")
	}
	out := x.texts(db, "SELECT concat_ws('|', "+strings.Join(cells, ", ")+") FROM items")
	slices.Sort(out)
	return out
}

// A table of three spans is altered again and again while it is written, and owners and others are killed and stopped: the targets follow,
// each alteration is made once, and at the end the tables are equal.
func TestDatabasesSchemaChangesOverSpans(t *testing.T) {
	d := startDatabases(t)
	x := &altered{t: t, targets: map[string]*sql.DB{"my": d.inMariaDB}}
	x.exec(d.inPostgres, "CREATE DATABASE shop", "CREATE DATABASE evolved")
	open := func(database string) *sql.DB {
		db, err := sql.Open("pgx", strings.Replace(d.postgres.Postgres(database), "sslmode=disable", "sslmode=disable&default_query_exec_mode=simple_protocol", 1))
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	x.source, x.targets["pg"] = open("shop"), open("evolved")
	x.exec(x.source, "CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 5, v int)", fmt.Sprintf("INSERT INTO items SELECT i, i, 0 FROM generate_series(0, %d) i", alteredRows-1))
	x.exec(x.targets["pg"], "CREATE TABLE altered (tag text)",
		"CREATE FUNCTION note_altered() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "+
			"INSERT INTO public.altered SELECT command_tag FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE 'public.items%'; END $$",
		"CREATE EVENT TRIGGER altering ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION note_altered()")
	c := startNodes(t, startEtcd(t, "control"), 3)
	for feed, to := range map[string]string{"pg": "postgres://postgres@" + d.postgres.Host + "/evolved", "my": "mysql://root@" + d.mariadb.Host + "/copy"} {
		must(t, "changefeed", "create", feed, "--server", c.alive().url(), "--source", "postgres://postgres@"+d.postgres.Host+"/shop", "--sink", to,
			"--start", "snapshot", "--option", "tables=public.items", "--option", "schema=evolve", "--option", "sync_point_interval=1s",
			"--option", fmt.Sprintf("split_keys=public.items:%019d,public.items:%019d", alteredRows/3, 2*alteredRows/3))
	}
	for feed := range x.targets {
		must(t, "changefeed", "wait", feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
	}
	stop := x.write()
	before := len(x.texts(x.targets["pg"], "SELECT tag FROM altered")) // the key that a table gets after its snapshot
	made := 0
	for turn := range alterations {
		thaw := func() {}
		if turn > 0 {
			f, err := c.feed(c.alive(), []string{"pg", "my"}[turn%2])
			require.NoError(t, err)
			at := slices.IndexFunc(c.all, func(s *server) bool { return s.name == f.OwnerName })
			require.GreaterOrEqual(t, at, 0, "%+v", f)
			thaw = c.killOrFreeze(c.all[(at+turn/2)%len(c.all)], turn)
		}
		x.alter(turn)
		made += alterations[turn].applied
		for feed, db := range x.targets {
			eventually(t, fmt.Sprintf("%s goes on after alteration %d", feed, turn), func() error {
				var n int
				err := db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT count(*) FROM items WHERE id = %d", alteredRows+turn)).Scan(&n)
				if err == nil && n != 1 {
					err = errors.New("its row is not there")
				}
				return err
			})
		}
		thaw()
	}
	stop()
	for feed, db := range x.targets {
		must(t, "changefeed", "wait", feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
		columns := x.columns()
		require.Equal(t, columns, x.texts(db, "SELECT column_name FROM information_schema.columns WHERE table_name = 'items' AND table_schema IN ('public', 'copy') ORDER BY column_name"), feed)
		want, have := x.rows(x.source, columns), x.rows(db, columns)
		require.Equal(t, want, have, feed)
		t.Logf("%s: %d rows are equal in %v", feed, len(have), columns)
	}
	require.Len(t, x.texts(x.targets["pg"], "SELECT tag FROM altered"), before+made, "each statement was run once")
	must(t, "check", "--server", c.alive().url())
}
