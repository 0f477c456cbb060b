//go:build databases

package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

func column(name, kind string, number int) change.Column {
	return change.Column{Name: name, Type: kind, Number: number, Null: true}
}

// forms of one table, one after another.
func forms() (first, second, third *change.Relation) {
	id := intKey("id", 1)
	id.Number = 1
	first = relation("a", id, column("a", "integer", 2), column("b", "character varying(3)", 3), column("c", "text", 4))
	second = relation("a", id, column("a", "bigint", 2), column("renamed", "character varying(9)", 3), column("d", "numeric(5,2)", 5))
	third = relation("a", id, column("a", "bigint", 2), column("d", "numeric(5,2)", 5), column("c", "jsonb", 6))
	return first, second, third
}

func requireFault(t testing.TB, err error, code changefeed.Code, words ...string) *changefeed.Fault {
	t.Helper()
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, fault.Code, "%v", err)
	require.NotEmpty(t, fault.Cure)
	for _, word := range words {
		require.Contains(t, err.Error(), word)
	}
	return fault
}

func (x *tablesTarget) shape(t testing.TB, table string) []string {
	t.Helper()
	return x.strings(t, `SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = '`+table+`'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`)
}

func TestASchemaChangeIsABarrier(t *testing.T) {
	var x *tablesTarget
	sqltest.RunBarrier(t, sqltest.BarrierTarget{
		Type: "text",
		Open: func(t testing.TB, options changefeed.Options) sink.Sink {
			x = newTables(t, options)
			return x.sink
		},
		Columns: func(t testing.TB, table string) []string {
			return x.strings(t, "SELECT column_name FROM information_schema.columns WHERE table_name = '"+table+"' ORDER BY column_name")
		},
		Strings: func(t testing.TB, query string) []string { return x.strings(t, query) },
	})
}

// The target follows the source, in the transaction of the first row of each form.
func TestATableEvolves(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	first, second, third := forms()
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	write := func() {
		t.Helper()
		require.NoError(t, w.Write(t.Context(), f.batch()))
	}
	f.create(first, "1", "2", "abc", "gone")
	write()
	f.create(first, "2", "3", "old", "gone")
	f.create(second, "3", "9000000000", "abcdefghi", "1.50") // in one transaction of the source
	write()
	require.Equal(t, []string{"a bigint", "d numeric(5,2)", "id bigint", "renamed character varying(9)"}, x.shape(t, "a"))
	require.Equal(t, []string{"(1,2,abc,)", "(2,3,old,)", "(3,9000000000,abcdefghi,1.50)"}, x.rows(t, "a"))
	f.create(third, "4", "5", "2.00", "{}")
	write()
	require.Equal(t, []string{"a bigint", "c jsonb", "d numeric(5,2)", "id bigint"}, x.shape(t, "a"))
	require.Contains(t, x.strings(t, "SELECT altered FROM fencerow.tables")[0], `DROP COLUMN "renamed"`)
}

// Rows that are there when a column is added get what the source's had at once, also those of an older form that come later, be the
// table made or altered.
func TestAColumnIsAddedWithWhatRowsHave(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	w := x.claim(t, changefeed.Whole(), change.At(1))
	id := intKey("id?", 1)
	id.Number = 1
	added := column("v", "character varying(9)", 2)
	added.Added = change.Added{Known: true, Text: `it's \ ?`}
	more := column("l", "integer[]", 3)
	more.Added = change.Added{Known: true, Text: "{1,2}"}
	for _, made := range []bool{false, true} {
		name := fmt.Sprintf("a?%t", made)
		old, next := relation(name, id), relation(name, id, added, more)
		f := &x.feed
		if made { // by a page of a snapshot, which may be ahead
			f.create(next, "1", "own", "{}")
			page := f.batch()
			page.Snapshot, page.Changes[0].Op = true, change.OpRead
			page.Span.Start, page.Span.End = change.TableSpan("public", name)
			require.NoError(t, w.Write(t.Context(), page))
		} else {
			f.create(old, "1")
			require.NoError(t, w.Write(t.Context(), f.batch()))
			f.at += 10
			f.create(next, "2", "own", null)
			require.NoError(t, w.Write(t.Context(), f.batch()))
			require.Equal(t, []string{`(1,"it's \\ ?","{1,2}")`, "(2,own,)"}, x.rows(t, `"`+name+`"`))
			f.at -= 10
		}
		f.create(old, "3")
		batch := f.batch()
		f.at += 20
		f.create(next, "4", null, "{}")
		last := f.batch()
		last.Changes = append(batch.Changes, last.Changes...)
		require.NoError(t, w.Write(t.Context(), last))
		rows := x.rows(t, `"`+name+`"`)
		require.Contains(t, rows, `(3,"it's \\ ?","{1,2}")`)
		require.Contains(t, rows, "(4,,{})")
	}
}

