//go:build databases

package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// keyedRows has rows of a table, of which a snapshot has the numbers below 300.
type keyedRows struct {
	*tablesTarget
	of *change.Relation
}

func newKeyedRows(t testing.TB) *keyedRows {
	t.Helper()
	return &keyedRows{newTables(t, nil), relation("a", intKey("id", 1), text("name"))}
}

// key is where a row is in the key space; below all of the table for the empty text.
func (x *keyedRows) key(id string) []byte {
	start, _ := change.TableSpan("public", "a")
	if id == "" {
		return start
	}
	return change.AppendKey(start, x.of, cells(id, null))
}

// page is everything between two keys.
func (x *keyedRows) page(start, end []byte, at change.Position, ids ...string) sink.Batch {
	for _, id := range ids {
		x.feed.create(x.of, id, "row")
	}
	page := x.feed.batch()
	page.Span, page.To, page.Snapshot = changefeed.Span{Start: start, End: end}, change.At(at), true
	for i := range page.Changes {
		page.Changes[i].Op = change.OpRead
	}
	return page
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, itoa(i))
	}
	return out
}

// keys are the columns of the table's primary key.
func (x *keyedRows) keys(t testing.TB) []string {
	t.Helper()
	return x.strings(t, `SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
		WHERE indrelid = to_regclass('a') AND indisprimary`)
}

// A table that a snapshot makes has its key when it is whole, and not before: with the last page, in one transaction.
func TestAKeyIsMadeAfterTheRowsOfASnapshot(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
	require.NoError(t, w.Write(t.Context(), x.page(x.key("200"), nil, 50, numbers(200, 300)...)))
	require.Empty(t, x.keys(t), "it isn't whole")
	require.Equal(t, []string{"true"}, x.strings(t, `SELECT attnotnull::text FROM pg_attribute WHERE attrelid = 'a'::regclass AND attname = 'id'`))
	require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...)))
	require.Equal(t, []string{"id"}, x.keys(t))
	require.Len(t, x.rows(t, "a"), 300)

	x.feed.at = 60
	x.feed.update(x.of, "7", "changed")
	x.feed.update(x.of, "1000", "new to the target")
	require.NoError(t, w.Write(t.Context(), x.feed.batch()))
	require.Equal(t, []string{"(1000,\"new to the target\")", "(7,changed)"}, x.strings(t, `SELECT a::text FROM a WHERE name <> 'row' ORDER BY 1`))
}

// The last page of a table may have no rows of it.
func TestAKeyIsMadeWithAPageWithoutRows(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
	w = x.claim(t, changefeed.Whole(), change.Mark{}) // who knows nothing of it
	require.Empty(t, x.keys(t))
	require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), nil, 50)))
	require.Equal(t, []string{"id"}, x.keys(t))
}

// Whatever wants the key finds it, whoever left the table without.
func TestAKeyIsMadeBeforeItIsWanted(t *testing.T) {
	cases := map[string]func(t *testing.T, x *keyedRows, w sink.Writer){
		"a change of a row": func(t *testing.T, x *keyedRows, w sink.Writer) {
			x.feed.at = 60
			x.feed.update(x.of, "7", "row")
			batch := x.feed.batch()
			batch.Span = changefeed.Span{End: x.key("100")}
			require.NoError(t, w.Write(t.Context(), batch))
		},
		"a page that comes again": func(t *testing.T, x *keyedRows, w sink.Writer) {
			require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 70, numbers(0, 100)...)))
		},
		"a page with a row that is refused at first": func(t *testing.T, x *keyedRows, w sink.Writer) {
			x.exec(t, `CREATE TABLE once (); CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF EXISTS (SELECT 1 FROM pg_index WHERE indrelid = 'a'::regclass) THEN RETURN NEW; END IF; RAISE EXCEPTION 'not in bulk'; END $$;
				CREATE TRIGGER refuse BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION refuse()`)
			require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), x.key("101"), 50, "100")))
		},
		"a claim of a part": func(t *testing.T, x *keyedRows, _ sink.Writer) {
			w := x.claim(t, changefeed.Span{Start: x.key("100")}, change.Mark{})
			require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), x.key("101"), 50, "100")))
		},
	}
	for name, write := range cases {
		t.Run(name, func(t *testing.T) {
			for _, knows := range []bool{true, false} {
				x := newKeyedRows(t)
				w := x.claim(t, changefeed.Whole(), change.Mark{})
				require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
				require.Empty(t, x.keys(t))
				if !knows {
					w = x.claim(t, changefeed.Whole(), change.Mark{})
				}
				write(t, x, w)
				require.Equal(t, []string{"id"}, x.keys(t))
			}
		})
	}
}

