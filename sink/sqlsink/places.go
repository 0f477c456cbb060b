package sqlsink

import (
	"fmt"
	"maps"
	"slices"

	"fencerow/change"
)

// tableRecord is a row of tables: a table of the source, and what the one of the target was brought to.
type tableRecord struct {
	source   string
	target   string
	relation string
	of       *change.Relation
	at       change.Mark
	fresh    bool
	altered  string // what was done last, for people
}

const tableColumns = "source, target, relation, position, position_index, CASE WHEN fresh THEN 1 ELSE 0 END"

func (s statements) readTables(head int64) Statement {
	return query("SELECT "+tableColumns+" FROM "+s.dialect.Table(oursForTables)+" WHERE head = ? ORDER BY source", head)
}

// putTable registers a table, or writes over what is known of it.
func (s statements) putTable(head int64, record tableRecord) []Statement {
	var altered any
	if record.altered != "" {
		altered = record.altered
	}
	return []Statement{
		exec("DELETE FROM "+s.dialect.Table("targets")+" WHERE target = ? AND head = ?", record.target, head),
		exec("INSERT INTO "+s.dialect.Table("targets")+" (target, head) VALUES (?, ?)", record.target, head),
		exec("DELETE FROM "+s.dialect.Table(oursForTables)+" WHERE head = ? AND source = ?", head, record.source),
		exec("INSERT INTO "+s.dialect.Table(oursForTables)+
			" (head, source, target, relation, position, position_index, fresh, altered) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			head, record.source, record.target, record.relation, record.at.Position.String(), int64(record.at.Index), boolean(record.fresh), altered),
	}
}

func (s statements) forgetTables(head int64) Statement {
	return exec("DELETE FROM "+s.dialect.Table(oursForTables)+" WHERE head = ?", head)
}

// readTables decodes what tableColumns returns.
func readTables(rows [][]string) ([]tableRecord, error) {
	var out []tableRecord
	for _, row := range rows {
		r := reader{row: row}
		record := tableRecord{source: r.text(), target: r.text(), relation: r.text()}
		record.at = change.Mark{Position: change.Position(r.number(64)), Index: uint32(r.number(32))}
		record.fresh = r.number(1) == 1
		if r.err == nil && record.relation != "" {
			var err error
			record.of, err = decodeRelation(record.relation)
			r.fail(err)
		}
		if r.err != nil {
			return nil, broken(oursForTables, r.err)
		}
		out = append(out, record)
	}
	return out, nil
}

// readTable decodes what the catalog says of a table; nil if it is not there.
func readTable(name TableName, columns, unique [][]string) (*Table, error) {
	if len(columns) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	out := &Table{Name: name}
	for _, row := range columns {
		r := reader{row: row}
		column := TableColumn{Name: r.text(), Type: r.text(), Base: r.text()}
		column.Null, column.Default, column.Generated = r.number(1) == 1, r.number(1) == 1, r.number(1) == 1
		if len(r.row) > 0 {
			column.Domain = r.text()
		}
		if r.err != nil {
			return nil, fmt.Errorf("sink sql: the columns of %s: %w", name, r.err)
		}
		out.Columns = append(out.Columns, column)
	}
	last := ""
	for _, row := range unique {
		r := reader{row: row}
		index, column := r.text(), r.text()
		if r.err != nil {
			return nil, fmt.Errorf("sink sql: the indexes of %s: %w", name, r.err)
		}
		if index != last || len(out.Unique) == 0 {
			out.Unique, last = append(out.Unique, nil), index
		}
		at := len(out.Unique) - 1
		out.Unique[at] = append(out.Unique[at], column)
	}
	return out, nil
}

// binding says which cell of a relation's rows goes to which column of the target.
type binding struct {
	columns []Bound // that are written
	key     []Bound // by which a row is found
}

// bind binds a relation, which is the place's own or an older one, to the place.
func (p *place) bind(of *change.Relation, naming Naming) *binding {
	if b, found := p.bound[of]; found {
		return b
	}
	b := &binding{}
	as := p.numbered(of)
	for i := range of.Columns {
		from := &of.Columns[i]
		if from.Generated {
			continue
		}
		to := p.table.column(naming.Column(p.of, p.nowCalled(&as.Columns[i])))
		if to == nil || to.Generated {
			continue
		}
		b.columns = append(b.columns, Bound{To: *to, From: from, At: i})
	}
	for place := 1; ; place++ {
		found := false
		for _, bound := range b.columns {
			if bound.From.Key == place {
				b.key, found = append(b.key, bound), true
			}
		}
		if !found {
			break
		}
	}
	if len(p.bound) >= boundMax {
		clear(p.bound)
	}
	p.bound[of] = b
	return b
}

// nowCalled returns the name that a column of an older relation has in the place's own; its own name if it is no more there.
func (p *place) nowCalled(from *change.Column) string {
	if from.Number == 0 {
		return from.Name
	}
	for i := range p.of.Columns {
		if p.of.Columns[i].Number == from.Number {
			return p.of.Columns[i].Name
		}
	}
	for i := range p.of.Columns {
		if p.of.Columns[i].Name == from.Name && p.of.Columns[i].Number != 0 {
			return "" // another column has its name now
		}
	}
	return from.Name
}

// numbered returns a form with the numbers of its columns that are remembered for it.
func (p *place) numbered(of *change.Relation) *change.Relation {
	if as := p.named[of]; as != nil {
		return as
	}
	return of
}

// naming returns what is remembered of forms, with one more.
func (p *place) naming(of, as *change.Relation) map[*change.Relation]*change.Relation {
	out := map[*change.Relation]*change.Relation{of: as}
	if len(p.named) < boundMax {
		maps.Copy(out, p.named)
	}
	return out
}

// withNumbers returns a form in which the columns without a number have those that columns of their names had before: the source no longer
// knows the number of a column that it has dropped since.
func withNumbers(of, last *change.Relation) *change.Relation {
	if last == nil {
		return of
	}
	out := of
	for i := range of.Columns {
		before := indexOf(last, of.Columns[i].Name)
		if of.Columns[i].Number != 0 || before < 0 || last.Columns[before].Number == 0 {
			continue
		}
		number := last.Columns[before].Number
		if slices.ContainsFunc(of.Columns, func(c change.Column) bool { return c.Number == number }) {
			continue
		}
		if out == of {
			out = &change.Relation{Schema: of.Schema, Name: of.Name, Columns: slices.Clone(of.Columns)}
		}
		out.Columns[i].Number = number
	}
	return out
}
