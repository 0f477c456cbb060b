package postgres

import (
	"regexp"
	"strconv"
	"strings"

	"fencerow/sink/sqlsink"
)

// schema holds our tables.
const schema = "fencerow"

// dialect is PostgreSQL's SQL.
type dialect struct{ user string }

var _ sqlsink.Dialect = dialect{}

// Table implements [sqlsink.Dialect].
func (dialect) Table(name string) string { return schema + "." + name }

// Quote implements [sqlsink.Dialect].
func (dialect) Quote(name string) string { return `"` + strings.ReplaceAll(name, ".", `"."`) + `"` }

// Hex implements [sqlsink.Dialect].
func (dialect) Hex(column string) string { return "encode(" + column + ", 'hex')" }

// Source implements [sqlsink.Dialect]: an array a column, so that a statement is as long for many rows as for one.
func (d dialect) Source(columns []sqlsink.Column, rows [][]any) (string, []any) {
	args := make([]any, len(columns))
	arrays, cells, names := make([]string, len(columns)), make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		array := sqlsink.Array{Kind: column.Kind, Cells: make([]any, len(rows))}
		for k, row := range rows {
			array.Cells[k] = row[i]
		}
		args[i] = array
		arrays[i] = "?::" + elements(column.Kind) + "[]"
		names[i] = "c" + strconv.Itoa(i)
		cells[i] = names[i] + "::" + d.Type(column.Kind)
	}
	return "SELECT " + strings.Join(cells, ", ") + " FROM unnest(" + strings.Join(arrays, ", ") + ") AS r(" + strings.Join(names, ", ") + ")", args
}

// elements is the type in which cells travel.
func elements(kind sqlsink.ColumnKind) string {
	switch kind {
	case sqlsink.ColumnKey, sqlsink.ColumnBytes:
		return "bytea"
	case sqlsink.ColumnNumber:
		return "bigint"
	case sqlsink.ColumnPosition, sqlsink.ColumnText:
		return "text"
	}
	return "text"
}

// Among implements [sqlsink.Dialect].
func (dialect) Among(column string, bytes []any) (string, []any) {
	return column + " = ANY (?::bytea[])", []any{sqlsink.Array{Kind: sqlsink.ColumnBytes, Cells: bytes}}
}

// Upsert implements [sqlsink.Dialect].
func (dialect) Upsert(key string, columns []string) string {
	sets := make([]string, len(columns))
	for i, column := range columns {
		sets[i] = column + " = EXCLUDED." + column
	}
	return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sets, ", ")
}

// Type implements [sqlsink.Dialect].
func (dialect) Type(kind sqlsink.ColumnKind) string {
	switch kind {
	case sqlsink.ColumnKey, sqlsink.ColumnBytes:
		return "bytea"
	case sqlsink.ColumnNumber:
		return "bigint"
	case sqlsink.ColumnPosition:
		return "numeric(20)"
	case sqlsink.ColumnText:
		return "text"
	}
	return ""
}

var (
	holdsBytes    = regexp.MustCompile(`^bytea$`)
	holdsNumber   = regexp.MustCompile(`^(bigint|numeric)$`)
	holdsPosition = regexp.MustCompile(`^numeric$`)
	holdsText     = regexp.MustCompile(`^(text|character varying)$`)
)

// Holds implements [sqlsink.Dialect].
func (dialect) Holds(kind sqlsink.ColumnKind) *regexp.Regexp {
	switch kind {
	case sqlsink.ColumnKey, sqlsink.ColumnBytes:
		return holdsBytes
	case sqlsink.ColumnNumber:
		return holdsNumber
	case sqlsink.ColumnPosition:
		return holdsPosition
	case sqlsink.ColumnText:
		return holdsText
	}
	return holdsText
}

// Present implements [sqlsink.Dialect].
func (dialect) Present() sqlsink.Statement {
	return sqlsink.Statement{Rows: true, Text: "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = '" + schema +
		"' AND tablename IN ('heads', 'claims', 'targets', 'syncs', 'tables')"}
}

// Setup implements [sqlsink.Dialect].
func (dialect) Setup() []sqlsink.Statement {
	var out []sqlsink.Statement
	for _, text := range []string{
		`CREATE SCHEMA IF NOT EXISTS fencerow`,
		`CREATE TABLE IF NOT EXISTS fencerow.heads (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			cluster text NOT NULL, namespace text NOT NULL, name text NOT NULL, uid text NOT NULL,
			floor bigint NOT NULL, removed boolean NOT NULL, target text NOT NULL, next_claim bigint NOT NULL,
			rest text, created timestamptz NOT NULL DEFAULT now(), UNIQUE (cluster, namespace, name))`,
		`CREATE TABLE IF NOT EXISTS fencerow.claims (
			head bigint NOT NULL, incarnation bigint NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL,
			span_start bytea NOT NULL, span_end bytea NOT NULL,
			position numeric(20) NOT NULL, position_index bigint NOT NULL, parts text,
			backend text NOT NULL, claimed timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (head, incarnation))
			WITH (fillfactor = 50)`,
		`CREATE TABLE IF NOT EXISTS fencerow.targets (target text PRIMARY KEY, head bigint NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS fencerow.syncs (
			head bigint NOT NULL, position numeric(20) NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL,
			recorded timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (head, position))`,
		`CREATE TABLE IF NOT EXISTS fencerow.tables (
			head bigint NOT NULL, source text NOT NULL, target text NOT NULL, relation text NOT NULL,
			position numeric(20) NOT NULL, position_index bigint NOT NULL, fresh boolean NOT NULL, altered text,
			PRIMARY KEY (head, source))`,
	} {
		out = append(out, sqlsink.Statement{Text: text})
	}
	return out
}

// Describe implements [sqlsink.Dialect]. A table without a schema is found as PostgreSQL itself finds it.
func (d dialect) Describe(table string) sqlsink.Statement {
	return sqlsink.Statement{
		Rows: true, Args: []any{d.Quote(table)},
		Text: `SELECT n.nspname || '.' || c.relname, a.attname, regexp_replace(format_type(a.atttypid, NULL), '\(.*', '') 
			FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
	}
}

// Grants implements [sqlsink.Dialect].
func (d dialect) Grants(table string) string {
	user := d.Quote(d.user)
	return "GRANT USAGE ON SCHEMA fencerow TO " + user + "; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fencerow TO " + user +
		"; GRANT SELECT, INSERT, UPDATE, DELETE ON " + d.Quote(table) + " TO " + user +
		"; to let it create them instead: GRANT CREATE ON DATABASE … TO " + user + " and GRANT CREATE ON SCHEMA public TO " + user
}

// numbered gives the arguments of a statement the names that PostgreSQL wants. What stands in quotes, where people's names and values may have
// any character, is left as it is; our texts double a quote in quotes.
func numbered(text string) string {
	if !strings.Contains(text, "?") {
		return text
	}
	out := make([]byte, 0, len(text)+4*strings.Count(text, "?"))
	n, quote := 0, byte(0)
	for i := range len(text) {
		b := text[i]
		switch {
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '\'' || b == '"':
			quote = b
		case b == '?':
			n++
			out = strconv.AppendInt(append(out, '$'), int64(n), 10)
			continue
		}
		out = append(out, b)
	}
	return string(out)
}
