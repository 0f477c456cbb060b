package verifytables

import (
	"context"
	"slices"

	"fencerow/sink/mysql"
	"fencerow/sink/sqlsink"
	"fencerow/verify"
	"fencerow/verify/verifypostgres"
	"fencerow/verify/verifysql"
)

// Absent makes what asks whether a table, as statements have it, is not there.
type Absent func(table string) func(context.Context) (bool, error)

// MySQL says what is compared of a source that is a PostgreSQL and a target that is a MySQL or MariaDB.
func MySQL(pairs []Pair, from Orders, absent Absent) (source []verifypostgres.Table, target []verifysql.Table, left []verify.Left) {
	found, left := matches(pairs, func(_ *Pair, bound *sqlsink.Bound) bool {
		_, err := mysql.NewShown(*bound)
		return err == nil
	})
	for i := range found {
		one := &found[i]
		ours := one.ofSource(func(*sqlsink.Bound) string { return "" })
		theirs := verifysql.Table{Name: ours.Name, From: mysql.FullName(one.Name)}
		if one.absent() {
			theirs.Absent = absent(theirs.From)
			theirs.Key = slices.Repeat([]verifysql.Key{{}}, len(one.key)) // so that it is one with a key, or without, as the source's
			source, target = append(source, ours), append(target, theirs)
			continue
		}
		for i := range one.columns {
			shown, _ := mysql.NewShown(one.columns[i]) //nolint:errcheck // it was asked for above
			theirs.Columns = append(theirs.Columns, verifysql.Column{
				Name: one.columns[i].From.Name, Expression: shown.Expression(), Form: shown.OfTarget,
			})
		}
		ordered := true
		for i := range one.key {
			shown, _ := mysql.NewShown(one.key[i]) //nolint:errcheck // it was asked for above
			ordered = ordered && shown.Ordered(from[ours.Name][one.key[i].From.Name] == verifypostgres.OrderBytes)
			theirs.Key = append(theirs.Key, verifysql.Key{Name: shown.Expression(), Text: shown.KeyText(), Literal: shown.Literal})
		}
		ours.Apart, theirs.Apart = !ordered, !ordered
		source, target = append(source, ours), append(target, theirs)
	}
	return source, target, left
}

// Forms are how values of the source are brought to the form in which a MySQL or MariaDB shows them, for each column of a table in
// the order of what [MySQL] returns.
func Forms(pairs []Pair) func(table string, columns []string) []func([]byte) ([]byte, error) {
	asIs := func(cell []byte) ([]byte, error) { return cell, nil }
	return func(table string, columns []string) []func([]byte) ([]byte, error) {
		out := make([]func([]byte) ([]byte, error), len(columns))
		at := slices.IndexFunc(pairs, func(p Pair) bool { return p.name() == table })
		for i, name := range columns {
			out[i] = asIs
			k := slices.IndexFunc(pairs[at].Columns, func(b sqlsink.Bound) bool { return b.From.Name == name })
			if k < 0 {
				continue // the target has no table
			}
			if shown, err := mysql.NewShown(pairs[at].Columns[k]); err == nil {
				out[i] = shown.OfSource
			}
		}
		return out
	}
}
