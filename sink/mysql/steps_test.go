//go:build databases

package mysql_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/sink"
	"fencerow/sink/mysql"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

// rowsTarget is a table that is made for one of the source, and a connection to it.
type rowsTarget struct {
	*target
	session  sqlsink.Session
	relation *change.Relation
	table    *sqlsink.Table
}

// newRows makes the table for columns, of which those that have a place in the key are it.
func newRows(t testing.TB, columns ...change.Column) *rowsTarget {
	t.Helper()
	x := newTarget(t, nil)
	session, err := mysql.Open(t.Context(), x.config(t, sink.Identity{}, sqltest.Way{}), "rows")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, session.Close()) })
	out := &rowsTarget{target: x, session: session, relation: &change.Relation{Schema: "public", Name: "odd `name?", Columns: columns}}
	name := mysql.Tables().Target(out.relation.Schema, out.relation.Name)
	out.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterCreate, Columns: columns})
	out.table = out.read(t, name)
	return out
}

func (x *rowsTarget) alter(t testing.TB, alteration sqlsink.Alteration) {
	t.Helper()
	name := mysql.Tables().Target(x.relation.Schema, x.relation.Name)
	_, err := x.session.Do(t.Context(), sqlsink.Statement{Text: mysql.Tables().Alter(name, alteration)})
	require.NoError(t, err)
}

// read reads what the catalog says of a table.
func (x *rowsTarget) read(t testing.TB, name sqlsink.TableName) *sqlsink.Table {
	t.Helper()
	results, err := x.session.Do(t.Context(), mysql.Tables().ReadColumns(name), mysql.Tables().ReadUnique(name))
	require.NoError(t, err)
	out := &sqlsink.Table{Name: name}
	for _, row := range results[0].Rows {
		out.Columns = append(out.Columns, sqlsink.TableColumn{
			Name: row[0], Type: row[1], Base: row[2], Null: row[3] == "1", Default: row[4] == "1", Generated: row[5] == "1",
		})
	}
	last := ""
	for _, row := range results[1].Rows {
		if row[0] != last {
			out.Unique, last = append(out.Unique, nil), row[0]
		}
		out.Unique[len(out.Unique)-1] = append(out.Unique[len(out.Unique)-1], row[1])
	}
	return out
}

// step is a step over all columns.
func (x *rowsTarget) step(kind sqlsink.StepKind, rows ...sqlsink.StepRow) sqlsink.Step {
	out := sqlsink.Step{Kind: kind, Table: x.table, Rows: rows}
	for i := range x.relation.Columns {
		bound := sqlsink.Bound{To: x.table.Columns[i], From: &x.relation.Columns[i], At: i}
		out.Columns = append(out.Columns, bound)
		if bound.From.Key > 0 || kind == sqlsink.StepUpdateOne || kind == sqlsink.StepDeleteOne {
			out.Key = append(out.Key, bound)
		}
	}
	return out
}

// try does a step in a transaction.
func (x *rowsTarget) try(t testing.TB, step sqlsink.Step) error {
	t.Helper()
	do, err := mysql.Tables().Write(step)
	if err != nil {
		return err
	}
	if _, err = x.session.Do(t.Context(), append([]sqlsink.Statement{{Text: "BEGIN"}}, do...)...); err != nil {
		_, failed := x.session.Do(t.Context(), sqlsink.Statement{Text: "ROLLBACK"})
		require.NoError(t, failed)
		return err
	}
	return x.session.Commit(t.Context())
}

func (x *rowsTarget) write(t testing.TB, step sqlsink.Step) {
	t.Helper()
	require.NoError(t, x.try(t, step))
}

// rows returns all rows in order, with a bar between the columns.
func (x *rowsTarget) rows(t testing.TB) []string {
	t.Helper()
	parts := make([]string, len(x.table.Columns))
	for i, column := range x.table.Columns {
		parts[i] = "COALESCE(" + mysql.Tables().Column(column.Name) + ", 'NULL')"
	}
	return x.strings(t, "SELECT CONCAT_WS('|', "+strings.Join(parts, ", ")+") AS r FROM "+mysql.Tables().Full(x.table.Name)+" ORDER BY r")
}

