package change_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

var notes = &change.Relation{Schema: "public", Name: "notes", Columns: []change.Column{
	{Name: "id", Kind: change.KindInt, Key: 1}, {Name: "a", Kind: change.KindText}, {Name: "b", Kind: change.KindText},
}}

// A row is what its line says, by the table of PostgreSQL's documentation of COPY.
func TestALineIsTakenApart(t *testing.T) {
	for line, want := range map[string][][]byte{
		"7\t\\N\t":    {[]byte("7"), nil, {}},
		"7\ta b\tü€😀": {[]byte("7"), []byte("a b"), []byte("ü€😀")},
		`7` + "\t" + `\b\f\n\r\t\v\\` + "\t" + `\\N`: {[]byte("7"), []byte("\b\f\n\r\t\v\\"), []byte(`\N`)},
		`7` + "\t" + `x\\y` + "\t" + `\.`:            {[]byte("7"), []byte(`x\y`), []byte(".")},
		`7` + "\t" + `NULL` + "\t" + `\`:             {[]byte("7"), []byte("NULL"), []byte(`\`)},
	} {
		cells, _, err := (&change.Lines{Of: notes}).Row([]byte(line + "\n"))
		require.NoError(t, err, "%q", line)
		require.Equal(t, want, cells, "%q", line)
	}
	for _, line := range []string{"", "7", "7\ta", "7\ta\tb\tc"} {
		_, _, err := (&change.Lines{Of: notes}).Row([]byte(line + "\n"))
		require.ErrorContains(t, err, "public.notes", "%q", line)
	}
}

func TestLinesAreTheChangesOfASnapshot(t *testing.T) {
	lines := &change.Lines{Of: notes, Text: []byte("7\ta\t\\N\n-12\t\\\\\t\\n\n"), Count: 2, First: 40}
	changes, err := lines.Changes(90)
	require.NoError(t, err)
	start, _ := change.TableSpan("public", "notes")
	want := []change.Change{
		{Position: 90, Index: 40, Op: change.OpRead, Table: "public.notes", After: &change.Tuple{Of: notes, Cells: [][]byte{[]byte("7"), []byte("a"), nil}}},
		{Position: 90, Index: 41, Op: change.OpRead, Table: "public.notes", After: &change.Tuple{Of: notes, Cells: [][]byte{[]byte("-12"), []byte(`\`), []byte("\n")}}},
	}
	for i := range want {
		want[i].Key = change.AppendKey(bytes.Clone(start), notes, want[i].After.(*change.Tuple).Cells)
	}
	require.Equal(t, want, changes)
	require.Greater(t, lines.Size(), len(lines.Text))

	for name, broken := range map[string]*change.Lines{
		"has no end": {Of: notes, Text: []byte("7\ta\tb"), Count: 1},
		"2 lines":    {Of: notes, Text: []byte("7\ta\tb\n8\ta\tb\n"), Count: 1},
		"2 cells":    {Of: notes, Text: []byte("7\ta\n"), Count: 1},
	} {
		_, err := broken.Changes(90)
		require.ErrorContains(t, err, name)
	}
}

// Whatever a cell holds, it is what was written.
func TestCellsOfAnyBytesComeBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a workload, not a secret
	alphabet := []byte("ab\\N\t\n\r\b\f\v.nrt\x00\xff")
	escape := bytes.NewBuffer(nil)
	for range 2000 {
		var want [][]byte
		escape.Reset()
		for i := range notes.Columns {
			if i > 0 {
				escape.WriteByte('\t')
			}
			if random.IntN(5) == 0 {
				want = append(want, nil)
				escape.WriteString(`\N`)
				continue
			}
			cell := make([]byte, random.IntN(6))
			for k := range cell {
				cell[k] = alphabet[random.IntN(len(alphabet))]
			}
			want = append(want, cell)
			for _, b := range cell {
				if at := bytes.IndexByte([]byte("\b\f\n\r\t\v\\"), b); at >= 0 {
					escape.WriteByte('\\')
					b = `bfnrtv\`[at]
				}
				escape.WriteByte(b)
			}
		}
		escape.WriteByte('\n')
		got, _, err := (&change.Lines{Of: notes}).Row(escape.Bytes())
		require.NoError(t, err)
		require.Equal(t, want, got, "%q", escape.Bytes())
	}
}
