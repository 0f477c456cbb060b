//go:build databases

package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// The change that the target does not take is named, with what its values are and not with what they say; without it the rest goes.
func TestARowThatATableRefuses(t *testing.T) {
	x := newTables(t, nil)
	x.exec(t, `CREATE TABLE a (id bigint PRIMARY KEY, name text CHECK (name <> 'secret'), n int)`)
	a := relation("a", intKey("id", 1), text("name"), change.Column{Name: "n", Type: "integer", Null: true})
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	for i := range 300 {
		f.create(a, itoa(i), "fine", "1")
	}
	f.create(a, "300", "secret", "1")
	f.create(a, "301", "fine", "1")
	batch := f.batch()
	err := w.Write(t.Context(), batch)
	requireFault(t, err, changefeed.CodeSinkRefused, "table public.a", "create", "public.a:0000000000000000300", "position 10, index 300", "name text of 6 bytes",
		"violates check constraint", "changefeed skip default/orders --position 10 --index 300")
	require.NotContains(t, err.Error(), "secret")
	require.Empty(t, x.rows(t, "a"))
	w = x.claim(t, changefeed.Whole(), change.At(1))
	batch.Changes = append(append([]change.Change(nil), batch.Changes[:300]...), batch.Changes[301:]...)
	require.NoError(t, w.Write(t.Context(), batch))
	require.Len(t, x.rows(t, "a"), 301)

	f.create(a, "400", "fine", "not a number")
	err = w.Write(t.Context(), f.batch())
	requireFault(t, err, changefeed.CodeSinkRefused, "position 11, index 0", "invalid input syntax for type integer", "n integer of 12 bytes")
	require.NotContains(t, err.Error(), "not a number")
}