// A key that somebody else made is as good.
func TestAKeyThatIsThereIsNotMade(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
	x.exec(t, `ALTER TABLE a ADD PRIMARY KEY (id)`)
	require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), nil, 50, numbers(100, 200)...)))
	require.Equal(t, []string{"id"}, x.keys(t))
	require.Len(t, x.rows(t, "a"), 200)
}

// The same where the last page has no rows.
func TestAKeyThatIsThereIsNotMadeWithAPageWithoutRows(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
	x.exec(t, `ALTER TABLE a ADD PRIMARY KEY (id)`)
	require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), nil, 50)))
	require.Len(t, x.rows(t, "a"), 100)
}

// What the server doesn't let be altered is said with the statement: it is no table that has gone.
func TestAnAlterationThatTheTargetRefuses(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	x.exec(t, `CREATE TABLE a (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE rest PARTITION OF a DEFAULT`)
	w := x.claim(t, changefeed.Whole(), change.At(1))
	narrow := intKey("id", 1)
	narrow.Type = "integer"
	x.feed.create(relation("a", narrow, text("name")), "1", "row")
	require.NoError(t, w.Write(t.Context(), x.feed.batch()))
	x.feed.create(relation("a", intKey("id", 1), text("name")), "2", "row")
	requireFault(t, w.Write(t.Context(), x.feed.batch()), changefeed.CodeSinkRefused, "public.a", "ALTER COLUMN", "partition key")
}

// Two rows with one key, which somebody else wrote there, are a fault that says what can't be made, and nothing of the page stays.
func TestAKeyThatCantBeMade(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...)))
	x.exec(t, `INSERT INTO a VALUES (5, 'theirs')`)
	err := w.Write(t.Context(), x.page(x.key("100"), nil, 50, numbers(100, 200)...))
	requireFault(t, err, changefeed.CodeSinkRefused, "public.a", "ADD PRIMARY KEY", "could not create unique index")
	require.Len(t, x.rows(t, "a"), 101)
	x.exec(t, `DELETE FROM a WHERE name = 'theirs'`)
	w = x.claim(t, changefeed.Whole(), change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(x.key("100"), nil, 50, numbers(100, 200)...)))
	require.Equal(t, []string{"id"}, x.keys(t))
}

// A table that was there, empty and without a key, is not ours to give one to.
func TestATableOfOthersGetsNoKey(t *testing.T) {
	x := newKeyedRows(t)
	x.exec(t, `CREATE TABLE a (id bigint NOT NULL, name text)`)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	err := w.Write(t.Context(), x.page(nil, nil, 50, numbers(0, 100)...))
	requireFault(t, err, changefeed.CodeRequestInvalid, "no primary key", "ADD PRIMARY KEY")
}

// A table that is made for a change has its key from the start, and so has one of which a writer has a part.
func TestAKeyIsNotLateElsewhere(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Span{End: x.key("100")}, change.Mark{})
	require.NoError(t, w.Write(t.Context(), x.page(nil, x.key("50"), 50, numbers(0, 50)...)))
	require.Equal(t, []string{"id"}, x.keys(t))
}
