package sqlsink

import (
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// way is how the rows of a batch are tried.
type way uint8

const (
	wayBulk    way = iota // rows that the source made are taken to be new
	wayUpserts            // nothing is taken to be so
	waySingle             // one by one, in the source's order: what unique indexes and foreign keys of the target may want
)

// planner makes steps of what a batch does to tables whose places are known.
type planner struct {
	naming  Naming
	dialect Tables
	way     way
	steps   []Step
}

// run adds the steps of one table.
func (p *planner) run(run *tableRun, at *place) {
	for _, s := range run.segments {
		if s.kind == segmentTruncate {
			p.truncate(run.span, s.span, at)
			continue
		}
		b := at.bind(s.of, p.naming)
		switch s.kind {
		case segmentKeys:
			p.keys(s, at, b)
		case segmentMoves:
			p.updates(s.entries, StepUpdate, at, b, moves)
		case segmentAppend:
			p.step(StepInsert, at, b.columns, nil, rowsOf(s.entries, 0))
		case segmentOnes:
			p.ones(s.entries, at, b)
		case segmentTruncate:
		}
	}
}

func (p *planner) step(kind StepKind, at *place, columns, key []Bound, rows []StepRow) {
	if len(rows) > 0 {
		p.steps = append(p.steps, Step{Kind: kind, Table: at.table, Columns: columns, Key: key, Rows: rows})
	}
}

// keys writes what remains of the changes of keys: first what makes room.
func (p *planner) keys(s *segment, at *place, b *binding) {
	p.step(StepDelete, at, nil, b.key, rowsOf(s.entries, effectGone))
	p.updates(s.entries, StepUpdate, at, b, stays)
	p.step(StepUpsert, at, b.columns, b.key, rowsOf(s.entries, effectPut))
	// What the source says of whether a row is there holds for the target, unless others wrote there.
	set, added := rowsOf(s.entries, effectSet), rowsOf(s.entries, effectNew)
	same := p.way == wayBulk && at.same
	if columns := changed(b.columns, nil, stays); same && len(columns) > 0 {
		p.step(StepUpdate, at, columns, b.key, set)
	} else {
		p.step(StepUpsert, at, b.columns, b.key, set)
	}
	if same {
		p.step(StepInsert, at, b.columns, b.key, added)
	} else {
		p.step(StepUpsert, at, b.columns, b.key, added)
	}
}

// rowsOf returns the rows of one effect; 0 is all.
func rowsOf(entries []entry, effect effect) []StepRow {
	n := 0
	for i := range entries {
		if effect == 0 || entries[i].effect == effect {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	rows := make([]StepRow, 0, n)
	for i := range entries {
		if effect == 0 || entries[i].effect == effect {
			rows = append(rows, entries[i].row)
		}
	}
	return rows
}

// keyOfRow says whether an update changes the key of its row.
type keyOfRow uint8

const (
	stays keyOfRow = iota
	moves
)

// updates writes the rows of which some columns keep what they have, those with the same such columns together.
func (p *planner) updates(entries []entry, kind StepKind, at *place, b *binding, key keyOfRow) {
	groups := make(map[string]int) // place in out
	var out []Step
	for i := range entries {
		if entries[i].effect != effectPatch {
			continue
		}
		mask := maskOf(entries[i].same)
		k, found := groups[mask]
		if !found {
			k = len(out)
			groups[mask] = k
			out = append(out, Step{Kind: kind, Table: at.table, Columns: changed(b.columns, entries[i].same, key), Key: b.key})
		}
		out[k].Rows = append(out[k].Rows, entries[i].row)
	}
	for _, step := range out {
		if len(step.Columns) > 0 { // nothing is known to have changed
			p.steps = append(p.steps, step)
		}
	}
}

func maskOf(same []bool) string {
	var out strings.Builder
	for _, unchanged := range same {
		if unchanged {
			out.WriteByte('=')
		} else {
			out.WriteByte('*')
		}
	}
	return out.String()
}

// changed returns the columns that an update sets.
func changed(columns []Bound, same []bool, key keyOfRow) []Bound {
	var out []Bound
	for _, column := range columns {
		if (same == nil || !same[column.At]) && (key == moves || column.From.Key == 0) {
			out = append(out, column)
		}
	}
	return out
}

// ones writes updates and deletes of rows without a key, in order.
func (p *planner) ones(entries []entry, at *place, b *binding) {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].effect == entries[0].effect && maskOf(entries[n].same) == maskOf(entries[0].same) {
			n++
		}
		if entries[0].effect == effectGone {
			p.step(StepDeleteOne, at, nil, b.columns, rowsOf(entries[:n], 0))
		} else {
			p.step(StepUpdateOne, at, changed(b.columns, entries[0].same, moves), b.columns, rowsOf(entries[:n], 0))
		}
		entries = entries[n:]
	}
}

// truncate empties the part of a table that lies in a span.
func (p *planner) truncate(table, span changefeed.Span, at *place) {
	if at == nil { // it is not there, or never had a row of ours
		return
	}
	if p.way == wayBulk && span.Encloses(table) {
		p.steps = append(p.steps, Step{Kind: StepTruncate, Table: at.table})
		return
	}
	p.clear(table, span, at, at.bind(at.of, p.naming).key, nil)
}

// clear deletes the rows that a span of the table has beside some.
func (p *planner) clear(table, span changefeed.Span, at *place, key []Bound, kept []StepRow) {
	step := Step{Kind: StepClear, Table: at.table, Key: key, Rows: kept}
	if len(key) > 0 {
		step.Where = within(span, table, key, p.dialect)
	} else if step.Rows = nil; !span.Contains(table.Start) { // where all rows without a key are
		return
	}
	p.steps = append(p.steps, step)
}

// page adds the steps of a table of which a page of a snapshot has everything inside a span: rows of a relation, maybe none.
func (p *planner) page(table, span changefeed.Span, at *place, page *tablePage) {
	b := at.bind(page.of, p.naming)
	kind := StepUpsert
	if page.empty && p.way == wayBulk {
		kind = StepInsert
	} else {
		p.clear(table, span, at, b.key, page.rows)
	}
	if len(b.key) == 0 {
		kind = StepInsert
	}
	if kind == StepInsert && page.lines != nil {
		p.steps = append(p.steps, Step{Kind: kind, Table: at.table, Columns: b.columns, Lines: page.lines})
	}
	p.step(kind, at, b.columns, b.key, page.rows)
}

// tablePage is what a page of a snapshot has of one table.
type tablePage struct {
	source TableName
	span   changefeed.Span // of the table
	of     *change.Relation
	rows   []StepRow
	lines  *change.Lines // in place of rows
	empty  bool          // the target is known to hold nothing there
}
