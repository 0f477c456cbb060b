package verifypostgres

import (
	"context"
	"strings"

	"fencerow/change"
	"fencerow/verify"
	"fencerow/verify/verifysql"
)

// Reading is a source whose rows are read and digested here, for a target that is no PostgreSQL.
type Reading struct {
	*verifysql.Side
	source *Side
}

var _ verify.Source = Reading{}

// NewReading returns a source of tables, with what stands for the values of each of their columns at both sides.
func NewReading(server *Server, tables []Table, forms func(table string, columns []string) []func([]byte) ([]byte, error)) Reading {
	out := Reading{Side: &verifysql.Side{Server: server}, source: &Side{Server: server, Tables: tables}}
	for i := range tables {
		table := &tables[i]
		one := verifysql.Table{Name: table.Name, From: table.from(), Version: Version, Apart: table.Apart}
		for _, column := range table.Key {
			one.Key = append(one.Key, verifysql.Key{Name: quote(column.Name), Text: "concat(" + quote(column.Name) + ")", Literal: literal})
		}
		for at, form := range forms(table.Name, table.Columns) {
			one.Columns = append(one.Columns, verifysql.Column{
				Name: table.Columns[at], Expression: quote(table.Relation.Columns[at].Name), Form: form,
			})
		}
		out.Tables = append(out.Tables, one)
	}
	return out
}

// literal writes text for a statement.
func literal(text string) (string, error) {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'", nil
}

// Total implements [verify.Source].
func (r Reading) Total(ctx context.Context) (int64, error) { return r.source.Total(ctx) }

// Head implements [verify.Source].
func (r Reading) Head(ctx context.Context) (change.Position, error) { return r.source.Head(ctx) }

// Settle implements [verify.Source].
func (r Reading) Settle(ctx context.Context) error { return r.source.Settle(ctx) }
