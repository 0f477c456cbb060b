//go:build databases

package postgres_test

import (
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

func me() sink.Identity {
	return sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}
}

// relation makes a table of columns "name type", "name type key" and "name type null".
func relation(name string, columns ...change.Column) *change.Relation {
	return &change.Relation{Schema: "public", Name: name, Columns: columns}
}

func intKey(name string, place int) change.Column {
	return change.Column{Name: name, Type: "bigint", Kind: change.KindInt, Key: place}
}

func text(name string) change.Column { return change.Column{Name: name, Type: "text", Null: true} }

const null = "\x00null"

func cells(values ...string) [][]byte {
	out := make([][]byte, len(values))
	for i, value := range values {
		if value != null {
			out[i] = []byte(value)
		}
	}
	return out
}

// feed makes changes at positions that rise.
type feed struct {
	at      change.Position
	changes []change.Change
}

func (f *feed) add(op change.Op, before, after *change.Tuple) {
	c := change.Change{Position: f.at, Index: uint32(len(f.changes)), Op: op}
	row := after
	if before != nil {
		c.Before, row = before, before
	}
	if after != nil {
		c.After, row = after, after
	}
	c.Table = row.Of.String()
	start, _ := change.TableSpan(row.Of.Schema, row.Of.Name)
	c.Key = change.AppendKey(start, row.Of, row.Cells)
	f.changes = append(f.changes, c)
}

func (f *feed) create(of *change.Relation, values ...string) {
	f.add(change.OpCreate, nil, &change.Tuple{Of: of, Cells: cells(values...)})
}

func (f *feed) update(of *change.Relation, values ...string) {
	f.add(change.OpUpdate, nil, &change.Tuple{Of: of, Cells: cells(values...)})
}

func (f *feed) remove(of *change.Relation, values ...string) {
	f.add(change.OpDelete, &change.Tuple{Of: of, Cells: cells(values...), KeyOnly: of.Keyed()}, nil)
}

func (f *feed) batch() sink.Batch {
	out := sink.Batch{Changes: f.changes, Span: changefeed.Whole(), To: change.At(f.at)}
	f.changes, f.at = nil, f.at+1
	return out
}

// tablesTarget is a database that tables are written to.
type tablesTarget struct {
	*target
	sink sink.Sink
	seq  fence.Seq
	feed feed
}

func newTables(t testing.TB, options changefeed.Options) *tablesTarget {
	t.Helper()
	x := &tablesTarget{target: newTarget(t, options), feed: feed{at: 10}}
	x.sink = x.open(t, me(), sqltest.Way{Options: options, Layout: sqlsink.LayoutTables})
	require.NoError(t, x.sink.Raise(t.Context(), 2, sink.KnownNothing))
	return x
}

func (x *tablesTarget) claim(t testing.TB, span changefeed.Span, from change.Mark) sink.Writer {
	t.Helper()
	x.seq++
	w, err := x.sink.Claim(t.Context(), sink.Claim{Span: span, Token: fence.Mint(2, x.seq), From: from})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func (x *tablesTarget) rows(t testing.TB, table string) []string {
	t.Helper()
	return x.strings(t, "SELECT t::text FROM "+table+" t ORDER BY 1")
}

func TestRowsOfATable(t *testing.T) {
	x := newTables(t, nil)
	w := x.claim(t, changefeed.Whole(), change.At(1))
	a := relation("a", intKey("id", 1), text("name"), text("large"))
	f := &x.feed
	f.create(a, "1", "one", "x")
	f.create(a, "2", "two", null)
	f.update(a, "1", "uno", "x")
	f.create(a, "3", "three", "z")
	f.remove(a, "3", null, null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,uno,x)", "(2,two,)"}, x.rows(t, "a"))

	f.add(change.OpUpdate, nil, &change.Tuple{Of: a, Cells: cells("1", "eins", null), Unchanged: []bool{false, false, true}})
	f.remove(a, "2", null, null)
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,eins,x)"}, x.rows(t, "a"))

	// The key moves, and a column is left alone.
	f.add(change.OpUpdate, &change.Tuple{Of: a, Cells: cells("1", null, null), KeyOnly: true},
		&change.Tuple{Of: a, Cells: cells("7", "seven", null), Unchanged: []bool{false, false, true}})
	f.create(a, "1", "again", "y")
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"(1,again,y)", "(7,seven,x)"}, x.rows(t, "a"))

	for i := range 1000 {
		f.create(a, fmt.Sprint(100+i), "a\tb\\c\nd\re\x01", null)
	}
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Equal(t, []string{"1000"}, x.strings(t, `SELECT count(*)::text FROM a WHERE name = E'a\tb\\c\nd\re\x01' AND large IS NULL`))

	start, _ := change.TableSpan("public", "a")
	f.create(a, "5000", "gone", null)
	f.changes = append(f.changes, change.Change{Position: f.at, Index: 1, Op: change.OpTruncate, Table: "public.a", Key: start})
	require.NoError(t, w.Write(t.Context(), f.batch()))
	require.Empty(t, x.rows(t, "a"))
}

func itoa(n int) string { return fmt.Sprint(n) }
