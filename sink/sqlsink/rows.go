package sqlsink

import (
	"fmt"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// Mode is how changes are kept in a table.
type Mode string

// The modes.
const (
	ModeCopy Mode = "copy" // one row a key, as the source has it
	ModeLog  Mode = "log"  // one row a change, appended
)

// Column is a column that a table of data needs.
type Column struct {
	Name string
	Kind ColumnKind
	Null bool // a change may leave it out
	Key  bool // the primary key
}

// keyColumn is the primary key of a copy.
const keyColumn = "key"

// pairColumns are what both modes keep of a key-value pair.
func pairColumns() []Column {
	return []Column{
		{Name: "value", Kind: ColumnBytes, Null: true},
		{Name: "create_revision", Kind: ColumnNumber, Null: true},
		{Name: "mod_revision", Kind: ColumnNumber, Null: true},
		{Name: "version", Kind: ColumnNumber, Null: true},
		{Name: "lease", Kind: ColumnNumber, Null: true},
	}
}

// ColumnsOf returns the columns that a table needs.
func ColumnsOf(mode Mode) []Column {
	if mode == ModeLog {
		return append([]Column{
			{Name: "position", Kind: ColumnPosition},
			{Name: "position_index", Kind: ColumnNumber},
			{Name: "op", Kind: ColumnText},
			{Name: keyColumn, Kind: ColumnBytes},
		}, pairColumns()...)
	}
	return append([]Column{{Name: keyColumn, Kind: ColumnKey, Key: true}}, pairColumns()...)
}

// CreateTable returns the statement that makes a table of data.
func CreateTable(dialect Dialect, table string, mode Mode) string {
	var columns []string
	for _, column := range ColumnsOf(mode) {
		text := dialect.Quote(column.Name) + " " + dialect.Type(column.Kind)
		switch {
		case column.Key:
			text += " PRIMARY KEY"
		case !column.Null:
			text += " NOT NULL"
		}
		columns = append(columns, text)
	}
	return "CREATE TABLE IF NOT EXISTS " + dialect.Quote(table) + " (" + strings.Join(columns, ", ") + ")"
}

// rowsMax is how many rows one statement writes, far below what makes a message too long.
const rowsMax = 2000

// layout writes changes of key-value pairs as statements. It is pure.
type layout struct {
	dialect Dialect
	table   string // unquoted
	mode    Mode
}

// changes returns the statements of one batch, to be done in this order. Changes of one key keep theirs; those of
// different keys, which know nothing of one another, are gathered, so that statements are few.
func (l layout) changes(changes []change.Change) ([]Statement, error) {
	if l.mode == ModeLog {
		return l.insert(changes)
	}
	var out []Statement
	for _, wave := range waves(changes) {
		var gone []any
		kept := make([]change.Change, 0, len(wave))
		for i := range wave {
			if wave[i].Op == change.OpDelete {
				gone = append(gone, someBytes(wave[i].Key))
			} else {
				kept = append(kept, wave[i])
			}
		}
		if len(gone) > 0 {
			condition, args := l.dialect.Among(l.dialect.Quote(keyColumn), gone)
			out = append(out, exec("DELETE FROM "+l.dialect.Quote(l.table)+" WHERE "+condition, args...))
		}
		upserts, err := l.insert(kept)
		if err != nil {
			return nil, err
		}
		out = append(out, upserts...)
	}
	return out, nil
}

// waves parts changes so that none has a key twice: the first change of each key, then the second of each, and so on.
func waves(changes []change.Change) [][]change.Change {
	var out [][]change.Change
	seen := make(map[string]int, len(changes))
	for i := range changes {
		at := seen[string(changes[i].Key)]
		seen[string(changes[i].Key)]++
		if at == len(out) {
			out = append(out, nil)
		}
		out[at] = append(out[at], changes[i])
	}
	return out
}

// insert writes rows, in a copy over those that are there.
func (l layout) insert(changes []change.Change) ([]Statement, error) {
	columns := ColumnsOf(l.mode)
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = l.dialect.Quote(column.Name)
	}
	head := "INSERT INTO " + l.dialect.Quote(l.table) + " (" + strings.Join(names, ", ") + ") "
	tail := ""
	if l.mode == ModeCopy {
		tail = l.dialect.Upsert(names[0], names[1:])
	}
	var out []Statement
	for len(changes) > 0 {
		part := changes[:min(len(changes), rowsMax)]
		changes = changes[len(part):]
		rows := make([][]any, len(part))
		for i := range part {
			var err error
			if rows[i], err = l.row(&part[i]); err != nil {
				return nil, err
			}
		}
		source, args := l.dialect.Source(columns, rows)
		out = append(out, exec(head+source+tail, args...))
	}
	return out, nil
}

// Values is the [Dialect.Source] that every server understands.
func Values(rows [][]any) (string, []any) {
	one := "(" + marks(len(rows[0])) + ")"
	args := make([]any, 0, len(rows)*len(rows[0]))
	for _, row := range rows {
		args = append(args, row...)
	}
	return "VALUES " + one + strings.Repeat(", "+one, len(rows)-1), args
}

// In is the [Dialect.Among] that every server understands.
func In(column string, bytes []any) (string, []any) {
	return column + " IN (" + marks(len(bytes)) + ")", bytes
}

// row returns the cells of one row.
func (l layout) row(c *change.Change) ([]any, error) {
	args := make([]any, 0, 9)
	if l.mode == ModeLog {
		args = append(args, c.Position.String(), int64(c.Index), c.Op.String())
	}
	args = append(args, someBytes(c.Key))
	if c.Op == change.OpDelete {
		return append(args, nil, nil, nil, nil, nil), nil
	}
	pair, ok := c.After.(*change.KV)
	if !ok || pair == nil {
		return nil, fmt.Errorf("sink sql: %v of key %.100q at %d is not one of a key-value pair", c.Op, c.Key, c.Position)
	}
	return append(args, someBytes(pair.Value), pair.CreateRevision, pair.ModRevision, pair.Version, pair.Lease), nil
}

// page returns the statements of a page of a snapshot: everything that the source holds in the span. A copy loses the
// other keys that it has there.
func (l layout) page(batch sink.Batch) ([]Statement, error) {
	out, err := l.changes(batch.Changes)
	if err != nil || l.mode == ModeLog {
		return out, err
	}
	return append([]Statement{l.deleteOthers(batch.Span, batch.Changes)}, out...), nil
}

func (l layout) deleteOthers(span changefeed.Span, kept []change.Change) Statement {
	key := l.dialect.Quote(keyColumn)
	condition, args := rangeOf(key, span)
	if len(kept) > 0 {
		keys := make([]any, len(kept))
		for i := range kept {
			keys[i] = someBytes(kept[i].Key)
		}
		among, more := l.dialect.Among(key, keys)
		condition, args = condition+" AND NOT ("+among+")", append(args, more...)
	}
	return exec("DELETE FROM "+l.dialect.Quote(l.table)+" WHERE "+condition, args...)
}
