package sqlsink

import (
	"fmt"
	"slices"
	"strings"

	"fencerow/change"
)

// Schema says what is done when a table of the source is altered.
type Schema string

// What is done.
const (
	SchemaStop   Schema = "stop"   // a table that no longer fits is a fault with the statement to run
	SchemaEvolve Schema = "evolve" // the target is altered likewise, where nothing can be lost by it that the source still has
	SchemaIgnore Schema = "ignore" // the columns in common are written
)

// difference is something that a target's table lacks for rows of a relation.
type difference struct {
	Alteration
	why    string
	needed bool // without it rows can't be written
	safe   bool // evolve does it by itself
}

// compared is a table of the target held against a relation of the source.
type comparison struct {
	naming  Naming
	dialect Tables
	target  *Table
	last    *change.Relation // what the target was brought to before; nil: nothing yet
	live    bool             // last came with a change, not with a page of a snapshot
	next    *change.Relation
}

func (t *Table) column(name string) *TableColumn {
	at := slices.IndexFunc(t.Columns, func(c TableColumn) bool { return c.Name == name })
	if at < 0 {
		return nil
	}
	return &t.Columns[at]
}

// differences returns what there is to do, in the order in which it can be done.
func (c comparison) differences() []difference {
	renamed, out := c.renames()
	out = append(c.drops(renamed), out...)
	for i, column := range c.next.Columns {
		if column.Generated {
			continue
		}
		named := column
		named.Name = c.naming.Column(c.next, column.Name)
		at := c.target.column(named.Name)
		if before, found := renamed[named.Name]; found {
			at = c.target.column(before)
		}
		switch {
		case at == nil || c.dropsAndAdds(column):
			out = append(out, c.adds(i, named))
		case at.Generated:
		case !c.dialect.Holds(column, *at):
			out = append(out, c.widens(named, *at))
		case !at.Null && column.Null && c.wasNotNull(column):
			out = append(out, difference{
				Alteration: Alteration{Kind: AlterNull, Name: named.Name, Columns: []change.Column{named}},
				why:        fmt.Sprintf("column %s is NOT NULL, and may be NULL in the source now", named.Name), needed: true, safe: true,
			})
		}
	}
	return append(append(out, c.required(renamed)...), c.keyed()...)
}

// adds makes a column, with what the source's rows had in it at once if it is new there too: of those that are there nothing else tells, nor
// of those of an older form that are still to come.
func (c comparison) adds(i int, named change.Column) difference {
	isNew := c.last != nil && c.before(i) == nil
	if !isNew {
		named.Added = change.Added{}
	}
	named.Key, named.Null = 0, true
	return difference{
		Alteration: Alteration{Kind: AlterAdd, Columns: []change.Column{named}},
		why:        fmt.Sprintf("column %s (%s) is missing", named.Name, named.Type), needed: true,
		safe: c.last != nil && c.next.Columns[i].Key == 0 && c.dialect.Fills(named),
	}
}

// widens gives a column the type of the source's, which is safe if it then holds all that it does now.
func (c comparison) widens(named change.Column, at TableColumn) difference {
	next := TableColumn{Name: at.Name, Type: c.dialect.TypeOf(named), Null: at.Null}
	return difference{
		Alteration: Alteration{Kind: AlterType, Name: named.Name, Columns: []change.Column{named}},
		why:        fmt.Sprintf("column %s is of type %s, which can't hold every %s", named.Name, at.Type, named.Type), needed: true,
		safe: c.last != nil && c.dialect.Holds(change.Column{Name: named.Name, Type: at.Type, Null: at.Null}, next),
	}
}

// renames returns the columns that have other names now, new name to old one, as the target has them.
func (c comparison) renames() (map[string]string, []difference) {
	renamed := make(map[string]string)
	var out []difference
	if c.last == nil {
		return renamed, nil
	}
	for i, column := range c.next.Columns {
		before := c.before(i)
		if before == nil || before.Name == column.Name || column.Generated {
			continue
		}
		from, to := c.naming.Column(c.last, before.Name), c.naming.Column(c.next, column.Name)
		if from == to || c.target.column(from) == nil || c.target.column(to) != nil {
			continue
		}
		renamed[to] = from
		named := column
		named.Name = to
		out = append(out, difference{
			Alteration: Alteration{Kind: AlterRename, Name: from, Columns: []change.Column{named}},
			why:        fmt.Sprintf("column %s is called %s in the source now", from, to), needed: true, safe: c.live,
		})
	}
	return renamed, out
}

