package sqlsink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fencerow/change"
)

// Naming says where tables of the source go, and what their columns are called there.
type Naming struct {
	tables  []renamedTable
	columns []renamedColumn
}

// renamedTable is a table of the source, or with the name * all of a schema, and where it goes.
type renamedTable struct {
	schema, name     string
	toSchema, toName string
}

type renamedColumn struct{ schema, table, column, to string }

// namesMax bounds a list of names.
const namesMax = 1000

// any stands for every table of a schema.
const anyName = "*"

// Target returns where a table of the source goes.
func (n Naming) Target(schema, name string, dialect Tables) TableName {
	for _, exact := range n.tables {
		if exact.schema == schema && exact.name == name {
			return TableName{Schema: exact.toSchema, Name: exact.toName}
		}
	}
	for _, all := range n.tables {
		if all.schema == schema && all.name == anyName {
			out := dialect.Target(all.toSchema, name)
			out.Schema = all.toSchema
			return out
		}
	}
	return dialect.Target(schema, name)
}

// Column returns what a column of a table of the source is called in the target.
func (n Naming) Column(of *change.Relation, column string) string {
	for _, renamed := range n.columns {
		if renamed.schema == of.Schema && renamed.table == of.Name && renamed.column == column {
			return renamed.to
		}
	}
	return column
}

// ParseNaming reads the options rename and rename_columns.
func ParseNaming(tables, columns string) (Naming, error) {
	var out Naming
	var err error
	if out.tables, err = parseTables(tables); err != nil {
		return Naming{}, err
	}
	if out.columns, err = parseColumns(columns); err != nil {
		return Naming{}, err
	}
	return out, nil
}

func parseTables(text string) ([]renamedTable, error) {
	var out []renamedTable
	for _, pair := range parts(text, ',') {
		from, to, err := sides(pair)
		if err != nil {
			return nil, err
		}
		if len(from) != 2 || len(to) < 1 || len(to) > 2 {
			return nil, fmt.Errorf("%.200q is not schema.table:schema.table", pair)
		}
		one := renamedTable{schema: from[0], name: from[1], toName: to[len(to)-1]}
		if len(to) == 2 {
			one.toSchema = to[0]
		}
		if from[1] == anyName != (one.toName == anyName) || from[0] == anyName || one.toSchema == anyName {
			return nil, fmt.Errorf("%.200q has a * that is not the table on both sides, as in public.*:shop.*", pair)
		}
		if slices.ContainsFunc(out, func(other renamedTable) bool { return other.schema == one.schema && other.name == one.name }) {
			return nil, fmt.Errorf("%.200q names a table of the source for the second time", pair)
		}
		same := func(other renamedTable) bool {
			return one.toName != anyName && other.toSchema == one.toSchema && other.toName == one.toName
		}
		if slices.ContainsFunc(out, same) {
			return nil, fmt.Errorf("%.200q names a table of the target for the second time", pair)
		}
		if out = append(out, one); len(out) > namesMax {
			return nil, fmt.Errorf("there are more than %d names", namesMax)
		}
	}
	return out, nil
}

func parseColumns(text string) ([]renamedColumn, error) {
	var out []renamedColumn
	for _, pair := range parts(text, ',') {
		from, to, err := sides(pair)
		if err != nil {
			return nil, err
		}
		if len(from) != 3 || len(to) != 1 {
			return nil, fmt.Errorf("%.200q is not schema.table.column:column", pair)
		}
		one := renamedColumn{schema: from[0], table: from[1], column: from[2], to: to[0]}
		twice := func(other renamedColumn) bool {
			return other.schema == one.schema && other.table == one.table && (other.column == one.column || other.to == one.to)
		}
		if slices.ContainsFunc(out, twice) {
			return nil, fmt.Errorf("%.200q names a column for the second time", pair)
		}
		if out = append(out, one); len(out) > namesMax {
			return nil, fmt.Errorf("there are more than %d names", namesMax)
		}
	}
	return out, nil
}

// sides takes apart from:to, each a name of several parts.
func sides(pair string) (from, to []string, err error) {
	both := parts(pair, ':')
	if len(both) != 2 {
		return nil, nil, fmt.Errorf("%.200q is not from:to", pair)
	}
	if from, err = name(both[0]); err != nil {
		return nil, nil, err
	}
	to, err = name(both[1])
	return from, to, err
}

var errName = errors.New(`is not a name; one with . : , or " in it stands in double quotes, as in public."Weird.Name"`)

// name takes apart a name of several parts, each as it is or in double quotes, which are written twice inside.
func name(text string) ([]string, error) {
	var out []string
	for _, part := range parts(text, '.') {
		part = strings.TrimSpace(part)
		if inner, quoted := strings.CutPrefix(part, `"`); quoted {
			inner, closed := strings.CutSuffix(inner, `"`)
			if plain := strings.ReplaceAll(inner, `""`, ""); !closed || strings.Contains(plain, `"`) {
				return nil, fmt.Errorf("%.200q %w", text, errName)
			}
			part = strings.ReplaceAll(inner, `""`, `"`)
		} else if strings.Contains(part, `"`) {
			return nil, fmt.Errorf("%.200q %w", text, errName)
		}
		if part == "" || strings.ContainsRune(part, 0) {
			return nil, fmt.Errorf("%.200q %w", text, errName)
		}
		out = append(out, part)
	}
	return out, nil
}

// parts cuts a text at separators that stand in no quotes. An empty text has none.
func parts(text string, separator rune) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var out []string
	start, quoted := 0, false
	for i, r := range text {
		switch {
		case r == '"':
			quoted = !quoted
		case r == separator && !quoted:
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:])
}
