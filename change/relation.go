package change

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
)

// Relation is a table as its rows were when they were made. It is shared by rows and never changed; a table that is altered
// is another relation.
type Relation struct {
	Schema  string
	Name    string
	Columns []Column
}

// Column is a column of a table.
type Column struct {
	Name string
	// Type is the type as the source writes it, with its modifiers: "numeric(10,2)", "timestamp with time zone", "text[]".
	Type string
	// Number names the column for good, over renames: PostgreSQL's attnum. 0 where the source has none.
	Number int
	// Kind says how cells are read.
	Kind Kind
	// Key is the place in what identifies a row, from 1 on; 0: no part of it.
	Key int
	// Null says that the column may be NULL.
	Null bool
	// Generated says that the source computes the column from others.
	Generated bool
	// Added is what the rows hold that were there when the column was added. No change tells of it.
	Added Added
}

// Added is a value in its text form; Known is false where it is NULL, or nobody knows it any more.
type Added struct {
	Known bool
	Text  string
}

// AddedBytesMax is how long such a value may be: it goes with the relation wherever that goes. A longer one counts as not known.
const AddedBytesMax = 4 << 10

// Kind is how the text form of a cell is read. The zero value is text, which every value has.
type Kind uint8

// The kinds.
const (
	KindText  Kind = iota
	KindInt        // decimal, within 64 bits
	KindFloat      // decimal, NaN, Infinity or -Infinity
	KindBool       // t or f
	KindBytes      // \x and hexadecimal
)

// String returns the full name of the table.
func (r *Relation) String() string { return r.Schema + "." + r.Name }

// Keyed reports whether rows have an identity.
func (r *Relation) Keyed() bool {
	for i := range r.Columns {
		if r.Columns[i].Key > 0 {
			return true
		}
	}
	return false
}

// keyColumn returns which column has that place in the key, from 1 on; -1: none.
func (r *Relation) keyColumn(place int) int {
	return slices.IndexFunc(r.Columns, func(c Column) bool { return c.Key == place })
}

// Tuple is a row of a table.
type Tuple struct {
	Of *Relation
	// Cells are the values in their text form, in the relation's order; nil is NULL. They are read-only.
	Cells [][]byte
	// Unchanged says of which columns the value is not known, since the change left it alone; nil: of none.
	Unchanged []bool
	// KeyOnly says that only the columns of the key are known: the row before a change whose source tells no more.
	KeyOnly bool
}

// Known reports whether the value of the i-th column is known.
func (t *Tuple) Known(i int) bool {
	return (t.Unchanged == nil || !t.Unchanged[i]) && (!t.KeyOnly || t.Of.Columns[i].Key > 0)
}

// Columns implements [Row]: it yields the columns whose values are known.
func (t *Tuple) Columns(yield func(name string, value any) bool) {
	for i := range t.Of.Columns {
		if t.Known(i) && !yield(t.Of.Columns[i].Name, t.Of.Columns[i].Kind.value(t.Cells[i])) {
			return
		}
	}
}

// KeyColumns yields the columns of the key, in the key's order. A row without one yields nothing.
func (t *Tuple) KeyColumns(yield func(name string, value any) bool) {
	for place := 1; ; place++ {
		i := t.Of.keyColumn(place)
		if i < 0 || !yield(t.Of.Columns[i].Name, t.Of.Columns[i].Kind.value(t.Cells[i])) {
			return
		}
	}
}

// Memory of a tuple and of each of its cells, beside the values.
const (
	tupleOverheadBytes = 80
	cellOverheadBytes  = 24
)

// Size returns about how many bytes the row holds in memory. The relation is shared and not counted.
func (t *Tuple) Size() int {
	size := tupleOverheadBytes + cellOverheadBytes*len(t.Cells)
	for _, cell := range t.Cells {
		size += len(cell)
	}
	return size
}

// value reads a cell. One that is not of its kind is text.
func (k Kind) value(cell []byte) any {
	if cell == nil {
		return nil
	}
	switch k {
	case KindText:
	case KindInt:
		if n, err := strconv.ParseInt(string(cell), 10, 64); err == nil {
			return n
		}
	case KindFloat:
		if f, err := strconv.ParseFloat(string(cell), 64); err == nil {
			return f
		}
	case KindBool:
		switch string(cell) {
		case "t":
			return true
		case "f":
			return false
		}
	case KindBytes:
		if digits, found := bytes.CutPrefix(cell, []byte(`\x`)); found {
			if value, err := hex.AppendDecode([]byte{}, digits); err == nil {
				return value
			}
		}
	}
	return string(cell)
}
