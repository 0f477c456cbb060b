package verifytables

import (
	"fencerow/sink/postgres"
	"fencerow/sink/sqlsink"
	"fencerow/verify"
	"fencerow/verify/verifypostgres"
)

// Orders are those of the columns of each table, by the source's name for it.
type Orders map[string]map[string]verifypostgres.Order

// Postgres says what is compared of a source and a target that are both a PostgreSQL. Tables of both are in the same order.
func Postgres(pairs []Pair, from, to Orders) (source, target []verifypostgres.Table, left []verify.Left) {
	found, left := matches(pairs, func(_ *Pair, bound *sqlsink.Bound) bool {
		_, known := postgres.Brought(*bound.From, bound.To)
		return known
	})
	for i := range found {
		one := &found[i]
		if one.Name.Schema == "" && !one.absent() {
			left = append(left, verify.Left{Table: one.name(), Why: "the target does not tell in which schema it has it: name it in rename"})
			continue
		}
		ours := one.ofSource(func(bound *sqlsink.Bound) string {
			as, _ := postgres.Brought(*bound.From, bound.To)
			return as
		})
		theirs := verifypostgres.Table{
			Name: ours.Name, Columns: ours.Columns, Absent: one.absent(),
			Relation: verifypostgres.Relation{Schema: one.Name.Schema, Name: one.Name.Name},
		}
		for i := range one.columns {
			theirs.Relation.Columns = append(theirs.Relation.Columns, verifypostgres.Column{Name: one.columns[i].To.Name})
		}
		for i := range one.key {
			theirs.Key = append(theirs.Key, verifypostgres.Column{Name: one.key[i].To.Name})
		}
		ours.Apart = one.apart(func(bound *sqlsink.Bound) bool {
			order, known := from[ours.Name][bound.From.Name]
			return known && order == to[ours.Name][bound.To.Name]
		})
		theirs.Apart = ours.Apart
		source, target = append(source, ours), append(target, theirs)
	}
	return source, target, left
}

// ofSource is the table of the source, with its values brought to types.
func (m *match) ofSource(as func(*sqlsink.Bound) string) verifypostgres.Table {
	out := verifypostgres.Table{
		Name:     m.name(),
		Relation: verifypostgres.Relation{Schema: m.Relation.Schema, Name: m.Relation.Name, Only: !m.Partitioned},
	}
	column := func(bound *sqlsink.Bound) verifypostgres.Column {
		one := verifypostgres.Column{Name: bound.From.Name}
		if !m.absent() {
			one.As = as(bound)
		}
		return one
	}
	for i := range m.columns {
		out.Columns = append(out.Columns, m.columns[i].From.Name)
		out.Relation.Columns = append(out.Relation.Columns, column(&m.columns[i]))
	}
	for i := range m.key {
		out.Key = append(out.Key, column(&m.key[i]))
	}
	return out
}

// apart reports whether the sides have the rows in different orders, or may have.
func (m *match) apart(same func(*sqlsink.Bound) bool) bool {
	if m.absent() {
		return false
	}
	for i := range m.key {
		if !same(&m.key[i]) {
			return true
		}
	}
	return false
}
