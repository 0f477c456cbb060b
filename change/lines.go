package change

import (
	"bytes"
	"fmt"
	"slices"
)

// Lines are rows of one table, whole and new, as a PostgreSQL writes them for bulk and reads them again: where both ends are one,
// rows pass without being taken apart. Source of the form: PostgreSQL's documentation, COPY, "Text Format".
type Lines struct {
	Of *Relation
	// Text are the rows: of [LinesText] a line each, cells in the relation's order between tabs, NULL as \N, and what would be taken for
	// one of these behind a backslash. It is read-only.
	Text []byte
	// Form is how the rows stand in Text.
	Form LinesForm
	// Count is how many rows there are, and First the Index of the first of them.
	Count int
	First uint32
}

// LinesForm is one of the two forms of COPY.
type LinesForm uint8

// The forms. All types of [LinesBinary] are of those of [BinaryRows]; what comes before its first row and after its last is left out.
const (
	LinesText LinesForm = iota
	LinesBinary
)

// linesOverheadBytes is the memory of a Lines beside its text.
const linesOverheadBytes = 64

// Size returns about how many bytes the rows hold in memory.
func (l *Lines) Size() int { return linesOverheadBytes + len(l.Text) }

// Changes takes the rows apart: each is what a snapshot shows at the position. Their cells share memory with the text.
func (l *Lines) Changes(at Position) ([]Change, error) {
	start, _ := TableSpan(l.Of.Schema, l.Of.Name)
	out := make([]Change, 0, l.Count)
	name := l.Of.String()
	for rest := l.Text; len(rest) > 0; {
		cells, more, err := l.Row(rest)
		if err != nil {
			return nil, err
		}
		out = append(out, Change{
			Position: at, Index: l.First + uint32(len(out)), Op: OpRead, Table: name, //nolint:gosec // of one page
			Key: AppendKey(slices.Clip(start), l.Of, cells), After: &Tuple{Of: l.Of, Cells: cells},
		})
		rest = more
	}
	if len(out) != l.Count {
		return nil, fmt.Errorf("change: %d lines of %s where there are to be %d", len(out), name, l.Count)
	}
	return out, nil
}

// Row takes the first row of a part of the text apart. Cells may share memory with it.
func (l *Lines) Row(text []byte) (cells [][]byte, rest []byte, err error) {
	if l.Form == LinesBinary {
		return l.Of.binaryCells(text)
	}
	line, rest, ended := bytes.Cut(text, newline)
	if !ended {
		return nil, nil, fmt.Errorf("change: the last line of %s has no end", l.Of)
	}
	cells, err = l.Of.cells(line)
	return cells, rest, err
}

var (
	newline = []byte{'\n'} //nolint:gochecknoglobals // read only
	tab     = []byte{'\t'} //nolint:gochecknoglobals // read only
	null    = []byte(`\N`) //nolint:gochecknoglobals // read only
)

// cells takes a line apart, without its end.
func (r *Relation) cells(line []byte) ([][]byte, error) {
	if len(r.Columns) == 0 && len(line) == 0 {
		return nil, nil
	}
	out := make([][]byte, 0, len(r.Columns))
	for more := true; more; {
		var cell []byte
		cell, line, more = bytes.Cut(line, tab)
		if bytes.Equal(cell, null) {
			out = append(out, nil)
			continue
		}
		out = append(out, unescaped(slices.Clip(cell)))
	}
	if len(out) != len(r.Columns) {
		return nil, fmt.Errorf("change: a line of %s has %d cells, not %d", r, len(out), len(r.Columns))
	}
	return out, nil
}

// escapes are what stands for itself nowhere; everything else behind a backslash does.
var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'} //nolint:gochecknoglobals // read only

// unescaped returns a cell as it was. It is never nil, which is NULL.
func unescaped(cell []byte) []byte {
	at := bytes.IndexByte(cell, '\\')
	if at < 0 {
		return cell
	}
	out := append(make([]byte, 0, len(cell)), cell[:at]...)
	for i := at; i < len(cell); i++ {
		b := cell[i]
		if b == '\\' && i+1 < len(cell) {
			i++
			b = cell[i]
			if stands, escaped := escapes[b]; escaped {
				b = stands
			}
		}
		out = append(out, b)
	}
	return out
}

// plainFrom is how long a cell is at least that is searched for what is to be escaped, which then takes less time than to look at each byte.
const plainFrom = 24

// AppendCell appends a cell as the text form of lines has it, nil as NULL. Cells have mostly nothing to escape.
func AppendCell(out, cell []byte) []byte {
	if cell == nil {
		return append(out, null...)
	}
	if len(cell) >= plainFrom && plain(cell) {
		return append(out, cell...)
	}
	start := 0
	for i, b := range cell {
		var as byte
		switch b {
		case '\\':
			as = '\\'
		case '\t':
			as = 't'
		case '\n':
			as = 'n'
		case '\r':
			as = 'r'
		default:
			continue
		}
		out = append(append(out, cell[start:i]...), '\\', as)
		start = i + 1
	}
	return append(out, cell[start:]...)
}

// plain reports whether there is nothing to escape.
func plain(cell []byte) bool {
	return bytes.IndexByte(cell, '\\') < 0 && bytes.IndexByte(cell, '\t') < 0 && bytes.IndexByte(cell, '\n') < 0 && bytes.IndexByte(cell, '\r') < 0
}
