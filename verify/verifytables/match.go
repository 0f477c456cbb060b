package verifytables

import (
	"strings"

	"fencerow/change"
	"fencerow/sink/sqlsink"
	source "fencerow/source/postgres"
	"fencerow/verify"
)

// Pair is a table that is followed, and where its rows are.
type Pair struct {
	source.Followed
	sqlsink.Kept
}

// Pairs puts together what was read of both sides, one for one.
func Pairs(followed []source.Followed, kept []sqlsink.Kept) []Pair {
	out := make([]Pair, len(followed))
	for i := range followed {
		out[i] = Pair{Followed: followed[i], Kept: kept[i]}
	}
	return out
}

// Relations are the tables of the source.
func Relations(followed []source.Followed) []*change.Relation {
	out := make([]*change.Relation, len(followed))
	for i := range followed {
		out[i] = followed[i].Relation
	}
	return out
}

// match is a pair of tables that can be compared.
type match struct {
	*Pair
	columns []sqlsink.Bound // that are compared
	key     []sqlsink.Bound
}

func (p *Pair) name() string { return p.Relation.String() }

func (p *Pair) absent() bool { return p.Table == nil }

// columns are those of the source where the target has no table: it is as good as one without rows.
func (p *Pair) unbound() (columns, key []sqlsink.Bound) {
	for i := range p.Relation.Columns {
		columns = append(columns, sqlsink.Bound{From: &p.Relation.Columns[i], At: i})
	}
	for place := 1; place <= len(columns); place++ {
		for _, bound := range columns {
			if bound.From.Key == place {
				key = append(key, bound)
			}
		}
	}
	return columns, key
}

// matches sorts out what can't be compared. fits reports whether it is known what a column of the target shows for each value.
func matches(pairs []Pair, fits func(*Pair, *sqlsink.Bound) bool) (out []match, left []verify.Left) {
	for i := range pairs {
		pair := &pairs[i]
		leave := func(why string, columns ...string) {
			left = append(left, verify.Left{Table: pair.name(), Columns: columns, Why: why})
		}
		one := match{Pair: pair, columns: pair.Columns, key: pair.Key}
		if pair.absent() {
			one.columns, one.key = pair.unbound()
		}
		all := func(in []sqlsink.Bound) (fit []sqlsink.Bound, unfit []string) {
			for _, bound := range in {
				if pair.absent() || fits(pair, &bound) {
					fit = append(fit, bound)
				} else {
					unfit = append(unfit, bound.From.Name)
				}
			}
			return fit, unfit
		}
		_, unfitKey := all(one.key)
		columns, unfit := all(one.columns)
		_, keyed := pair.unbound()
		switch {
		case pair.Unread:
			leave("the user of the source may not read it: GRANT SELECT ON " + pair.name() + " to it")
			continue
		case len(unfitKey) > 0 || len(one.key) != len(keyed):
			leave("the target has no column for each of its key, or one of another kind")
			continue
		}
		one.columns = columns
		if len(unfit) > 0 {
			leave("the target's columns are of types that can't hold every value of the source's", unfit...)
		}
		if len(pair.Left) > 0 && !pair.absent() {
			leave("the target has no such columns, or computes them", pair.Left...)
		}
		if nullable := nullableOf(one.key); len(nullable) > 0 && !pair.absent() {
			leave("the target may have rows in which they are NULL, which are not looked for", nullable...)
		}
		out = append(out, one)
	}
	return out, left
}

func nullableOf(key []sqlsink.Bound) (out []string) {
	for _, bound := range key {
		if bound.To.Null {
			out = append(out, bound.From.Name)
		}
	}
	return out
}

// Altered are the tables that are no longer what they were, by what was read of them before and after.
func Altered(before, after []Pair) []verify.Left {
	now := make(map[string]string, len(after))
	for i := range after {
		now[after[i].name()] = after[i].form()
	}
	var out []verify.Left
	for i := range before {
		pair := &before[i]
		if form, found := now[pair.name()]; (!found || form != pair.form()) && !pair.absent() {
			out = append(out, verify.Left{Table: pair.name(), Why: "it was altered while it was compared: what is named of it may be no difference"})
		}
	}
	return out
}

// form tells one form of a pair from another.
func (p *Pair) form() string {
	if p.absent() {
		return ""
	}
	var out strings.Builder
	for _, bound := range p.Columns {
		for _, part := range []string{bound.From.Name, bound.From.Type, bound.To.Name, bound.To.Type} {
			out.WriteString(part)
			out.WriteByte(0)
		}
	}
	return out.String()
}
