package change_test

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

func key(kind change.Kind, cells ...string) []byte {
	of := &change.Relation{Schema: "public", Name: "a"}
	var values [][]byte
	for i, cell := range cells {
		of.Columns = append(of.Columns, change.Column{Name: "c" + strconv.Itoa(i), Kind: kind, Key: i + 1})
		values = append(values, []byte(cell))
	}
	start, _ := change.TableSpan(of.Schema, of.Name)
	return change.AppendKey(start, of, values)
}

func TestKeysOfNumbersSortAsTheNumbers(t *testing.T) {
	numbers := []int64{math.MinInt64, -1 << 40, -10, -9, -1, 0, 1, 9, 10, 1 << 40, math.MaxInt64}
	var keys [][]byte
	for _, n := range numbers {
		text := strconv.FormatInt(n, 10)
		keys = append(keys, key(change.KindInt, text))
		parsed, err := change.ParseTableKey(keys[len(keys)-1])
		require.NoError(t, err)
		cell, ok := change.KeyCell(change.KindInt, parsed.Values[0])
		require.True(t, ok)
		require.Equal(t, text, cell)
	}
	require.True(t, slices.IsSortedFunc(keys, bytes.Compare))
}

func TestAKeyOfAPrefixSortsBeforeAllThatHaveMore(t *testing.T) {
	require.Negative(t, bytes.Compare(key(change.KindText, "a", "z"), key(change.KindText, "a!", "a")))
	start, end := change.TableSpan("public", "a")
	require.Positive(t, bytes.Compare(key(change.KindText, "\uffff"), start))
	require.Negative(t, bytes.Compare(key(change.KindText, "\uffff"), end))
}

func TestNamesKeepTheirTablesApart(t *testing.T) {
	names := map[string][2]string{}
	for _, name := range [][2]string{{"a", "b"}, {"a.b", "c"}, {"a", "b.c"}, {"a:", "b"}, {"a", "b;"}, {"a%2E", "b"}, {"a", ""}} {
		start, end := change.TableSpan(name[0], name[1])
		require.NotContains(t, names, string(start))
		names[string(start)] = name
		parsed, err := change.ParseTableKey(start)
		require.NoError(t, err)
		require.Equal(t, change.TableKey{Schema: name[0], Table: name[1]}, parsed)
		for _, other := range slices.Sorted(maps.Keys(names)) {
			inside := bytes.Compare([]byte(other), start) >= 0 && bytes.Compare([]byte(other), end) < 0
			require.Equal(t, other == string(start), inside, "%s in %s", other, start)
		}
	}
}

func TestATupleYieldsWhatIsKnown(t *testing.T) {
	of := &change.Relation{Schema: "public", Name: "a", Columns: []change.Column{
		{Name: "id", Kind: change.KindInt, Key: 1},
		{Name: "f", Kind: change.KindFloat},
		{Name: "b", Kind: change.KindBool},
		{Name: "raw", Kind: change.KindBytes},
		{Name: "text"},
		{Name: "none"},
		{Name: "large"},
	}}
	row := &change.Tuple{
		Of: of, Cells: [][]byte{[]byte("7"), []byte("NaN"), []byte("t"), []byte(`\x00ff`), []byte("x"), nil, nil},
		Unchanged: []bool{6: true},
	}
	got := map[string]any{}
	row.Columns(func(name string, value any) bool { got[name] = value; return true })
	require.True(t, math.IsNaN(got["f"].(float64)))
	delete(got, "f")
	require.Equal(t, map[string]any{"id": int64(7), "b": true, "raw": []byte{0, 255}, "text": "x", "none": nil}, got)
	before := &change.Tuple{Of: of, Cells: [][]byte{[]byte("7"), nil, nil, nil, nil, nil, nil}, KeyOnly: true}
	got = map[string]any{}
	before.Columns(func(name string, value any) bool { got[name] = value; return true })
	require.Equal(t, map[string]any{"id": int64(7)}, got)
	require.Positive(t, row.Size())
}

func TestARowThatMovedSaysWhereFrom(t *testing.T) {
	of := &change.Relation{Schema: "public", Name: "a", Columns: []change.Column{{Name: "id", Kind: change.KindInt, Key: 1}, {Name: "large"}}}
	old := &change.Tuple{Of: of, Cells: [][]byte{[]byte("7"), nil}, KeyOnly: true}
	update := change.Change{Op: change.OpUpdate, Before: old}
	from, moved := update.Moved()
	require.True(t, moved)
	require.Equal(t, key(change.KindInt, "7"), from)
	for _, other := range []change.Change{
		{Op: change.OpDelete, Before: old},
		{Op: change.OpUpdate},
		{Op: change.OpUpdate, Before: &change.Tuple{Of: of, Cells: old.Cells}},
	} {
		_, moved := other.Moved()
		require.False(t, moved)
	}
}

func FuzzTableKey(f *testing.F) {
	f.Add([]byte("public.a:0000000000000000007"))
	f.Add([]byte("a%2Eb.c:x\x00y"))
	f.Add([]byte("a.:"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := change.ParseTableKey(data)
		if err != nil {
			return
		}
		for _, value := range parsed.Values {
			if text, ok := change.KeyCell(change.KindInt, value); ok {
				_, err := strconv.ParseInt(text, 10, 64)
				require.NoError(t, err)
			}
		}
	})
}