// What unique indexes and foreign keys of the target want of the order, which gathering does not keep, is given to them.
func TestOrderThatTheTargetWants(t *testing.T) {
	x := newTables(t, nil)
	x.exec(t, `CREATE TABLE a (id bigint PRIMARY KEY, name text UNIQUE); CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a)`)
	a := relation("a", intKey("id", 1), text("name"))
	b := relation("b", intKey("id", 1), change.Column{Name: "a", Type: "bigint", Kind: change.KindInt, Null: true})
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	f.create(a, "1", "x")
	f.create(b, "1", "1")
	f.create(a, "2", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.update(a, "1", "z") // makes room
	f.create(a, "3", "x")
	f.update(a, "2", "w")
	f.update(a, "1", "y")
	f.update(b, "1", "3")
	f.remove(a, "1", null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(2,w)", "(3,x)"}, x.rows(t, "a"))
	require.Equal(t, []string{"(1,3)"}, x.rows(t, "b"))
}

// A target that others wrote to gets the source's rows all the same, unless something of them is not known.
func TestRowsThatOthersWroteOrDeleted(t *testing.T) {
	x := newTables(t, nil)
	x.exec(t, `CREATE TABLE a (id bigint PRIMARY KEY, name text, large text)`)
	x.exec(t, `INSERT INTO a SELECT n, 'theirs' FROM generate_series(1, 200) n`)
	a := relation("a", intKey("id", 1), text("name"), text("large"))
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	for i := range 300 {
		f.create(a, itoa(i), "ours", null)
	}
	f.update(a, "1000", "ours", null)
	f.remove(a, "2000", null, null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"301"}, x.strings(t, "SELECT count(*)::text FROM a WHERE name = 'ours'"))
	f.create(a, "5", "again", null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.add(change.OpUpdate, nil, &change.Tuple{Of: a, Cells: cells("3000", "x", null), Unchanged: []bool{2: true}})
	requireFault(t, w.Write(t.Context(), f.batch()), changefeed.CodeSinkRefused, "position 12, index 0", "is not there")
}

// A table without a key has each row once, and loses one for one; what does not tell the whole row is refused.
func TestATableWithoutAKey(t *testing.T) {
	x := newTables(t, nil)
	a := relation("a", text("name"), change.Column{Name: "data", Type: "json", Null: true})
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	for range 150 {
		f.create(a, "same", `{"a":1}`)
	}
	f.create(a, "other", null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	f.remove(a, "same", `{"a":1}`)
	f.create(a, "same", `{"a": 1}`)
	f.remove(a, "same", `{"a":1}`)
	f.add(change.OpUpdate, &change.Tuple{Of: a, Cells: cells("other", null)}, &change.Tuple{Of: a, Cells: cells("changed", null), Unchanged: []bool{1: true}})
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"changed 1", "same 148", "same 1"},
		x.strings(t, "SELECT name || ' ' || count(*) FROM a GROUP BY name, data::text ORDER BY name, data::text DESC NULLS LAST"))
	f.add(change.OpUpdate, nil, &change.Tuple{Of: a, Cells: cells("x", null)})
	requireFault(t, w.Write(t.Context(), f.batch()), changefeed.CodeSinkRefused, "public.a", "REPLICA IDENTITY FULL", "index 0")
}

// A page is everything that a range of keys has: of several tables, and of what is in between; other rows go, outside they stay.
func TestPagesOfTables(t *testing.T) {
	x := newTables(t, nil)
	pair := func(name string) *change.Relation {
		return relation(name, intKey("id", 1), change.Column{Name: "name", Type: "text", Key: 2}, text("v"))
	}
	a, b, c := pair("a"), pair("b"), pair("c")
	for _, table := range []string{"a", "b", "c"} {
		x.exec(t, "CREATE TABLE "+table+" (id bigint, name text, v text, PRIMARY KEY (id, name))")
		x.exec(t, "INSERT INTO "+table+" SELECT i, n, 'stale' FROM generate_series(-3, 3) i, unnest(ARRAY['', 'B', 'a', 'ä']) n")
	}
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	for _, of := range []*change.Relation{a, b, c} { // from now on they are ours
		f.create(of, "9", "x", "live")
	}
	require.NoError(t, w.Write(t.Context(), f.batch()))
	start := func(of *change.Relation, values ...string) []byte {
		start, _ := change.TableSpan(of.Schema, of.Name)
		return change.AppendKey(start, of, cells(values...))
	}
	f.create(a, "1", "a", "new")
	f.create(a, "2", "B", "new")
	f.create(c, "-2", "a", "new")
	page := f.batch()
	page.Span = changefeed.Span{Start: start(a, "1", "a"), End: start(c, "-2", "a\x00")}
	page.Snapshot = true
	for i := range page.Changes {
		page.Changes[i].Op = change.OpRead
	}
	require.NoError(t, w.Write(t.Context(), page))
	got := x.strings(t, `SELECT string_agg(id || name, ' ' ORDER BY id, name COLLATE "C") FROM a WHERE v <> 'stale'`)
	require.Equal(t, []string{"1a 2B"}, got)
	require.Equal(t, []string{"18"}, x.strings(t, "SELECT count(*)::text FROM a WHERE v = 'stale'"), "below the page")
	require.Empty(t, x.rows(t, "b"))
	require.Equal(t, []string{"-2ä -1 -1B", "-2a 9x"}, []string{
		strings.Join(strings.Fields(x.strings(t, `SELECT string_agg(id || name, ' ' ORDER BY id, name COLLATE "C") FROM c WHERE v = 'stale'`)[0])[:3], " "),
		x.strings(t, `SELECT string_agg(id || name, ' ' ORDER BY id, name COLLATE "C") FROM c WHERE v <> 'stale'`)[0],
	})
	// Nothing else changed what comes again.
	page.Changes = nil
	require.NoError(t, w.Write(t.Context(), sink.Batch{Span: changefeed.Whole(), To: change.At(99), Snapshot: true}))
	require.Empty(t, append(append(x.rows(t, "a"), x.rows(t, "b")...), x.rows(t, "c")...))
}
