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

// itemsCount are the keys of the table.
const itemsCount = 900

// items are a table that is written, and where it is copied to.
type items struct {
	t       *testing.T
	d       *databases
	source  *sql.DB
	targets map[string]*sql.DB // by changefeed
	onlySet bool               // no row is deleted
}

func newItems(t *testing.T, d *databases) *items {
	t.Helper()
	x := &items{t: t, d: d, targets: map[string]*sql.DB{"my": d.inMariaDB}}
	x.exec(d.inPostgres, "CREATE DATABASE shop", "CREATE DATABASE copied")
	open := func(database string) *sql.DB {
		db, err := sql.Open("pgx", strings.Replace(d.postgres.Postgres(database), "sslmode=disable", "sslmode=disable&default_query_exec_mode=simple_protocol", 1))
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	x.source, x.targets["pg"] = open("shop"), open("copied")
	x.exec(x.source, "CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 5, v int)",
		fmt.Sprintf("INSERT INTO items SELECT i, i, 0 FROM generate_series(0, %d) i", itemsCount-1))
	return x
}

// create makes the changefeeds, and waits until they have the rows.
func (x *items) create(c *nodes, options ...string) {
	x.t.Helper()
	for feed, to := range map[string]string{"pg": "postgres://postgres@" + x.d.postgres.Host + "/copied", "my": "mysql://root@" + x.d.mariadb.Host + "/copy"} {
		args := []string{
			"changefeed", "create", feed, "--server", c.alive().url(), "--source", "postgres://postgres@" + x.d.postgres.Host + "/shop", "--sink", to,
			"--start", "snapshot", "--option", "tables=public.items",
		}
		for _, option := range options {
			args = append(args, "--option", option)
		}
		must(x.t, args...)
	}
	x.caughtUp(c)
}

func (x *items) caughtUp(c *nodes) {
	x.t.Helper()
	for feed := range x.targets {
		must(x.t, "changefeed", "wait", feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
	}
}

// compare requires that the targets are as the source, which is not written any more.
func (x *items) compare(c *nodes) {
	x.t.Helper()
	x.caughtUp(c)
	for feed, db := range x.targets {
		columns := x.columns()
		require.Equal(x.t, columns, x.texts(db, "SELECT column_name FROM information_schema.columns "+
			"WHERE table_name = 'items' AND table_schema IN ('public', 'copy') ORDER BY column_name"), feed)
		want, have := x.rows(x.source, columns), x.rows(db, columns)
		require.Equal(x.t, want, have, feed)
		x.t.Logf("%s: %d rows are equal in %v", feed, len(have), columns)
	}
}

func (x *items) exec(db *sql.DB, statements ...string) {
	x.t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(x.t.Context(), statement)
		require.NoError(x.t, err, statement)
	}
}

// write writes rows of all spans, in columns that are never altered, until stopped.
func (x *items) write() (stop func()) {
	ctx, cancel := context.WithCancel(x.t.Context())
	var group sync.WaitGroup
	for writer := range 3 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(writer), 5)) //nolint:gosec // small
			for ctx.Err() == nil {
				id := random.IntN(itemsCount)
				text := fmt.Sprintf("INSERT INTO items (id, v) VALUES (%d, 1) ON CONFLICT (id) DO UPDATE SET v = items.v + 1", id)
				if random.IntN(8) == 0 && !x.onlySet {
					text = fmt.Sprintf("DELETE FROM items WHERE id = %d", id)
				}
				_, _ = x.source.ExecContext(ctx, text+"; SELECT pg_sleep(0.002)")
			}
		})
	}
	return func() { cancel(); group.Wait() }
}

// alter makes one alteration. Its transaction has rows of both forms in all spans, and leaves a row that tells that it has come.
func (x *items) alter(turn int) {
	x.t.Helper()
	some := "UPDATE items SET v = v + 1 WHERE id % 30 = 7"
	text := fmt.Sprintf("BEGIN; %[1]s; ALTER TABLE items %[2]s; %[1]s; INSERT INTO items (id, v) VALUES (%[3]d, 0); COMMIT",
		some, alterations[turn].text, itemsCount+turn)
	eventually(x.t, "the table is altered", func() error { // a writer that waits for the same lock may make it a deadlock
		_, err := x.source.ExecContext(x.t.Context(), text)
		return err
	})
}

// columns are those of the source now.
func (x *items) columns() []string {
	x.t.Helper()
	return x.texts(x.source, "SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname")
}

func (x *items) texts(db *sql.DB, query string) []string {
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
func (x *items) rows(db *sql.DB, columns []string) []string {
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
	x := newItems(t, d)
	x.exec(x.targets["pg"], "CREATE TABLE altered (tag text)",
		"CREATE FUNCTION note_altered() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "+
			"INSERT INTO public.altered SELECT command_tag FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE 'public.items%'; END $$",
		"CREATE EVENT TRIGGER altering ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION note_altered()")
	c := startNodes(t, startEtcd(t, "control"), 3)
	x.create(c, "schema=evolve", "sync_point_interval=1s",
		fmt.Sprintf("split_keys=public.items:%019d,public.items:%019d", itemsCount/3, 2*itemsCount/3))
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
				err := db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT count(*) FROM items WHERE id = %d", itemsCount+turn)).Scan(&n)
				if err == nil && n != 1 {
					err = errors.New("its row is not there")
				}
				return err
			})
		}
		thaw()
	}
	stop()
	x.compare(c)
	require.Len(t, x.texts(x.targets["pg"], "SELECT tag FROM altered"), before+made, "each statement was run once")
	must(t, "check", "--server", c.alive().url())
}

// One span of a table with all of the traffic becomes several, whose keys are written by several connections at once. Of no key does a
// target ever go back.
func TestDatabasesKeysAreWrittenInParallelAsTheTrafficAsks(t *testing.T) {
	d := startDatabases(t)
	x := newItems(t, d)
	x.onlySet = true
	c := startNodes(t, startEtcd(t, "control"), 2)
	x.create(c, "split_rate=50", "split_after=1s")
	x.exec(x.targets["pg"], "CREATE TABLE back (id int)",
		"CREATE FUNCTION went_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v < OLD.v THEN INSERT INTO public.back VALUES (NEW.id); END IF; RETURN NEW; END $$",
		"CREATE TRIGGER back BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION went_back()")
	x.exec(x.targets["my"], "CREATE TABLE back (id int)",
		"CREATE TRIGGER went_back BEFORE UPDATE ON items FOR EACH ROW INSERT INTO back SELECT NEW.id WHERE NEW.v < OLD.v")
	stop := x.write()
	for feed, db := range x.targets {
		claims := map[string]string{
			"pg": "SELECT c.backend::text FROM fencerow.claims c JOIN pg_stat_activity a ON a.pid::text = split_part(c.backend, ' ', 1)",
			"my": "SELECT backend FROM fencerow_claims WHERE IS_USED_LOCK(backend) IS NOT NULL",
		}[feed]
		eventually(t, feed+" is written by several connections", func() error {
			if n := len(x.texts(db, claims)); n < 2 {
				return fmt.Errorf("by %d", n)
			}
			return nil
		})
	}
	stop()
	x.compare(c)
	for feed, db := range x.targets {
		require.Empty(t, x.texts(db, "SELECT id FROM back"), feed)
	}
}
