package mysql

import (
	"fmt"
	"strings"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// tables is how rows of tables are written to MySQL and MariaDB. A schema of the source is not one of theirs, where that word
// means a database: if nothing else is asked for, all tables are in the database of the URI.
type tables struct{}

var _ sqlsink.Tables = tables{}

// Target implements [sqlsink.Tables].
func (tables) Target(_, table string) sqlsink.TableName { return sqlsink.TableName{Name: table} }

// Full implements [sqlsink.Tables].
func (tables) Full(name sqlsink.TableName) string {
	if name.Schema == "" {
		return quote(name.Name)
	}
	return quote(name.Schema) + "." + quote(name.Name)
}

// Column implements [sqlsink.Tables].
func (tables) Column(name string) string { return quote(name) }

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// whereTable is a condition for the rows of information_schema that speak of a table.
func whereTable(name sqlsink.TableName) (string, []any) {
	if name.Schema == "" {
		return "table_schema = DATABASE() AND table_name = ?", []any{name.Name}
	}
	return "table_schema = ? AND table_name = ?", []any{name.Schema, name.Name}
}

// ReadColumns implements [sqlsink.Tables]. A type of text has its collation with it, since what keys are kept apart depends on it.
func (tables) ReadColumns(name sqlsink.TableName) sqlsink.Statement {
	where, args := whereTable(name)
	return sqlsink.Statement{
		Rows: true, Args: args,
		Text: "SELECT column_name, CONCAT(column_type, COALESCE(CONCAT(' COLLATE ', collation_name), '')), column_type, is_nullable = 'YES', " +
			"column_default IS NOT NULL OR is_nullable = 'YES' OR extra LIKE '%auto_increment%', COALESCE(generation_expression, '') <> '' " +
			"FROM information_schema.columns WHERE " + where + " ORDER BY ordinal_position",
	}
}

// ReadUnique implements [sqlsink.Tables]. An index over parts of values, or over expressions, says nothing of the columns.
func (tables) ReadUnique(name sqlsink.TableName) sqlsink.Statement {
	where, args := whereTable(name)
	return sqlsink.Statement{
		Rows: true, Args: append(args, args...),
		Text: "SELECT index_name, column_name FROM information_schema.statistics WHERE " + where + " AND non_unique = 0 AND index_name NOT IN " +
			"(SELECT index_name FROM information_schema.statistics WHERE " + where + " AND (sub_part IS NOT NULL OR column_name IS NULL)) " +
			"ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
	}
}

// TypeOf implements [sqlsink.Tables].
func (tables) TypeOf(column change.Column) string { return columnTypes([]change.Column{column})[0] }

// Holds implements [sqlsink.Tables]. The column may also be one of a target.
func (tables) Holds(column change.Column, target sqlsink.TableColumn) bool {
	column = asSource(column)
	if _, err := writerOf(&column, target.Type); err != nil {
		return false
	}
	if column.Key > 0 {
		return keyHolds(&column, target.Type)
	}
	return isAsWide(&column, parseTarget(target.Type))
}

// isAsWide reports whether a column takes what the one that would be made for the source's takes. A text without a length of its
// own may be as short as whoever made the table wants it.
func isAsWide(column *change.Column, to targetType) bool {
	from, made := parseType(column.Type), parseTarget(storedType(column))
	limit, isText := textLimit(to)
	switch {
	case isText && !from.array && strings.HasPrefix(from.base, "character"):
		return from.length() == 0 || !limit.chars || limit.max >= from.length()
	case isInteger(to.name):
		return integerBytes(to.name) >= integerBytes(made.name)
	case to.name == "decimal" && made.name == "decimal":
		return to.first-to.second >= made.first-made.second && to.second >= made.second
	case to.name == "decimal":
		return to.first-to.second >= integerDigits[made.name]
	case to.name == "datetime" || to.name == "timestamp" || to.name == "time":
		return to.first >= fractionOf(from)
	}
	return true
}

// fractionOf returns how many digits of a second a type has.
func fractionOf(t sourceType) int {
	switch {
	case t.base == "date":
		return 0
	case len(t.modifiers) == 0:
		return 6
	}
	return t.modifiers[0]
}

// integerDigits are those of the largest number.
var integerDigits = map[string]int{"tinyint": 3, "smallint": 5, "int": 10, "bigint": 19} //nolint:gochecknoglobals // read only

func integerBytes(name string) int {
	switch name {
	case "tinyint":
		return 1
	case "smallint":
		return 2
	case "mediumint":
		return 3
	case "int":
		return 4
	}
	return 8
}

// keyHolds reports whether a column keeps values apart as the source does, and shows each so that the source's text form can
// be had back from it.
func keyHolds(column *change.Column, target string) bool {
	to, made := parseTarget(target), parseTarget(keyStoredType(column))
	switch to.name {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		_, collation, _ := strings.Cut(target, " COLLATE ")
		return made.name == "char" || strings.HasSuffix(collation, "_nopad_bin") || strings.HasSuffix(collation, "_0900_bin")
	case "decimal":
		return made.name == "decimal" && made.second == to.second && isAsWide(column, to)
	case "tinyint", "smallint", "mediumint", "int", "bigint", "datetime", "timestamp", "time":
		return isAsWide(column, to)
	case "date", "binary", "varbinary":
		return made.name == to.name || made.name == typeBytes
	}
	return false
}

// Fills implements [sqlsink.Tables].
func (tables) Fills(column change.Column) bool {
	_, err := added(&column)
	return err == nil
}

// filled are the definitions of columns, with what the source's rows had in them at once. A value that the type does not hold is left out:
// no row that has it is ever taken.
func filled(columns []change.Column, types []string) []string {
	out := defined(columns, types)
	for i := range out {
		if value, err := added(&columns[i]); err == nil {
			out[i] += value
		}
	}
	return out
}

// added is what follows the definition of a column that is added; empty if nothing does. In parentheses MySQL takes a constant also for
// long texts.
func added(column *change.Column) (string, error) {
	if !column.Added.Known || column.Key > 0 {
		return "", nil
	}
	one := *column
	stored := columnTypes([]change.Column{one})[0]
	fields, err := written([]sqlsink.Bound{{To: sqlsink.TableColumn{Name: one.Name, Type: stored, Null: true}, From: &one}})
	if err != nil {
		return "", err
	}
	value, err := fields[0].valueOf([]byte(one.Added.Text))
	if err == nil && fields[0].form == formBytes { // they don't outlive the parsing of it as they are
		return fmt.Sprintf(" DEFAULT (x'%x')", value), nil
	}
	value, err = fields[0].append([]byte(" DEFAULT ("), []byte(one.Added.Text))
	return string(append(value, ')')), err
}

// Alter implements [sqlsink.Tables].
func (x tables) Alter(name sqlsink.TableName, alteration sqlsink.Alteration) string {
	alter := "ALTER TABLE " + x.Full(name) + " "
	types := columnTypes(alteration.Columns)
	switch alteration.Kind {
	case sqlsink.AlterSchema:
		return "CREATE DATABASE IF NOT EXISTS " + quote(name.Schema)
	case sqlsink.AlterCreate:
		parts := filled(alteration.Columns, types)
		if key := primaryKey(alteration.Columns); key != "" {
			parts = append(parts, key)
		}
		return "CREATE TABLE IF NOT EXISTS " + x.Full(name) + " (" + strings.Join(parts, ", ") + ") ENGINE = InnoDB DEFAULT " + unicode
	case sqlsink.AlterAdd:
		return alter + "ADD COLUMN " + strings.Join(filled(alteration.Columns, types), ", ADD COLUMN ")
	case sqlsink.AlterDrop:
		return alter + "DROP COLUMN " + quote(alteration.Name)
	case sqlsink.AlterRename:
		return alter + "RENAME COLUMN " + quote(alteration.Name) + " TO " + quote(alteration.Columns[0].Name)
	case sqlsink.AlterNull:
		if column := alteration.Columns[0]; isTarget(column.Type) {
			return alter + "MODIFY COLUMN " + quote(alteration.Name) + " " + column.Type + " NULL"
		}
		return alter + "MODIFY COLUMN " + quote(alteration.Name) + " " + definition(&alteration.Columns[0], types[0])
	case sqlsink.AlterType:
		return alter + "MODIFY COLUMN " + quote(alteration.Name) + " " + definition(&alteration.Columns[0], types[0])
	case sqlsink.AlterKey:
		return alter + "MODIFY COLUMN " + strings.Join(defined(alteration.Columns, types), ", MODIFY COLUMN ") + ", ADD " + primaryKey(alteration.Columns)
	}
	return ""
}

// CommitsDDL implements [sqlsink.Tables].
func (tables) CommitsDDL() bool { return true }

func defined(columns []change.Column, types []string) []string {
	out := make([]string, len(columns))
	for i := range columns {
		out[i] = quote(columns[i].Name) + " " + definition(&columns[i], types[i])
	}
	return out
}

// definition is what follows a column's name. Only a key says that it is not NULL: what the source forbids comes from nowhere else.
func definition(column *change.Column, stored string) string {
	if column.Key > 0 {
		return stored + " NOT NULL"
	}
	return stored + " NULL"
}

// primaryKey is the clause for columns with a place in the key; empty if there are none.
func primaryKey(columns []change.Column) string {
	var names []string
	for place := 1; place <= len(columns); place++ {
		for i := range columns {
			if columns[i].Key == place {
				names = append(names, quote(columns[i].Name))
			}
		}
	}
	if names == nil {
		return ""
	}
	return "PRIMARY KEY (" + strings.Join(names, ", ") + ")"
}

// KeyText implements [sqlsink.Tables]. Texts, whose columns are compared by their bytes, are found by an index.
func (tables) KeyText(column change.Column, target sqlsink.TableColumn) string {
	name, from, to := quote(target.Name), parseType(column.Type), parseTarget(target.Type)
	switch to.name {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return name
	case "binary", "varbinary":
		return `CAST(CONCAT('\\x', LOWER(HEX(` + name + `))) AS BINARY)`
	case "datetime", "timestamp", "time":
		if name = "CAST(" + name + " AS CHAR)"; to.first > 0 {
			name = "TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM " + name + "))"
		}
		if from.base == "timestamp with time zone" {
			name = "CONCAT(" + name + ", '+00')"
		}
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		if column.Kind == change.KindBool {
			name = "IF(" + name + ", 't', 'f')"
		}
	}
	return "CAST(" + name + " AS BINARY)"
}

// KeyBytes implements [sqlsink.Tables].
func (tables) KeyBytes(text string) any { return text }
