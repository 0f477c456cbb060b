package mysql

import (
	"errors"
	"fmt"
	"strings"

	"fencerow/sink/sqlsink"
)

const (
	// rowsMax is how many rows one statement speaks of.
	rowsMax = 2000
	// textMax is how long a statement gets before another one is begun: below what servers take, also with old defaults.
	textMax = 512 << 10
)

// Write implements [sqlsink.Tables]. Values stand in the statements as literals: there is nothing to be prepared that is used twice.
func (x tables) Write(step sqlsink.Step) ([]sqlsink.Statement, error) {
	s := &steps{table: x.Full(step.Table.Name), step: &step}
	var err error
	if s.columns, err = written(step.Columns); err != nil {
		return nil, err
	}
	if s.key, err = written(step.Key); err != nil {
		return nil, err
	}
	switch step.Kind {
	case sqlsink.StepInsert:
		if load, can := s.load(); can {
			return []sqlsink.Statement{load}, nil
		}
		return s.insert("")
	case sqlsink.StepUpsert:
		return s.insert(s.over())
	case sqlsink.StepUpdate:
		if on, can := s.joined(); can && len(step.Rows) > 1 {
			return s.updateMany(on)
		}
		return s.updates(" = ", "")
	case sqlsink.StepDelete:
		return s.deletes()
	case sqlsink.StepUpdateOne:
		return s.updates(" <=> ", " LIMIT 1")
	case sqlsink.StepDeleteOne:
		return s.deleteOnes()
	case sqlsink.StepTruncate:
		return []sqlsink.Statement{{Text: "DELETE FROM " + s.table}}, nil // TRUNCATE would commit
	case sqlsink.StepClear:
		return s.clear()
	}
	return nil, fmt.Errorf("mysql: a step of kind %d is not known", step.Kind)
}

// field is a column that is written, with the way in which its cells are.
type field struct {
	sqlsink.Bound
	cellWriter
	name string
}

func written(bound []sqlsink.Bound) ([]field, error) {
	out := make([]field, len(bound))
	for i := range bound {
		way, err := writerOf(bound[i].From, bound[i].To.Type)
		if err != nil {
			return nil, refusedCell(&bound[i], err)
		}
		out[i] = field{Bound: bound[i], cellWriter: way, name: quote(bound[i].To.Name)}
	}
	return out, nil
}

// refusedCell says which column can't hold a value.
func refusedCell(bound *sqlsink.Bound, err error) error {
	return &sqlsink.Refused{
		Reason: sqlsink.RefusedRow, Err: fmt.Errorf("column %s of type %s: the %s %w", bound.To.Name, bound.To.Type, bound.From.Type, err),
	}
}

var errNull = errors.New("is NULL, which the column does not take")

