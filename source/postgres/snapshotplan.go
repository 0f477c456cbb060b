package postgres

import (
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

const (
	// partRows is how many rows a part of a table is meant to have: enough that what one costs is small beside its rows, few
	// enough that lanes end at about the same time, and that no table is locked against changes of its form for long.
	partRows = 250_000
	// partsMax bounds the parts of one table.
	partsMax = 1000
)

// table is a table as the snapshot shows it.
type table struct {
	oid      uint32
	relation *change.Relation
	// files name the table, its partitions and where their rows are stored: they change when one of these is emptied or written
	// anew, and then no earlier snapshot shows its rows any more.
	files string
	// whole says that the rows are in partitions.
	whole bool
	rows  int64 // an estimate
}

func (t *table) span() changefeed.Span {
	start, end := change.TableSpan(t.relation.Schema, t.relation.Name)
	return changefeed.Span{Start: start, End: end}
}

// part is what one lane reads at once: some rows of a table, or a gap in which there are none.
type part struct {
	span  changefeed.Span
	table *table // nil: a gap
	rows  int64  // an estimate
}

// plan cuts spans into parts, in order. Each part is of one table or of none.
func plan(spans []changefeed.Span, tables []*table) []part {
	sorted := slices.SortedFunc(slices.Values(tables), func(a, b *table) int { return a.span().Compare(b.span()) })
	var out []part
	for _, span := range spans {
		rest := span
		for _, table := range sorted {
			inner, overlaps := rest.Intersect(table.span())
			if !overlaps {
				continue
			}
			if string(rest.Start) != string(inner.Start) {
				out = append(out, part{span: changefeed.Span{Start: rest.Start, End: inner.Start}})
			}
			out = append(out, partOf(table, inner))
			rest.Start = inner.End
			if string(inner.End) == string(rest.End) {
				break
			}
		}
		if rest.Valid() {
			out = append(out, part{span: rest})
		}
	}
	return out
}

// partOf returns the part of a table that lies in a span. All rows of a table without identity have the key that it begins with.
func partOf(of *table, span changefeed.Span) part {
	switch whole := of.span(); {
	case whole.Equal(span), !of.relation.Keyed() && string(whole.Start) == string(span.Start):
		return part{span: span, table: of, rows: of.rows}
	case !of.relation.Keyed():
		return part{span: span}
	default:
		return part{span: span, table: of, rows: of.rows / 2} // as good as any guess
	}
}

// cutting returns by which column a part can be cut into several of so many rows, and into how many.
func (p *part) cutting(rows int64) (by change.Column, count int) {
	if p.table == nil || p.rows < 2*rows {
		return change.Column{}, 1
	}
	key := keyColumns(p.table.relation)
	if len(key) == 0 || key[0].Kind != change.KindInt {
		return change.Column{}, 1
	}
	return key[0], int(min(p.rows/rows, partsMax))
}

// cut cuts a part where the first column of the key has these values.
func (p *part) cut(values []string) []part {
	var keys [][]byte
	for _, value := range values {
		keys = append(keys, change.AppendKey(slices.Clone(p.table.span().Start), oneInt, [][]byte{[]byte(value)}))
	}
	var out []part
	spans := p.span.SplitAt(keys...)
	for _, span := range spans {
		out = append(out, part{span: span, table: p.table, rows: p.rows / int64(len(spans))})
	}
	return out
}

// query returns what reads the part, in the order of its keys, from the table as it is called now.
func (p *part) query(name string) (string, error) {
	columns := make([]string, len(p.table.relation.Columns))
	for i, column := range p.table.relation.Columns {
		columns[i] = quoteName(column.Name)
	}
	text := "SELECT " + strings.Join(columns, ", ") + " FROM " + p.table.from(name)
	key := keyColumns(p.table.relation)
	if len(key) == 0 {
		return text, nil
	}
	condition, err := between(p.table.relation, p.span)
	if err != nil {
		return "", err
	}
	if condition != "" {
		text += " WHERE " + condition
	}
	return text + " ORDER BY " + orderBy(key), nil
}

// from names the table for a statement: with its partitions, but without tables that inherit from it, which are others.
func (t *table) from(name string) string {
	if t.whole {
		return name
	}
	return "ONLY " + name
}
