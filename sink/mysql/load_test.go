//go:build databases

package mysql_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/sink"
	"fencerow/sink/mysql"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

// loaded returns how many statements of LOAD DATA the server did for this connection.
func (x *rowsTarget) loaded(t testing.TB) int {
	t.Helper()
	return loadedBy(t, x.session)
}

func loadedBy(t testing.TB, session sqlsink.Session) int {
	t.Helper()
	results, err := session.Do(t.Context(), sqlsink.Statement{Text: "SHOW SESSION STATUS LIKE 'Com_load'", Rows: true})
	require.NoError(t, err)
	n, err := strconv.Atoi(results[0].Rows[0][1])
	require.NoError(t, err)
	return n
}

// numbered are rows with a key, as many as are loaded.
func numbered(from int) []sqlsink.StepRow {
	out := make([]sqlsink.StepRow, mysql.LoadFrom)
	for i := range out {
		out[i] = row(strconv.Itoa(from+i), "x", "1")
	}
	return out
}

// What would be taken for the end of a cell or a row, for NULL or for an escape stays what it is.
func TestWhatIsLoadedIsWhatItWas(t *testing.T) {
	x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
	odd := []string{`\N`, `\`, `\\`, "\t", "a\tb", "\n", "a\r\nb", "\\\n", "", "NULL", `"q"`, "'", "\x00", "\x1a", `\n`, "🦔", "ends with \\", "ends with \t"}
	rows := numbered(0)
	want := make([]string, 0, len(rows))
	for i := range rows {
		cell := odd[i%len(odd)]
		rows[i] = row(strconv.Itoa(i), cell, "1")
		want = append(want, fmt.Sprintf("%d|%s|1", i, cell))
		if cell == "NULL" {
			rows[i].Cells[1] = []byte(cell) // the word
		}
	}
	x.write(t, x.step(sqlsink.StepInsert, rows...))
	require.Equal(t, 1, x.loaded(t))
	require.ElementsMatch(t, want, x.rows(t))
}

// A row that LOAD DATA leaves out, or stores as another one, is refused as it is in a statement of its own, and nothing is stored.
func TestWhatIsLoadedIsExact(t *testing.T) {
	for name, test := range map[string]struct {
		prepare string // of the table %s
		bad     sqlsink.StepRow
		reason  sqlsink.Reason
		words   string
	}{
		"a key that is there": {"INSERT INTO %s VALUES (7, 'there', 1)", row("9999", "x", "1"), sqlsink.RefusedDuplicate, "Duplicate"},
		"a key twice":         {"", row("3", "x", "1"), sqlsink.RefusedDuplicate, "Duplicate"},
		"a check":             {"ALTER TABLE %s ADD CONSTRAINT small CHECK (n < 5)", row("9999", "x", "5"), sqlsink.RefusedRow, "small"},
		"a trigger":           {"CREATE TRIGGER no BEFORE INSERT ON %s FOR EACH ROW IF NEW.n > 5 THEN SIGNAL SQLSTATE '45000'; END IF", row("9999", "x", "6"), sqlsink.RefusedRow, "user-defined"},
		"a narrower number":   {"ALTER TABLE %s MODIFY n tinyint", row("9999", "x", "128"), sqlsink.RefusedRow, "Out of range"},
		"a narrower text":     {"ALTER TABLE %s MODIFY v varchar(2)", row("9999", "long", "1"), sqlsink.RefusedRow, "characters"},
		"another charset":     {"ALTER TABLE %s MODIFY v text CHARACTER SET latin1", row("9999", "🦔", "1"), sqlsink.RefusedRow, "Incorrect string value"},
		"a word of an enum":   {"ALTER TABLE %s MODIFY v enum('x', 'y')", row("9999", "z", "1"), sqlsink.RefusedRow, "truncated"},
		"a NULL":              {"ALTER TABLE %s MODIFY v text NOT NULL", row("9999", "NULL", "1"), sqlsink.RefusedRow, "is NULL"},
		"a fraction":          {"", row("9999", "x", "1.5"), sqlsink.RefusedRow, "whole number"},
		"a foreign key": {
			"ALTER TABLE %s ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES parents (id)", row("9999", "x", "2"), sqlsink.RefusedRow, "foreign key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
			x.exec(t, "CREATE TABLE parents (id int PRIMARY KEY)")
			x.exec(t, "INSERT INTO parents VALUES (1)")
			if test.prepare != "" {
				x.exec(t, fmt.Sprintf(test.prepare, mysql.Tables().Full(x.table.Name)))
				x.table = x.read(t, x.table.Name)
			}
			before := x.rows(t)
			step := x.step(sqlsink.StepInsert, append(numbered(0), test.bad)...)
			requireReason(t, x.try(t, step), test.reason, test.words)
			require.Equal(t, 1, x.loaded(t), "it was tried")
			require.Equal(t, before, x.rows(t), "nothing of it is stored")
			x.write(t, x.step(sqlsink.StepInsert, numbered(20_000)...))
			require.Equal(t, 1, x.loaded(t), "and not tried again for this table")
			require.Len(t, x.rows(t), len(before)+mysql.LoadFrom)
		})
	}
}

// A server that takes no LOAD DATA gets statements, as does one whose transactions may not outlive it.
func TestWhoLoads(t *testing.T) {
	on := func(pairs ...string) (out [][]string) {
		for pair := range slices.Chunk(pairs, 2) {
			out = append(out, pair)
		}
		return out
	}
	const maria = "10.11.6-MariaDB"
	require.True(t, mysql.Loads("8.4.3", on("local_infile", "ON")))
	require.True(t, mysql.Loads(maria, on("local_infile", "ON", "wsrep_on", "OFF")))
	require.False(t, mysql.Loads(maria, on("local_infile", "ON", "wsrep_on", "ON")))
	require.False(t, mysql.Loads(maria, on("local_infile", "OFF")))
	require.False(t, mysql.Loads(maria, nil))
	require.False(t, mysql.Loads("8.0.11-TiDB-v7.5.0", on("local_infile", "ON")))

	_, err := root.ExecContext(t.Context(), "SET GLOBAL local_infile = 0")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := root.Exec("SET GLOBAL local_infile = 1")
		require.NoError(t, err)
	})
	x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
	x.write(t, x.step(sqlsink.StepInsert, numbered(0)...))
	require.Zero(t, x.loaded(t))
	require.Len(t, x.rows(t), mysql.LoadFrom)
}

// A server that stops taking it while we are connected gets statements in the same transaction.
func TestLoadingIsTurnedOff(t *testing.T) {
	x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
	_, err := root.ExecContext(t.Context(), "SET GLOBAL local_infile = 0")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := root.Exec("SET GLOBAL local_infile = 1")
		require.NoError(t, err)
	})
	x.write(t, x.step(sqlsink.StepInsert, numbered(0)...))
	require.Len(t, x.rows(t), mysql.LoadFrom)
	require.True(t, strings.HasPrefix(x.rows(t)[0], "0|"))
}

// Outside of a transaction nothing is loaded: a part of it would stay.
func TestNothingIsLoadedOutsideOfATransaction(t *testing.T) {
	x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
	do, err := mysql.Tables().Write(x.step(sqlsink.StepInsert, numbered(0)...))
	require.NoError(t, err)
	_, err = x.session.Do(t.Context(), do...)
	require.NoError(t, err)
	require.Zero(t, x.loaded(t))
	require.Len(t, x.rows(t), mysql.LoadFrom)
}

// Whatever is lost while rows are loaded, none of them is stored, and connections that are lost again and again load no more.
func TestAConnectionIsLostWhileRowsAreLoaded(t *testing.T) {
	x := newRows(t, number("id", 1), text("v", 0), number("n", 0))
	proxy := sqltest.NewProxy(t, server.Host)
	open := mysql.Opener(t, x.config(t, sink.Identity{}, sqltest.Way{Host: proxy.Host()}))
	do, err := mysql.Tables().Write(x.step(sqlsink.StepInsert, numbered(0)...))
	require.NoError(t, err)
	cuts := []int{30, 1000, 3000} // of about 4,000 bytes: in the statement, and in its rows
	require.Len(t, cuts, mysql.LostMax)
	for try := range len(cuts) + 1 {
		session, err := open(t.Context(), "rows")
		require.NoError(t, err)
		_, err = session.Do(t.Context(), sqlsink.Statement{Text: "BEGIN"})
		require.NoError(t, err)
		if try < len(cuts) {
			proxy.CutAfter(sqltest.ToServer, cuts[try])
		}
		_, err = session.Do(t.Context(), do...)
		if try < len(cuts) {
			require.True(t, proxy.WasCut())
			require.Error(t, err)
			_, refused := errors.AsType[*sqlsink.Refused](err)
			require.False(t, refused, "%v", err)
			require.NoError(t, session.Close())
			proxy.CutAfter(sqltest.ToServer, -1)
			require.Empty(t, x.rows(t))
			continue
		}
		require.NoError(t, err)
		require.Zero(t, loadedBy(t, session))
		require.NoError(t, session.Commit(t.Context()))
		require.NoError(t, session.Close())
	}
	require.Len(t, x.rows(t), mysql.LoadFrom)
}