// Where values could be lost the changefeed stops also with evolve, says what to run, and goes on when that was done.
func TestATableStops(t *testing.T) {
	for _, schema := range []string{"stop", "evolve"} {
		x := newTables(t, changefeed.Options{"schema": schema})
		first, second, _ := forms()
		narrow := relation("a", first.Columns[0], column("a", "integer", 2), column("b", "date", 3), column("c", "text", 4))
		w := x.claim(t, changefeed.Whole(), change.At(1))
		f := &x.feed
		f.create(first, "1", "2", "abc", "x")
		require.NoError(t, w.Write(t.Context(), f.batch()))
		f.create(narrow, "2", "3", "2024-01-01", "y")
		batch := f.batch()
		fault := requireFault(t, w.Write(t.Context(), batch), changefeed.CodeRequestInvalid, "public.a", "column b", "character varying(3)", "date",
			`ALTER TABLE "public"."a" ALTER COLUMN "b" TYPE date USING "b"::date`, "changefeed resume default/orders")
		require.True(t, fault.Permanent)
		require.Equal(t, []string{"(1,2,abc,x)"}, x.rows(t, "a"))
		x.exec(t, `ALTER TABLE a ALTER COLUMN b TYPE date USING '2020-01-01'`)
		w = x.claim(t, changefeed.Whole(), change.At(1))
		require.NoError(t, w.Write(t.Context(), batch))
		require.Equal(t, []string{"(1,2,2020-01-01,x)", "(2,3,2024-01-01,y)"}, x.rows(t, "a"))
		if schema == "stop" {
			f.create(second, "3", "4", "abcdefg", "1.00")
			requireFault(t, w.Write(t.Context(), f.batch()), changefeed.CodeRequestInvalid,
				`RENAME COLUMN "b" TO "renamed"`, `ADD COLUMN "d" numeric(5,2)`, `TYPE bigint`)
		}
	}
}

func TestATableIgnores(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "ignore"})
	first, second, _ := forms()
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	f.create(first, "1", "2", "abc", "x")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.create(second, "2", "3", "abcdefg", "1.00")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,2,abc,x)", "(2,3,,)"}, x.rows(t, "a"))
}

// What a page of a snapshot shows may be younger than the changes that follow it: nothing is dropped for that.
func TestAPageThatIsAheadDropsNothing(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	first, _, _ := forms()
	more := relation("a", append(append([]change.Column(nil), first.Columns...), column("d", "integer", 5))...)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	f := &x.feed
	f.create(more, "1", "2", "abc", "x", "7")
	page := f.batch()
	page.Snapshot, page.Changes[0].Op = true, change.OpRead
	require.NoError(t, w.Write(t.Context(), page))
	f.create(first, "2", "3", "def", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.create(more, "3", "4", "ghi", "z", "8")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,2,abc,x,7)", "(2,3,def,y,)", "(3,4,ghi,z,8)"}, x.rows(t, "a"))
}

func TestTablesThatDoNotFit(t *testing.T) {
	a := relation("a", intKey("id", 1), change.Column{Name: "n", Type: "numeric(10,2)", Null: true})
	for name, one := range map[string]struct {
		options changefeed.Options
		make    string
		code    changefeed.Code
		words   []string
	}{
		"missing": {
			changefeed.Options{"create_tables": "false"},
			"", changefeed.CodeRequestInvalid,
			[]string{"public.a", `CREATE TABLE "public"."a" ("id" bigint NOT NULL, "n" numeric(10,2), PRIMARY KEY ("id"))`},
		},
		"too few columns": {nil, `CREATE TABLE a (id bigint PRIMARY KEY)`, changefeed.CodeRequestInvalid, []string{"column n", "missing", `ADD COLUMN "n" numeric(10,2)`}},
		"too narrow":      {nil, `CREATE TABLE a (id int PRIMARY KEY, n numeric)`, changefeed.CodeRequestInvalid, []string{"id", "integer", "bigint", `TYPE bigint`}},
		"rounds":          {nil, `CREATE TABLE a (id bigint PRIMARY KEY, n numeric(10,1))`, changefeed.CodeRequestInvalid, []string{"n", "numeric(10,1)", "numeric(10,2)"}},
		"no key":          {nil, `CREATE TABLE a (id bigint, n numeric)`, changefeed.CodeRequestInvalid, []string{"no primary key", `ADD PRIMARY KEY ("id")`}},
		"partial key":     {nil, `CREATE TABLE a (id bigint, n numeric); CREATE UNIQUE INDEX ON a (id) WHERE n > 0`, changefeed.CodeRequestInvalid, []string{"no primary key"}},
		"wants more": {
			nil, `CREATE TABLE a (id bigint PRIMARY KEY, n numeric, more int NOT NULL)`, changefeed.CodeRequestInvalid,
			[]string{"more", "NOT NULL", `ALTER COLUMN "more" DROP NOT NULL`},
		},
		"lost": {nil, `CREATE TABLE a (id bigint PRIMARY KEY, n numeric); DROP TABLE a; CREATE VIEW a AS SELECT 1`, changefeed.CodeSinkRefused, []string{"public.a", "CREATE TABLE"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTables(t, one.options)
			if one.make != "" {
				x.exec(t, one.make)
			}
			w := x.claim(t, changefeed.Whole(), change.At(1))
			x.feed.create(a, "1", "2.00")
			fault := requireFault(t, w.Write(t.Context(), x.feed.batch()), one.code, one.words...)
			require.True(t, fault.Permanent)
		})
	}
}

