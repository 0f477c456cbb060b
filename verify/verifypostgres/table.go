package verifypostgres

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"fencerow/verify"
)

// Column is a column of one side.
type Column struct {
	Name string
	// As is the type to which its values are brought, where the other side keeps what was written in that: their text is read as
	// a value of it, as a sink has it done. "": none.
	As string
}

// Relation is a table as one side has it. What stands at one place of Key and of Columns is compared.
type Relation struct {
	Schema, Name string
	Only         bool // without tables that inherit from it
	Key          []Column
	Columns      []Column // with those of the key
}

// Table is a table of which both sides have a relation.
type Table struct {
	Name    string   // as people know it: the source's "schema.table"
	Columns []string // names for people
	// Apart says that the two sides have its rows in different orders.
	Apart bool
	// Absent says that this side has no such table, which is as good as one without rows, while it has not.
	Absent bool
	Relation
}

func (t *Table) whole() bool { return len(t.Key) == 0 }

func (t *Table) full() string { return quote(t.Schema) + "." + quote(t.Relation.Name) }

func (t *Table) from() string {
	if t.Only {
		return "ONLY " + t.full()
	}
	return t.full()
}

// expression is the value of a column, brought to its type.
func (c Column) expression() string {
	if c.As == "" {
		return quote(c.Name)
	}
	return "CASE WHEN " + quote(c.Name) + " IS NOT NULL THEN concat(" + quote(c.Name) + ")::" + c.As + " END"
}

// key writes the key of a row as JSON: the same bytes at both sides. concat gives what the type's output function says, where a
// cast to text has ideas of its own (boolean, character(n), inet).
func (t *Table) key() string {
	cells := make([]string, len(t.Key))
	for i, column := range t.Key {
		cells[i] = "concat(" + column.expression() + ")"
	}
	return "json_build_array(" + strings.Join(cells, ", ") + ")::text"
}

// digest digests a row. The text of a record is made by the output functions, and tells NULL from an empty text, and cells from
// one another.
func (t *Table) digest() string {
	cells := make([]string, len(t.Relation.Columns))
	for i, column := range t.Relation.Columns {
		cells[i] = column.expression()
	}
	return "md5(ROW(" + strings.Join(cells, ", ") + ")::text)"
}

// columnDigests digest the columns one by one.
func (t *Table) columnDigests() string {
	var out strings.Builder
	for _, column := range t.Relation.Columns {
		out.WriteString(", md5(ROW(" + column.expression() + ")::text)")
	}
	return out.String()
}

// Version is another one after each write: who wrote the row, and where it lies.
const Version = "xmin::text || ctid::text || tableoid::text"

func (t *Table) cells(key string) ([]string, error) {
	var cells []string
	if err := json.Unmarshal([]byte(key), &cells); err != nil || len(cells) != len(t.Key) {
		return nil, fmt.Errorf("verify postgres: %.100q is no key of %s", key, t.Name)
	}
	return cells, nil
}

// within is the condition that a row lies in a chunk.
func (t *Table) within(chunk verify.Chunk) (where string, arguments []string, err error) {
	var conditions []string
	for _, border := range []struct{ than, key string }{{">", chunk.From}, {"<=", chunk.To}} {
		if border.key == "" {
			continue
		}
		cells, err := t.cells(border.key)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, "("+t.keys("")+") "+border.than+" "+numbered(len(arguments), len(cells)))
		arguments = append(arguments, cells...)
	}
	if len(conditions) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), arguments, nil
}

// among is the condition that a row has one of these keys.
func (t *Table) among(keys []string) (where string, arguments []string, err error) {
	rows := make([]string, len(keys))
	for i, key := range keys {
		cells, err := t.cells(key)
		if err != nil {
			return "", nil, err
		}
		rows[i] = numbered(len(arguments), len(cells))
		arguments = append(arguments, cells...)
	}
	return " WHERE (" + t.keys("") + ") IN (" + strings.Join(rows, ", ") + ")", arguments, nil
}

// keys lists the columns of the key.
func (t *Table) keys(order string) string {
	out := make([]string, len(t.Key))
	for i, column := range t.Key {
		out[i] = quote(column.Name) + order
	}
	return strings.Join(out, ", ")
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// numbered is a row of parameters, after so many.
func numbered(after, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = "$" + strconv.Itoa(after+i+1)
	}
	return "(" + strings.Join(out, ", ") + ")"
}
