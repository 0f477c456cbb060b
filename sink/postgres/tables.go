package postgres

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// tables is how PostgreSQL has rows of tables written.
type tables struct{}

var (
	_ sqlsink.Tables    = tables{}
	_ sqlsink.UserTypes = tables{}
)

// Target implements [sqlsink.Tables]: the same schema and name as in the source.
func (tables) Target(schema, table string) sqlsink.TableName {
	return sqlsink.TableName{Schema: schema, Name: table}
}

// Full implements [sqlsink.Tables].
func (t tables) Full(name sqlsink.TableName) string {
	if name.Schema == "" {
		return t.Column(name.Name)
	}
	return t.Column(name.Schema) + "." + t.Column(name.Name)
}

// Column implements [sqlsink.Tables].
func (tables) Column(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// found is a condition for the table itself. One without a schema is found as PostgreSQL itself finds it.
func (t tables) found(name sqlsink.TableName) (string, []any) {
	return "c.oid = to_regclass(?)", []any{t.Full(name)}
}

// ReadColumns implements [sqlsink.Tables]. A domain is known as what it is a domain of.
func (t tables) ReadColumns(name sqlsink.TableName) sqlsink.Statement {
	where, args := t.found(name)
	return sqlsink.Statement{
		Rows: true, Args: args,
		Text: `SELECT a.attname,
			CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END,
			CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, -1) ELSE format_type(a.atttypid, -1) END,
			CASE WHEN a.attnotnull OR t.typnotnull THEN 0 ELSE 1 END, CASE WHEN a.atthasdef OR a.attidentity <> '' THEN 1 ELSE 0 END,
			CASE WHEN a.attgenerated <> '' THEN 1 ELSE 0 END, CASE WHEN t.typtype = 'd' THEN format_type(a.atttypid, NULL) END
			FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			WHERE ` + where + ` AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
	}
}

// ReadUnique implements [sqlsink.Tables].
func (t tables) ReadUnique(name sqlsink.TableName) sqlsink.Statement {
	where, args := t.found(name)
	return sqlsink.Statement{
		Rows: true, Args: args,
		Text: `SELECT i.indexrelid::text, a.attname
			FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
			CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
			WHERE ` + where + ` AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
			ORDER BY i.indisprimary DESC, i.indexrelid, k.place`,
	}
}

// ReadTypes implements [sqlsink.UserTypes]: which types of the source are not there.
func (tables) ReadTypes(columns []change.Column) (sqlsink.Statement, bool) {
	var names []any
	for _, column := range columns {
		if !builtIn(column.Type) {
			names = append(names, column.Type)
		}
	}
	if len(names) == 0 {
		return sqlsink.Statement{}, false
	}
	return sqlsink.Statement{
		Rows: true, Args: []any{sqlsink.Array{Kind: sqlsink.ColumnText, Cells: names}},
		Text: "SELECT name FROM unnest(?::text[]) AS t(name) WHERE to_regtype(regexp_replace(name, '\\([^)]*\\)', '')) IS NULL",
	}, true
}

// KeyText implements [sqlsink.Tables]. A cast to text is not the text form of each type; concat's is.
func (t tables) KeyText(_ change.Column, target sqlsink.TableColumn) string {
	return "convert_to(concat(" + t.Column(target.Name) + "), 'UTF8')"
}

// KeyBytes implements [sqlsink.Tables].
func (tables) KeyBytes(text string) any { return []byte(text) }

// TypeOf implements [sqlsink.Tables]: the source's own.
func (tables) TypeOf(column change.Column) string { return column.Type }

// CommitsDDL implements [sqlsink.Tables].
func (tables) CommitsDDL() bool { return false }

// Fills implements [sqlsink.Tables]: a type has the same values here.
func (tables) Fills(change.Column) bool { return true }

// added is what follows the type of a column that the source's rows had something in at once.
func (tables) added(column change.Column) string {
	if !column.Added.Known || column.Key > 0 {
		return ""
	}
	return " DEFAULT " + literal(column.Added.Text)
}

// literal writes a text as a constant, whatever standard_conforming_strings is.
func literal(text string) string {
	return "E'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(text) + "'"
}

// Alter implements [sqlsink.Tables].
func (t tables) Alter(name sqlsink.TableName, a sqlsink.Alteration) string {
	table := "ALTER TABLE " + t.Full(name) + " "
	column := t.Column(a.Name)
	switch a.Kind {
	case sqlsink.AlterSchema:
		return "CREATE SCHEMA IF NOT EXISTS " + column
	case sqlsink.AlterCreate:
		var parts []string
		for _, c := range a.Columns {
			part := t.Column(c.Name) + " " + t.TypeOf(c)
			if !c.Null || c.Key > 0 {
				part += " NOT NULL"
			}
			part += t.added(c)
			parts = append(parts, part)
		}
		if key := t.key(a.Columns); key != "" {
			parts = append(parts, key)
		}
		return "CREATE TABLE " + t.Full(name) + " (" + strings.Join(parts, ", ") + ")"
	case sqlsink.AlterAdd:
		return table + "ADD COLUMN " + t.Column(a.Columns[0].Name) + " " + t.TypeOf(a.Columns[0]) + t.added(a.Columns[0])
	case sqlsink.AlterDrop:
		return table + "DROP COLUMN " + column
	case sqlsink.AlterRename:
		return table + "RENAME COLUMN " + column + " TO " + t.Column(a.Columns[0].Name)
	case sqlsink.AlterType:
		to := t.TypeOf(a.Columns[0])
		return table + "ALTER COLUMN " + column + " TYPE " + to + " USING " + column + "::" + to
	case sqlsink.AlterNull:
		return table + "ALTER COLUMN " + column + " DROP NOT NULL"
	case sqlsink.AlterKey:
		return table + "ADD " + t.key(a.Columns)
	}
	return ""
}

// Bulk implements [sqlsink.Bulk]: COPY.
func (tables) Bulk() {}

// MakeKey implements [sqlsink.LateKeys].
func (t tables) MakeKey(name sqlsink.TableName, key []change.Column) []sqlsink.Statement {
	return []sqlsink.Statement{
		{Text: "SET LOCAL statement_timeout = " + milliseconds(makeKeyMax)},
		{Rows: true, Args: []any{int64(makeKeyMemory)}, Text: `SELECT set_config('maintenance_work_mem',
			greatest(pg_size_bytes(current_setting('maintenance_work_mem')), ?::bigint) / 1024 || 'kB', true)`},
		{Text: t.Alter(name, sqlsink.Alteration{Kind: sqlsink.AlterKey, Columns: key})},
		{Text: "SET LOCAL statement_timeout = " + milliseconds(statementMax)},
	}
}

// key returns the primary key of columns, which have their places in it; empty if they have none.
func (t tables) key(columns []change.Column) string {
	var names []string
	for place := 1; place <= len(columns); place++ {
		for _, c := range columns {
			if c.Key == place {
				names = append(names, t.Column(c.Name))
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "PRIMARY KEY (" + strings.Join(names, ", ") + ")"
}

// bulkLeast is from how many rows on a message of their own is worth it.
const bulkLeast = 100

// Write implements [sqlsink.Tables]. Values travel as text, an array a column, and become what the column wants: a cast says the
// type without its modifiers, since a cast that has them cuts what is too long, and the column itself refuses it.
func (t tables) Write(step sqlsink.Step) ([]sqlsink.Statement, error) {
	table := t.Full(step.Table.Name)
	switch step.Kind {
	case sqlsink.StepInsert:
		if step.Lines != nil || len(step.Rows) >= bulkLeast {
			return one(t.bulk(table, step)), nil
		}
		return one(t.insert(table, step, "")), nil
	case sqlsink.StepUpsert:
		return one(t.insert(table, step, t.conflict(step))), nil
	case sqlsink.StepUpdate:
		return one(t.update(table, step)), nil
	case sqlsink.StepDelete:
		rows := t.source(step.Key, nil, step.Rows)
		return one(sqlsink.Statement{
			Text: "DELETE FROM " + table + " AS t USING " + rows.from + " WHERE " + t.equal(step.Key, rows.casts), Args: rows.args,
		}), nil
	case sqlsink.StepTruncate:
		return one(sqlsink.Statement{Text: "TRUNCATE " + table}), nil
	case sqlsink.StepClear:
		return one(t.clear(table, step)), nil
	case sqlsink.StepUpdateOne, sqlsink.StepDeleteOne:
		out := make([]sqlsink.Statement, 0, len(step.Rows))
		for _, row := range step.Rows {
			out = append(out, t.single(table, step, row))
		}
		return out, nil
	}
	return nil, nil
}

// bulk writes new rows by COPY.
func (t tables) bulk(table string, step sqlsink.Step) sqlsink.Statement {
	out := sqlsink.Statement{Text: "COPY " + table + " (" + t.names(step.Columns, "") + ") FROM STDIN", Data: func() io.Reader { return copied(&step) }}
	if step.Lines != nil && step.Lines.Form == change.LinesBinary {
		out.Text, out.Head = out.Text+" (FORMAT binary)", change.BinaryHead
	}
	return out
}

func one(statement sqlsink.Statement) []sqlsink.Statement { return []sqlsink.Statement{statement} }

// names lists columns.
func (t tables) names(columns []sqlsink.Bound, before string) string {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = before + t.Column(column.To.Name)
	}
	return strings.Join(names, ", ")
}

// rowSource is what a statement takes rows from: casts are its columns, those of old rows first.
type rowSource struct {
	from  string
	casts []string
	args  []any
}

// source makes rows of arrays: columns of the rows before, and columns of the rows after.
func (tables) source(old, columns []sqlsink.Bound, rows []sqlsink.StepRow) rowSource {
	var out rowSource
	var arrays, names []string
	add := func(column sqlsink.Bound, cellsOf func(*sqlsink.StepRow) [][]byte) {
		array := make(texts, len(rows))
		for i := range rows {
			array[i] = cellsOf(&rows[i])[column.At]
		}
		name := "c" + strconv.Itoa(len(names))
		names, arrays = append(names, name), append(arrays, "?::text[]")
		out.args, out.casts = append(out.args, array), append(out.casts, "r."+name+"::"+column.To.Base)
	}
	for _, column := range old {
		add(column, func(row *sqlsink.StepRow) [][]byte { return row.Old })
	}
	for _, column := range columns {
		add(column, func(row *sqlsink.StepRow) [][]byte { return row.Cells })
	}
	out.from = "unnest(" + strings.Join(arrays, ", ") + ") AS r(" + strings.Join(names, ", ") + ")"
	return out
}

func (t tables) insert(table string, step sqlsink.Step, conflict string) sqlsink.Statement {
	rows := t.source(nil, step.Columns, step.Rows)
	return sqlsink.Statement{
		Text: "INSERT INTO " + table + " (" + t.names(step.Columns, "") + ") OVERRIDING SYSTEM VALUE SELECT " + strings.Join(rows.casts, ", ") +
			" FROM " + rows.from + conflict,
		Args: rows.args,
	}
}

// conflict says what becomes of a row that is there.
func (t tables) conflict(step sqlsink.Step) string {
	var sets []string
	for _, column := range step.Columns {
		if column.From.Key == 0 {
			name := t.Column(column.To.Name)
			sets = append(sets, name+" = EXCLUDED."+name)
		}
	}
	do := "NOTHING"
	if len(sets) > 0 {
		do = "UPDATE SET " + strings.Join(sets, ", ")
	}
	return " ON CONFLICT (" + t.names(step.Key, "") + ") DO " + do
}

func (t tables) update(table string, step sqlsink.Step) sqlsink.Statement {
	rows := t.source(step.Key, step.Columns, step.Rows)
	sets := make([]string, len(step.Columns))
	for i, column := range step.Columns {
		sets[i] = t.Column(column.To.Name) + " = " + rows.casts[len(step.Key)+i]
	}
	return sqlsink.Statement{
		Text: "UPDATE " + table + " AS t SET " + strings.Join(sets, ", ") + " FROM " + rows.from + " WHERE " + t.equal(step.Key, rows.casts),
		Args: rows.args, Touches: len(step.Rows),
	}
}

// equal is the condition that a row has the key of another.
func (t tables) equal(key []sqlsink.Bound, casts []string) string {
	parts := make([]string, len(key))
	for i, column := range key {
		parts[i] = "t." + t.Column(column.To.Name) + " = " + casts[i]
	}
	return strings.Join(parts, " AND ")
}

func (t tables) clear(table string, step sqlsink.Step) sqlsink.Statement {
	out := sqlsink.Statement{Text: "DELETE FROM " + table + " AS t", Args: step.Where.Args}
	var conditions []string
	if step.Where.Text != "" {
		conditions = append(conditions, "("+step.Where.Text+")")
	}
	if len(step.Rows) > 0 {
		rows := t.source(nil, step.Key, step.Rows)
		conditions = append(conditions, "NOT EXISTS (SELECT 1 FROM "+rows.from+" WHERE "+t.equal(step.Key, rows.casts)+")")
		out.Args = append(slices.Clip(out.Args), rows.args...)
	}
	if len(conditions) > 0 {
		out.Text += " WHERE " + strings.Join(conditions, " AND ")
	}
	return out
}

// single updates or deletes one of the rows that are equal to one that nothing names.
func (t tables) single(table string, step sqlsink.Step, row sqlsink.StepRow) sqlsink.Statement {
	var sets, conditions []string
	var out sqlsink.Statement
	if step.Kind == sqlsink.StepUpdateOne {
		for _, column := range step.Columns {
			sets = append(sets, t.Column(column.To.Name)+" = ?::text::"+column.To.Base)
			out.Args = append(out.Args, cellArg(row.Cells[column.At]))
		}
		out.Touches = 1
	}
	for _, column := range step.Key {
		name, cell := t.Column(column.To.Name), row.Old[column.At]
		switch {
		case cell == nil:
			conditions = append(conditions, name+" IS NULL")
			continue
		case comparesEqual(column.To.Base):
			conditions = append(conditions, name+" = ?::text::"+column.To.Base)
		default:
			conditions = append(conditions, "concat("+name+") = ?::text")
		}
		out.Args = append(out.Args, cellArg(cell))
	}
	// Of a table in partitions a ctid alone names several rows.
	found := "(SELECT ctid AS at, tableoid AS part FROM " + table + " WHERE " + strings.Join(conditions, " AND ") +
		" LIMIT 1) AS r WHERE t.ctid = r.at AND t.tableoid = r.part"
	if step.Kind == sqlsink.StepUpdateOne {
		out.Text = "UPDATE " + table + " AS t SET " + strings.Join(sets, ", ") + " FROM " + found
	} else {
		out.Text = "DELETE FROM " + table + " AS t USING " + found
	}
	return out
}

// cellArg is a cell as an argument of type text.
func cellArg(cell []byte) any {
	if cell == nil {
		return nil
	}
	return string(cell)
}
