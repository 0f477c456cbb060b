package verifysql

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"fencerow/verify"
)

// Server is a connection to a server. It is used by one goroutine.
type Server interface {
	// Read runs a statement, again where that is of use. begin is called before each try, row with each row as text, of which
	// nothing may be kept; a cell that is nil is NULL.
	Read(ctx context.Context, text string, begin func(), row func(cells [][]byte) error) error
	// Compare is the condition that columns, one after another, are ">" or "<=" values, which are literals.
	Compare(columns []string, than string, values []string) string
	// Among is the condition that columns, one after another, are one of some rows of literals.
	Among(columns []string, rows [][]string) string
	// TimedOut reports whether a statement took longer than it may.
	TimedOut(err error) bool
	// NoValue reports whether a literal was none of the type that it was compared with.
	NoValue(err error) bool
}

// Key is a column of a table's key.
type Key struct {
	Name string // as statements have it
	Text string // the expression of its text as the source has it, which is the same at both sides
	// Literal writes such a text for a statement, or says why the column can't have it.
	Literal func(text string) (string, error)
}

// Column is a column that is compared.
type Column struct {
	Name       string // for people
	Expression string
	// Form brings a value, which is not NULL, to the form that both sides have in common. An error says that the other side can't
	// have it.
	Form func(cell []byte) ([]byte, error)
}

// Table is a table as one side has it.
type Table struct {
	Name    string // as people know it: the source's "schema.table"
	From    string // as statements have it
	Version string // the expression of what is another one after each write; "": the side can't tell
	Key     []Key
	Columns []Column
	// Apart says that the two sides have its rows in different orders.
	Apart bool
	// Absent says that this side has no such table, which is as good as one without rows, while it has not.
	Absent func(ctx context.Context) (bool, error)
}

func (t *Table) whole() bool { return len(t.Key) == 0 }

// order lists the columns of the key.
func (t *Table) order() string { return strings.Join(t.keyNames(), ", ") }

func (t *Table) keyNames() []string {
	out := make([]string, len(t.Key))
	for i := range t.Key {
		out[i] = t.Key[i].Name
	}
	return out
}

// cells lists what is read of a row: its version, its key, its columns.
func (t *Table) cells(more ...string) string {
	out := []string{"''"}
	if t.Version != "" {
		out[0] = t.Version
	}
	for i := range t.Key {
		out = append(out, t.Key[i].Text)
	}
	return strings.Join(append(out, more...), ", ")
}

func (t *Table) expressions() []string {
	out := make([]string, len(t.Columns))
	for i := range t.Columns {
		out[i] = t.Columns[i].Expression
	}
	return out
}

// keyOf writes the key of a row, the same at both sides.
func keyOf(cells [][]byte) (string, error) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = string(cell)
	}
	out, err := json.Marshal(texts)
	if err != nil {
		return "", fmt.Errorf("verify sql: a key: %w", err)
	}
	return string(out), nil
}

// Texts takes a key apart that was written as JSON.
func Texts(key string) ([]string, error) {
	var texts []string
	if err := json.Unmarshal([]byte(key), &texts); err != nil {
		return nil, fmt.Errorf("verify sql: %.100q is no key: %w", key, err)
	}
	return texts, nil
}

// literals writes a key for a statement.
func (t *Table) literals(key string) ([]string, error) {
	texts, err := Texts(key)
	if err != nil || len(texts) != len(t.Key) {
		return nil, fmt.Errorf("verify sql: %.100q is no key of %s", key, t.Name)
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		if out[i], err = t.Key[i].Literal(text); err != nil {
			return nil, &verify.Leave{Why: "a key of the source " + err.Error()}
		}
	}
	return out, nil
}

// within is the condition that a row lies in a chunk.
func (t *Table) within(server Server, chunk verify.Chunk) (string, error) {
	var conditions []string
	for _, border := range []struct{ than, key string }{{">", chunk.From}, {"<=", chunk.To}} {
		if border.key == "" {
			continue
		}
		values, err := t.literals(border.key)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, server.Compare(t.keyNames(), border.than, values))
	}
	if len(conditions) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), nil
}

// among is the condition that a row has one of these keys; "" if this side can't have any.
func (t *Table) among(server Server, keys []string) string {
	var rows [][]string
	for _, key := range keys {
		if values, err := t.literals(key); err == nil {
			rows = append(rows, values)
		}
	}
	if rows == nil {
		return ""
	}
	return " WHERE " + server.Among(t.keyNames(), rows)
}

// In is the [Server.Among] that every server understands.
func In(columns []string, rows [][]string) string {
	lists := make([]string, len(rows))
	for i, row := range rows {
		lists[i] = "(" + strings.Join(row, ", ") + ")"
	}
	return "(" + strings.Join(columns, ", ") + ") IN (" + strings.Join(lists, ", ") + ")"
}

// After returns the name of the table in which the chunk after one lies, and from which key on; false if there is none.
func After(names []string, chunk verify.Chunk) (name, from string, found bool) {
	i := slices.Index(names, chunk.Table)
	switch {
	case i >= 0 && chunk.To != "":
		return chunk.Table, chunk.To, true
	case i+1 >= len(names):
		return "", "", false
	default:
		return names[i+1], "", true
	}
}

// TooMuch leaves a table without a key.
func TooMuch(what string) error {
	return &verify.Leave{Why: "it has no key, and so can only be compared all at once, and it " + what}
}

// Altered leaves a table that is not what it was.
func Altered() error {
	return &verify.Leave{Why: "it was made, altered or dropped while it was compared"}
}

// Bisect looks keys up. One that a side could not have, since it is no value of a column's type there, is not there.
func Bisect(keys []string, noValue func(error) bool, look func([]string) ([]verify.Row, error)) ([]verify.Row, error) {
	rows, err := look(keys)
	if err == nil || !noValue(err) {
		return rows, err
	}
	if len(keys) == 1 {
		return nil, nil
	}
	half := len(keys) / 2
	first, err := Bisect(keys[:half], noValue, look)
	if err != nil {
		return nil, err
	}
	rest, err := Bisect(keys[half:], noValue, look)
	return append(first, rest...), err
}