func row(cells ...string) sqlsink.StepRow {
	var out sqlsink.StepRow
	for _, cell := range cells {
		if cell == "NULL" {
			out.Cells = append(out.Cells, nil)
		} else {
			out.Cells = append(out.Cells, []byte(cell))
		}
	}
	out.Old = out.Cells
	return out
}

// replaced is a row that has another one's place.
func replaced(old, cells sqlsink.StepRow) sqlsink.StepRow {
	return sqlsink.StepRow{Cells: cells.Cells, Old: old.Cells}
}

func requireReason(t *testing.T, err error, reason sqlsink.Reason, words ...string) {
	t.Helper()
	refused, ok := errors.AsType[*sqlsink.Refused](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, refused.Reason, "%v", err)
	for _, word := range words {
		require.ErrorContains(t, err, word)
	}
}

func number(name string, key int) change.Column {
	return change.Column{Name: name, Type: "integer", Kind: change.KindInt, Key: key}
}

func text(name string, key int) change.Column {
	return change.Column{Name: name, Type: "text", Key: key, Null: key == 0}
}

// Values at the edges of their types come back as they were, in statements and in what is loaded.
func TestValuesComeBack(t *testing.T) {
	for _, test := range []struct {
		kind  change.Kind
		typed string
		cells []string
		want  []string // nil: as they were written
	}{
		{change.KindBool, "boolean", []string{"f", "t"}, []string{"0", "1"}},
		{change.KindInt, "smallint", []string{"-32768", "32767"}, nil},
		{change.KindInt, "integer", []string{"-2147483648", "2147483647"}, nil},
		{change.KindInt, "bigint", []string{"-9223372036854775808", "9223372036854775807"}, nil},
		{change.KindInt, "oid", []string{"0", "4294967295"}, nil},
		{change.KindFloat, "real", []string{"1.1", "3.4028235e+38"}, nil},
		{change.KindFloat, "double precision", []string{"-1.7976931348623157e+308", "0.1", "5e-324"}, nil},
		{change.KindText, "numeric(65,30)", []string{strings.Repeat("9", 35) + "." + strings.Repeat("9", 30)}, nil},
		{change.KindText, "numeric(10,2)", []string{"-0.01", "12345678.90"}, nil},
		{change.KindText, "numeric", []string{"0.1"}, []string{"0.1" + strings.Repeat("0", 29)}},
		{change.KindText, "numeric(70,40)", []string{"NaN", "0." + strings.Repeat("1", 40)}, []string{"0." + strings.Repeat("1", 40), "NaN"}},
		{change.KindText, "text", []string{"", "'\\\x00?;--", "a\nb", "🦔 ", strings.Repeat("long", 1<<18)}, nil},
		{change.KindText, "character(5)", []string{"ab   "}, nil},
		{change.KindText, "date", []string{"0001-01-01", "9999-12-31"}, nil},
		{
			change.KindText, "timestamp without time zone",
			[]string{"0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"},
			[]string{"0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999"},
		},
		{change.KindText, "timestamp with time zone", []string{"2024-03-31 02:30:00.1+00"}, []string{"2024-03-31 02:30:00.100000"}},
		{change.KindText, "time without time zone", []string{"00:00:00", "24:00:00"}, []string{"00:00:00.000000", "24:00:00.000000"}},
		{change.KindText, "uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, nil},
		{change.KindText, "jsonb", []string{`{"a": 12345678901234567890.10}`}, nil},
		{change.KindBytes, "bytea", []string{`\x`, `\x00ff275c`}, []string{"", "\x00\xff'\\"}},
	} {
		for how, more := range map[string]int{"inserted": 1, "loaded": mysql.LoadFrom} {
			t.Run(test.typed+" "+how, func(t *testing.T) {
				x := newRows(t, change.Column{Name: "v?`'", Type: test.typed, Kind: test.kind, Null: true}, number("n", 0))
				require.True(t, mysql.Tables().Holds(x.relation.Columns[0], x.table.Columns[0]), "what is made is held")
				var rows []sqlsink.StepRow
				for _, cell := range test.cells {
					rows = append(rows, row(cell, "1"))
				}
				nulls := slices.Repeat([]sqlsink.StepRow{row("NULL", "1")}, more)
				x.write(t, x.step(sqlsink.StepInsert, slices.Concat(rows, nulls)...))
				_, isBytes := strings.CutPrefix(test.typed, "bytea")
				require.Equal(t, how == "loaded" && !isBytes, x.loaded(t) == 1, "bytes are no text")
				name := mysql.Tables().Column(x.table.Columns[0].Name)
				full := mysql.Tables().Full(x.table.Name)
				want := test.want
				if want == nil {
					want = test.cells
				}
				require.ElementsMatch(t, want, x.strings(t, "SELECT "+name+" FROM "+full+" WHERE "+name+" IS NOT NULL"))
				x.write(t, x.step(sqlsink.StepDeleteOne, rows...))
				require.Equal(t, slices.Repeat([]string{"NULL|1"}, more), x.rows(t), "each is found again as it was written")
			})
		}
	}
}

// What the server would store as something else is refused by it, or before it.
func TestNothingElseIsStored(t *testing.T) {
	x := newRows(t, number("id", 1), number("n", 0))
	full := mysql.Tables().Full(x.table.Name)
	x.exec(t, "ALTER TABLE "+full+" MODIFY id int NOT NULL AUTO_INCREMENT, MODIFY n tinyint, ADD m timestamp NULL")
	x.table = x.read(t, x.table.Name)
	x.write(t, x.step(sqlsink.StepInsert, row("0", "1")))
	require.Equal(t, []string{"0|1|NULL"}, x.rows(t), "a zero gets no number of the server's")
	requireReason(t, x.try(t, x.step(sqlsink.StepInsert, row("1", "128"))), sqlsink.RefusedRow, "Out of range")
	requireReason(t, x.try(t, x.step(sqlsink.StepInsert, row("NULL", "1"))), sqlsink.RefusedRow, "column id", "NULL")
	requireReason(t, x.try(t, x.step(sqlsink.StepInsert, row("1.5", "1"))), sqlsink.RefusedRow, "column id", "whole number")
}

func TestStepsByKey(t *testing.T) {
	x := newRows(t, text("a", 1), number("b", 2), text("v", 0))
	require.Equal(t, [][]string{{"a", "b"}}, x.table.Unique)
	x.write(t, x.step(sqlsink.StepInsert, row("k", "1", "x"), row("K", "1", "y"), row("k ", "1", "z"), row("ḱ", "1", "w")))
	requireReason(t, x.try(t, x.step(sqlsink.StepInsert, row("k", "1", "again"))), sqlsink.RefusedDuplicate)
	x.write(t, x.step(sqlsink.StepUpsert, row("k", "1", "x2"), row("n", "2", "new")))
	x.write(t, x.step(sqlsink.StepUpdate, replaced(row("K", "1", "y"), row("K", "9", "y2"))))
	require.Equal(t, []string{"k |1|z", "K|9|y2", "k|1|x2", "n|2|new", "ḱ|1|w"}, sorted(x.rows(t), "k |1|z", "K|9|y2"))
	requireReason(t, x.try(t, x.step(sqlsink.StepUpdate, row("gone", "1", "v"))), sqlsink.RefusedGone)
	x.write(t, x.step(sqlsink.StepDelete, row("k", "1", ""), row("n", "2", ""), row("gone", "7", "")))
	require.Equal(t, []string{"k |1|z", "K|9|y2", "ḱ|1|w"}, sorted(x.rows(t), "k |1|z", "K|9|y2"))
	partly := x.step(sqlsink.StepUpdate, row("k ", "1", "changed"))
	partly.Columns = partly.Columns[2:]
	x.write(t, partly)
	x.write(t, x.step(sqlsink.StepTruncate))
	require.Empty(t, x.rows(t))
}

// sorted puts some rows first, whose order is the collation's.
func sorted(rows []string, first ...string) []string {
	out := append([]string(nil), first...)
	for _, one := range rows {
		if one != first[0] && one != first[1] {
			out = append(out, one)
		}
	}
	return out
}

// An upsert writes over the row that has its key, never over one that only shares a value of another unique index.
func TestAnUpsertKeepsToItsKey(t *testing.T) {
	x := newRows(t, number("id", 1), number("email", 0))
	x.exec(t, "ALTER TABLE "+mysql.Tables().Full(x.table.Name)+" ADD UNIQUE (email)")
	x.write(t, x.step(sqlsink.StepUpsert, row("1", "10"), row("2", "20")))
	requireReason(t, x.try(t, x.step(sqlsink.StepUpsert, row("3", "30"), row("4", "20"))), sqlsink.RefusedRow, "another row", "unique")
	require.Equal(t, []string{"1|10", "2|20"}, x.rows(t))
	x.write(t, x.step(sqlsink.StepUpsert, row("1", "11"), row("2", "20")))
	require.Equal(t, []string{"1|11", "2|20"}, x.rows(t))
}

// Updates of many rows go in one statement, whatever the key and the values are.
func TestManyRowsAreUpdated(t *testing.T) {
	key := map[string][]string{
		"integer": {"1", "2", "3"}, "text": {"a", "A", "a "}, "bytea": {`\x00`, `\x6127`, `\xff`}, "date": {"2024-01-01", "2024-01-02", "2024-01-03"},
		"timestamp with time zone": {"2024-01-01 00:00:00+00", "2024-01-01 00:00:00.5+00", "2024-01-02 00:00:00+00"},
		"uuid":                     {"00eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "10eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "20eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		"numeric(10,2)":            {"1.00", "1.50", "2.00"},
	}
	for typed, keys := range key {
		t.Run(typed, func(t *testing.T) {
			column := change.Column{Name: "k", Type: typed, Key: 1}
			switch typed {
			case "integer":
				column.Kind = change.KindInt
			case "bytea":
				column.Kind = change.KindBytes
			}
			x := newRows(t, column, change.Column{Name: "d", Type: "numeric", Null: true}, change.Column{Name: "n", Type: "bigint", Kind: change.KindInt, Null: true}, text("v", 0))
			wide := strings.Repeat("9", 35) + "." + strings.Repeat("9", 30)
			x.write(t, x.step(sqlsink.StepInsert, row(keys[0], "1", "1", "x"), row(keys[1], "2", "2", "NULL"), row(keys[2], "3", "3", "z")))
			step := x.step(sqlsink.StepUpdate, row(keys[0], wide, "-9223372036854775808", "it's"), row(keys[1], "NULL", "9223372036854775807", "NULL"), row(keys[2], "0.5", "NULL", ""))
			step.Columns = step.Columns[1:]
			statements, err := mysql.Tables().Write(step)
			require.NoError(t, err)
			require.Len(t, statements, 1)
			x.write(t, step)
			zeros := "0.5" + strings.Repeat("0", 29)
			require.ElementsMatch(t, []string{wide + "|-9223372036854775808|it's", "NULL|9223372036854775807|NULL", zeros + "|NULL|"},
				x.strings(t, "SELECT CONCAT_WS('|', COALESCE(d, 'NULL'), COALESCE(n, 'NULL'), COALESCE(v, 'NULL')) FROM "+mysql.Tables().Full(x.table.Name)))
			x.write(t, x.step(sqlsink.StepDelete, row(keys[0], "1", "1", "x")))
			requireReason(t, x.try(t, step), sqlsink.RefusedGone)
		})
	}
}

// Rows without a key are equal only in every byte, and of equal ones one is meant.
func TestStepsOfRowsWithoutKey(t *testing.T) {
	x := newRows(t, text("a", 0), number("b", 0))
	require.Empty(t, x.table.Unique)
	x.write(t, x.step(sqlsink.StepInsert, row("x", "1"), row("x", "1"), row("X", "1"), row("x ", "1"), row("x", "NULL")))
	x.write(t, x.step(sqlsink.StepDeleteOne, row("x", "1")))
	x.write(t, x.step(sqlsink.StepUpdateOne, replaced(row("x", "1"), row("y", "2"))))
	x.write(t, x.step(sqlsink.StepUpdateOne, replaced(row("x", "NULL"), row("z", "NULL"))))
	require.ElementsMatch(t, []string{"y|2", "X|1", "x |1", "z|NULL"}, x.rows(t))
	requireReason(t, x.try(t, x.step(sqlsink.StepUpdateOne, row("x", "1"))), sqlsink.RefusedGone)
}

// A page of a snapshot deletes what it does not hold, of its part of the table alone.
func TestClearingPartOfATable(t *testing.T) {
	for typed, keys := range map[string][]string{
		"text":                        {"a", "b", "c", "d"},
		"numeric(4,2)":                {"1.00", "1.50", "2.25", "3.00"},
		"numeric":                     {"1", "1.5", "1.50001", "2"},
		"date":                        {"2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"},
		"timestamp without time zone": {"2024-01-01 00:00:00", "2024-01-01 00:00:00.5", "2024-01-01 00:00:01.25", "2024-01-01 00:00:02"},
		"timestamp with time zone":    {"2024-01-01 00:00:00+00", "2024-01-01 00:00:00.5+00", "2024-01-01 00:00:01+00", "2024-01-01 00:00:02+00"},
		"bytea":                       {`\x00`, `\x00ff`, `\x61`, `\xff`},
		"uuid": {
			"00eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "10eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
			"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "f0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
		},
	} {
		t.Run(typed, func(t *testing.T) {
			column := change.Column{Name: "k", Type: typed, Key: 1}
			if typed == "bytea" {
				column.Kind = change.KindBytes
			}
			x := newRows(t, column, number("n", 0))
			require.True(t, mysql.Tables().Holds(column, x.table.Columns[0]), "what is made is held")
			var rows []sqlsink.StepRow
			for i, key := range keys {
				rows = append(rows, row(key, strconv.Itoa(i)))
			}
			x.write(t, x.step(sqlsink.StepInsert, rows...))
			cleared := x.step(sqlsink.StepClear, row(keys[1], "1"))
			expression := mysql.Tables().KeyText(column, x.table.Columns[0])
			cleared.Where = sqlsink.Condition{
				Text: expression + " >= ? AND " + expression + " < ?",
				Args: []any{mysql.Tables().KeyBytes(keys[1]), mysql.Tables().KeyBytes(keys[3])},
			}
			x.write(t, cleared)
			require.Equal(t, []string{"0", "1", "3"}, x.strings(t, "SELECT n FROM "+mysql.Tables().Full(x.table.Name)+" ORDER BY n"))
		})
	}
}

func TestTablesAreAltered(t *testing.T) {
	x := newRows(t, number("id", 1), text("v", 0))
	added := change.Column{Name: "w", Type: "numeric(5,1)", Null: true}
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterAdd, Columns: []change.Column{added}})
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterRename, Name: "v", Columns: []change.Column{text("renamed", 0)}})
	wider := change.Column{Name: "w", Type: "numeric(9,3)", Null: true}
	require.False(t, mysql.Tables().Holds(wider, x.read(t, x.table.Name).Columns[2]))
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterType, Name: "w", Columns: []change.Column{wider}})
	now := x.read(t, x.table.Name)
	require.True(t, mysql.Tables().Holds(wider, now.Columns[2]))
	require.Equal(t, []string{"id", "renamed", "w"}, []string{now.Columns[0].Name, now.Columns[1].Name, now.Columns[2].Name})
	require.Equal(t, "decimal(9,3)", now.Columns[2].Type)
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterDrop, Name: "renamed"})
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterCreate, Columns: x.relation.Columns})
	require.Len(t, x.read(t, x.table.Name).Columns, 2, "a table that is there stays as it is")
}

func TestAKeyIsAddedToATable(t *testing.T) {
	x := newRows(t, text("a", 0), number("b", 0), text("v", 0))
	x.alter(t, sqlsink.Alteration{Kind: sqlsink.AlterKey, Columns: []change.Column{number("b", 2), text("a", 1)}})
	now := x.read(t, x.table.Name)
	require.Equal(t, [][]string{{"a", "b"}}, now.Unique)
	require.False(t, now.Columns[0].Null)
	require.True(t, now.Columns[2].Null)
}