// valueOf returns what is written for a cell, without marks or escapes; nil is NULL.
func (f *field) valueOf(cell []byte) ([]byte, error) {
	if cell == nil {
		if !f.To.Null { // some types would make the time or a number of it
			return nil, refusedCell(&f.Bound, errNull)
		}
		return nil, nil
	}
	value, err := f.value(cell)
	if err != nil {
		return nil, refusedCell(&f.Bound, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// append appends the literal of a cell.
func (f *field) append(dst, cell []byte) ([]byte, error) {
	value, err := f.valueOf(cell)
	switch {
	case err != nil:
		return nil, err
	case value == nil:
		return append(dst, "NULL"...), nil
	case f.form == formBare:
		return append(dst, value...), nil
	}
	if f.form == formBytes {
		dst = append(dst, "_binary"...)
	}
	return appendQuoted(dst, value), nil
}

// appendQuoted appends text in quotes. It relies on a sql_mode without NO_BACKSLASH_ESCAPES, which our connections have.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '\'')
	from := 0
	for i, c := range text {
		switch c {
		case '\'', '\\':
			dst = append(append(dst, text[from:i]...), '\\')
			from = i
		case 0:
			dst = append(append(dst, text[from:i]...), '\\', '0')
			from = i + 1
		}
	}
	return append(append(dst, text[from:]...), '\'')
}

// steps writes the statements of one step.
type steps struct {
	table   string
	step    *sqlsink.Step
	columns []field
	key     []field
}

// insert adds rows, many in a statement.
func (s *steps) insert(tail string) ([]sqlsink.Statement, error) {
	return s.lists("INSERT INTO "+s.table+" "+namesOf(s.columns)+" VALUES ", tail, func(dst []byte, row *sqlsink.StepRow) ([]byte, error) {
		return appendRow(dst, s.columns, row.Cells)
	})
}

// lists writes statements over lists of rows, none longer than it may be, however short a single one of a long row is.
func (s *steps) lists(head, tail string, one func([]byte, *sqlsink.StepRow) ([]byte, error)) ([]sqlsink.Statement, error) {
	var out []sqlsink.Statement
	var text []byte
	rows := 0
	for i := range s.step.Rows {
		if rows == 0 {
			text = append(text[:0], head...)
		} else {
			text = append(text, ',')
		}
		var err error
		if text, err = one(text, &s.step.Rows[i]); err != nil {
			return nil, err
		}
		if rows++; rows == rowsMax || len(text) >= textMax || i == len(s.step.Rows)-1 {
			out = append(out, sqlsink.Statement{Text: string(append(text, tail...))})
			rows = 0
		}
	}
	return out, nil
}

// appendRow appends the values of a row in parentheses.
func appendRow(dst []byte, fields []field, cells [][]byte) ([]byte, error) {
	dst = append(dst, '(')
	for i := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = fields[i].append(dst, cells[fields[i].At]); err != nil {
			return nil, err
		}
	}
	return append(dst, ')'), nil
}

// over writes over the row that has the key. These servers do so for any unique index that has a row's values, be it of another
// row: then the key would change, and NULL makes them refuse.
func (s *steps) over() string {
	sets := make([]string, len(s.columns))
	for i := range s.columns {
		name := s.columns[i].name
		value := "VALUES(" + name + ")"
		if s.isKey(s.columns[i].To.Name) {
			value = "IF(" + name + " = " + value + ", " + name + ", NULL)"
		}
		sets[i] = name + " = " + value
	}
	return " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ", ")
}

func (s *steps) isKey(name string) bool {
	for i := range s.key {
		if s.key[i].To.Name == name {
			return true
		}
	}
	return false
}

// updates sets columns of rows, each by a statement of its own, that find their rows by comparing so.
func (s *steps) updates(compare, tail string) ([]sqlsink.Statement, error) {
	out := make([]sqlsink.Statement, 0, len(s.step.Rows))
	var text []byte
	for i := range s.step.Rows {
		row := &s.step.Rows[i]
		text = append(append(append(text[:0], "UPDATE "...), s.table...), " SET "...)
		for j := range s.columns {
			if j > 0 {
				text = append(text, ", "...)
			}
			text = append(append(text, s.columns[j].name...), " = "...)
			var err error
			if text, err = s.columns[j].append(text, row.Cells[s.columns[j].At]); err != nil {
				return nil, err
			}
		}
		var err error
		if text, err = s.appendFound(append(text, " WHERE "...), row.Old, compare); err != nil {
			return nil, err
		}
		out = append(out, sqlsink.Statement{Text: string(append(text, tail...)), Touches: 1})
	}
	return out, nil
}

// appendFound appends a condition that finds a row by the columns of its key.
func (s *steps) appendFound(dst []byte, cells [][]byte, compare string) ([]byte, error) {
	for i := range s.key {
		if i > 0 {
			dst = append(dst, " AND "...)
		}
		f, cell := &s.key[i], cells[s.key[i].At]
		switch {
		case cell == nil:
			dst = append(append(dst, f.name...), " IS NULL"...)
			continue
		case compare != " = " && f.form == formText && isTextType(f.To.Type):
			// byte by byte, whatever the collation calls equal
			dst = append(append(append(dst, "CAST(CONVERT("...), f.name...), " USING utf8mb4) AS BINARY) <=> _binary"...)
		default:
			dst = append(append(dst, f.name...), compare...)
		}
		var err error
		if dst, err = f.append(dst, cell); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func isTextType(target string) bool {
	_, isText := textLimit(parseTarget(target))
	return isText
}

// deletes deletes rows by key, many in a statement.
func (s *steps) deletes() ([]sqlsink.Statement, error) {
	return s.lists("DELETE FROM "+s.table+" WHERE "+namesOf(s.key)+" IN (", ")", func(dst []byte, row *sqlsink.StepRow) ([]byte, error) {
		return appendRow(dst, s.key, row.Old)
	})
}

// namesOf are columns in parentheses, as a list of rows has them.
func namesOf(fields []field) string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].name
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// deleteOnes deletes one row for each row.
func (s *steps) deleteOnes() ([]sqlsink.Statement, error) {
	out := make([]sqlsink.Statement, 0, len(s.step.Rows))
	for i := range s.step.Rows {
		text, err := s.appendFound([]byte("DELETE FROM "+s.table+" WHERE "), s.step.Rows[i].Old, " <=> ")
		if err != nil {
			return nil, err
		}
		out = append(out, sqlsink.Statement{Text: string(append(text, " LIMIT 1"...))})
	}
	return out, nil
}

// clear deletes the rows of a part of the table that are not among those of the step.
func (s *steps) clear() ([]sqlsink.Statement, error) {
	text := []byte("DELETE FROM " + s.table)
	between := " WHERE "
	if s.step.Where.Text != "" {
		text = append(append(text, between...), s.step.Where.Text...)
		between = " AND "
	}
	for i := range s.step.Rows {
		if i == 0 {
			text = append(append(append(append(text, between...), "NOT "...), namesOf(s.key)...), " IN ("...)
		} else {
			text = append(text, ',')
		}
		var err error
		if text, err = appendRow(text, s.key, s.step.Rows[i].Cells); err != nil {
			return nil, err
		}
	}
	if len(s.step.Rows) > 0 {
		text = append(text, ')')
	}
	return []sqlsink.Statement{{Text: string(text), Args: s.step.Where.Args}}, nil
}
