package mysql

import (
	"regexp"
	"strings"

	"fencerow/sink/sqlsink"
)

// prefix begins the names of our tables.
const prefix = "fencerow_"

// dialect is the SQL that MySQL and MariaDB share.
type dialect struct{ user, database string }

var _ sqlsink.Dialect = dialect{}

// Table implements [sqlsink.Dialect].
func (dialect) Table(name string) string { return prefix + name }

// Quote implements [sqlsink.Dialect].
func (dialect) Quote(name string) string { return "`" + strings.ReplaceAll(name, ".", "`.`") + "`" }

// Hex implements [sqlsink.Dialect].
func (dialect) Hex(column string) string { return "HEX(" + column + ")" }

// Source implements [sqlsink.Dialect].
func (dialect) Source(_ []sqlsink.Column, rows [][]any) (string, []any) { return sqlsink.Values(rows) }

// Among implements [sqlsink.Dialect].
func (dialect) Among(column string, bytes []any) (string, []any) { return sqlsink.In(column, bytes) }

// Upsert implements [sqlsink.Dialect].
func (dialect) Upsert(_ string, columns []string) string {
	sets := make([]string, len(columns))
	for i, column := range columns {
		sets[i] = column + " = VALUES(" + column + ")"
	}
	return " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ", ")
}

// Type implements [sqlsink.Dialect]. A key is as long as an index of InnoDB takes.
func (dialect) Type(kind sqlsink.ColumnKind) string {
	switch kind {
	case sqlsink.ColumnKey:
		return "varbinary(3072)"
	case sqlsink.ColumnBytes:
		return "longblob"
	case sqlsink.ColumnNumber:
		return "bigint"
	case sqlsink.ColumnPosition:
		return "bigint unsigned"
	case sqlsink.ColumnText:
		return "varchar(16)"
	}
	return ""
}

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

var (
	holdsBytes    = regexp.MustCompile(`^(varbinary\(.*|blob|mediumblob|longblob)$`)
	holdsNumber   = regexp.MustCompile(`^bigint(\(\d+\))?$`)
	holdsPosition = regexp.MustCompile(`^(bigint(\(\d+\))? unsigned|decimal\(2\d,0\).*)$`)
	holdsText     = regexp.MustCompile(`^(varchar\(.*|text)$`)
)

// Present implements [sqlsink.Dialect].
func (dialect) Present() sqlsink.Statement {
	return sqlsink.Statement{Rows: true, Text: "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() " +
		"AND table_name IN ('fencerow_heads', 'fencerow_claims', 'fencerow_targets', 'fencerow_syncs', 'fencerow_tables')"}
}

// Setup implements [sqlsink.Dialect].
func (dialect) Setup() []sqlsink.Statement {
	const name = "varchar(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
	var out []sqlsink.Statement
	for _, text := range []string{
		`CREATE TABLE IF NOT EXISTS fencerow_heads (
			id bigint AUTO_INCREMENT PRIMARY KEY,
			cluster ` + name + `, namespace ` + name + `, name ` + name + `, uid ` + name + `,
			floor bigint NOT NULL, removed tinyint NOT NULL, target ` + name + `, next_claim bigint NOT NULL,
			rest longtext CHARACTER SET utf8mb4, created timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
			UNIQUE KEY (cluster, namespace, name)) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS fencerow_claims (
			head bigint NOT NULL, incarnation bigint NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL,
			span_start longblob NOT NULL, span_end longblob NOT NULL,
			position bigint unsigned NOT NULL, position_index bigint NOT NULL, parts longtext CHARACTER SET utf8mb4,
			backend ` + name + `, claimed timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (head, incarnation)) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS fencerow_targets (target ` + name + ` PRIMARY KEY, head bigint NOT NULL) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS fencerow_syncs (
			head bigint NOT NULL, position bigint unsigned NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL,
			recorded timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (head, position)) ENGINE = InnoDB`,
		`CREATE TABLE IF NOT EXISTS fencerow_tables (
			head bigint NOT NULL, source varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
			target varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, relation longtext CHARACTER SET utf8mb4 NOT NULL,
			position bigint unsigned NOT NULL, position_index bigint NOT NULL, fresh tinyint NOT NULL,
			altered longtext CHARACTER SET utf8mb4, PRIMARY KEY (head, source)) ENGINE = InnoDB`,
	} {
		out = append(out, sqlsink.Statement{Text: text})
	}
	return out
}

// Describe implements [sqlsink.Dialect].
func (d dialect) Describe(table string) sqlsink.Statement {
	return sqlsink.Statement{
		Rows: true, Args: []any{table},
		Text: "SELECT table_name, column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?" +
			" ORDER BY ordinal_position",
	}
}

// Grants implements [sqlsink.Dialect].
func (d dialect) Grants(table string) string {
	on := func(rights, table string) string {
		return "GRANT " + rights + " ON " + d.Quote(d.database) + "." + table + " TO '" + d.user + "'; "
	}
	const rights = "SELECT, INSERT, UPDATE, DELETE"
	return on(rights, "fencerow_heads") + on(rights, "fencerow_claims") + on(rights, "fencerow_targets") + on(rights, "fencerow_syncs") +
		on(rights, "fencerow_tables") +
		on(rights, d.Quote(table)) + "to let it create them instead: " + on("CREATE", "*")
}