// before returns the column of the last relation that the i-th of the next one was.
func (c comparison) before(i int) *change.Column {
	column := &c.next.Columns[i]
	if column.Number != 0 {
		for k := range c.last.Columns {
			if c.last.Columns[k].Number == column.Number {
				return &c.last.Columns[k]
			}
		}
		return nil
	}
	if k := indexOf(c.last, column.Name); k >= 0 {
		return &c.last.Columns[k]
	}
	// By its place, where nothing else can have happened: the last column may as well have been dropped, and another one added.
	if len(c.last.Columns) != len(c.next.Columns) || i == len(c.next.Columns)-1 || c.last.Columns[i].Type != column.Type ||
		indexOf(c.next, c.last.Columns[i].Name) >= 0 {
		return nil
	}
	return &c.last.Columns[i]
}

func indexOf(of *change.Relation, name string) int {
	return slices.IndexFunc(of.Columns, func(c change.Column) bool { return c.Name == name })
}

// dropsAndAdds reports whether a column is another one than that which had its name.
func (c comparison) dropsAndAdds(column change.Column) bool {
	if c.last == nil || !c.live || column.Number == 0 {
		return false
	}
	k := indexOf(c.last, column.Name)
	if k < 0 || c.last.Columns[k].Number == 0 || c.last.Columns[k].Number == column.Number {
		return false
	}
	stays := slices.ContainsFunc(c.next.Columns, func(next change.Column) bool { return next.Number == c.last.Columns[k].Number })
	return !stays // else it has another name now, and the target's is free
}

// drops returns the columns that the source had and has no more.
func (c comparison) drops(renamed map[string]string) []difference {
	if c.last == nil || !c.live {
		return nil
	}
	var out []difference
	for _, column := range c.last.Columns {
		name := c.naming.Column(c.last, column.Name)
		at := c.target.column(name)
		if column.Generated || at == nil || c.remains(column, renamed, name) {
			continue
		}
		out = append(out, difference{
			Alteration: Alteration{Kind: AlterDrop, Name: name}, why: fmt.Sprintf("column %s is no more in the source", name),
			needed: !at.Null && !at.Default, safe: column.Key == 0,
		})
	}
	return out
}

func (c comparison) remains(column change.Column, renamed map[string]string, name string) bool {
	for _, from := range renamed {
		if from == name {
			return true
		}
	}
	for i := range c.next.Columns {
		next := &c.next.Columns[i]
		if column.Number != 0 && next.Number != 0 {
			if next.Number == column.Number {
				return true
			}
			continue
		}
		if next.Name == column.Name {
			return true
		}
	}
	return false
}

// required returns the columns of the target that are none of the source's and want a value all the same.
func (c comparison) required(renamed map[string]string) []difference {
	var out []difference
	for _, column := range c.target.Columns {
		if column.Null || column.Default || column.Generated {
			continue
		}
		written := slices.ContainsFunc(c.next.Columns, func(next change.Column) bool {
			name := c.naming.Column(c.next, next.Name)
			return !next.Generated && (name == column.Name || renamed[name] == column.Name)
		})
		had := c.last != nil && c.live && slices.ContainsFunc(c.last.Columns, func(last change.Column) bool {
			return c.naming.Column(c.last, last.Name) == column.Name // it is dropped
		})
		if written || had {
			continue
		}
		out = append(out, difference{
			Alteration: Alteration{Kind: AlterNull, Name: column.Name, Columns: []change.Column{{Name: column.Name, Type: column.Type, Null: true}}},
			why:        fmt.Sprintf("column %s (%s) is NOT NULL without a default, and the source has no such column", column.Name, column.Type),
			needed:     true,
		})
	}
	return out
}

// wasNotNull reports whether a column could not be NULL when the target was brought to the source's form.
func (c comparison) wasNotNull(column change.Column) bool {
	if c.last == nil {
		return false
	}
	k := indexOf(c.last, column.Name)
	return k >= 0 && !c.last.Columns[k].Null
}

// keyed returns the primary key, if the target has nothing that is as unique as the source's.
func (c comparison) keyed() []difference {
	key := keyOf(c.next)
	if len(key) == 0 {
		return nil
	}
	names := make([]string, len(key))
	for i := range key {
		key[i].Name = c.naming.Column(c.next, key[i].Name)
		names[i] = key[i].Name
	}
	slices.Sort(names)
	for _, unique := range c.target.Unique {
		if slices.Equal(slices.Sorted(slices.Values(unique)), names) {
			return nil
		}
	}
	return []difference{{
		Alteration: Alteration{Kind: AlterKey, Columns: key},
		why:        "it has no primary key or unique index on " + strings.Join(names, ", "), needed: true,
	}}
}

// keyOf returns the columns of a relation's key in their order.
func keyOf(of *change.Relation) []change.Column {
	var out []change.Column
	for _, column := range of.Columns {
		if column.Key > 0 {
			out = append(out, column)
		}
	}
	slices.SortFunc(out, func(a, b change.Column) int { return a.Key - b.Key })
	return out
}