// A table may have more than the source, and wider types.
func TestATableThatFits(t *testing.T) {
	x := newTables(t, changefeed.Options{"rename": `public.a:"Odd Schema"."My.Table"`, "rename_columns": `public.a.n:"Odd ""Column"`})
	x.exec(t, `CREATE SCHEMA "Odd Schema"; CREATE TABLE "Odd Schema"."My.Table" (
		"Odd ""Column" numeric, id numeric UNIQUE, always bigint GENERATED ALWAYS AS IDENTITY, twice numeric GENERATED ALWAYS AS (id * 2) STORED)`)
	w := x.claim(t, changefeed.Whole(), change.At(1))
	a := relation("a", intKey("id", 1), change.Column{Name: "n", Type: "numeric(10,2)", Null: true}, change.Column{Name: "g", Type: "text", Generated: true})
	f := &x.feed
	f.create(a, "1", "2.00", null)
	f.update(a, "1", "3.00", null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.update(a, "1", "4.00", null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(4.00,1,1,2)"}, x.rows(t, `"Odd Schema"."My.Table"`))
}

// A table belongs to one changefeed, from the transaction of its first row until the changefeed is removed.
func TestATableIsTaken(t *testing.T) {
	x := newTables(t, nil)
	a, b := relation("a", intKey("id", 1)), relation("b", intKey("id", 1))
	w := x.claim(t, changefeed.Whole(), change.At(1))
	x.feed.create(a, "1")
	require.NoError(t, w.Write(t.Context(), x.feed.batch()))
	for _, other := range []sink.Identity{
		{Cluster: "c2", Changefeed: me().Changefeed, UID: me().UID},
		{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "bills"}, UID: "uid-2"},
	} {
		s := x.open(t, other, sqltest.Way{Layout: sqlsink.LayoutTables})
		require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
		claim := sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)}
		theirs, err := s.Claim(t.Context(), claim)
		require.NoError(t, err)
		x.feed.create(b, "1")
		x.feed.create(a, "2")
		requireFault(t, theirs.Write(t.Context(), x.feed.batch()), changefeed.CodeSinkInUse, "default/orders", "c1")
		require.Empty(t, x.strings(t, "SELECT 1::text FROM pg_class WHERE relname = 'b'"))
	}
	moved := x.open(t, me(), sqltest.Way{Layout: sqlsink.LayoutTables, Options: changefeed.Options{"rename": "public.a:public.z"}})
	again, err := moved.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 9)})
	require.NoError(t, err)
	x.feed.create(a, "3")
	requireFault(t, again.Write(t.Context(), x.feed.batch()), changefeed.CodeSinkInUse, "public.a", "public.z")
	require.NoError(t, x.sink.Remove(t.Context(), 3))
	require.Empty(t, x.strings(t, "SELECT target FROM fencerow.targets UNION ALL SELECT target FROM fencerow.tables"))
	require.Equal(t, []string{"(1)"}, x.rows(t, "a"))

	two := newTables(t, changefeed.Options{"rename": "public.a:public.b"})
	w = two.claim(t, changefeed.Whole(), change.At(1))
	two.feed.create(a, "1")
	two.feed.create(b, "1")
	requireFault(t, w.Write(t.Context(), two.feed.batch()), changefeed.CodeRequestInvalid, "public.b", "two tables")
}

// A column that the source has dropped since comes without its number: it is the one of that name, so that nothing is made anew.
func TestAColumnWhoseNumberTheSourceHasLost(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	id := intKey("id", 1)
	id.Number = 1
	form := func(name string, number int) *change.Relation {
		return relation("a", id, column(name, "text", number), column("b", "text", 3))
	}
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	f.create(form("a", 2), "1", "x", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.create(form("a", 0), "2", "xx", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,x,y)", "(2,xx,y)"}, x.rows(t, "a"))
	f.create(form("a", 0), "3", "xxx", "y") // in one transaction of the source
	f.create(form("r", 2), "4", "xxxx", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"b text", "id bigint", "r text"}, x.shape(t, "a"))
	require.Equal(t, []string{"(1,x,y)", "(2,xx,y)", "(3,xxx,y)", "(4,xxxx,y)"}, x.rows(t, "a"))
	require.Equal(t, []string{`ALTER TABLE "public"."a" RENAME COLUMN "a" TO "r"`}, x.strings(t, "SELECT altered FROM fencerow.tables"))
}
