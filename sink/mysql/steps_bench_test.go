//go:build databases

package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// benchRows is how many rows one transaction writes.
const benchRows = 5000

// BenchmarkSteps writes rows of a table like pgbench's accounts, a transaction of many at a time: make databases BENCH=Steps.
func BenchmarkSteps(b *testing.B) {
	for name, kind := range map[string]sqlsink.StepKind{
		"insert": sqlsink.StepInsert, "upsert": sqlsink.StepUpsert, "update": sqlsink.StepUpdate, "delete": sqlsink.StepDelete,
	} {
		b.Run(name, func(b *testing.B) {
			x := accounts(b)
			if kind != sqlsink.StepInsert {
				x.write(b, x.step(sqlsink.StepInsert, accountRows(0, benchRows*b.N, 0)...))
			}
			b.ResetTimer()
			for i := range b.N {
				step := x.step(kind, accountRows(i*benchRows, benchRows, i)...)
				if kind == sqlsink.StepUpdate {
					step.Columns = step.Columns[1:]
				}
				x.write(b, step)
			}
			b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// accounts is a table like pgbench's.
func accounts(b *testing.B) *rowsTarget {
	b.Helper()
	return newRows(b, number("aid", 1), number("bid", 0), number("abalance", 0), change.Column{Name: "filler", Type: "character(84)", Null: true})
}

func accountRows(from, n, balance int) []sqlsink.StepRow {
	filler := []byte(strings.Repeat(" ", 84))
	var out []sqlsink.StepRow
	for i := range n {
		cells := [][]byte{fmt.Append(nil, from+i), []byte("1"), fmt.Append(nil, balance+i), filler}
		out = append(out, sqlsink.StepRow{Cells: cells, Old: cells})
	}
	return out
}
