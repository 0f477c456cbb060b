package postgres

import (
	"slices"

	"fencerow/change"
)

// Types whose text form is read as something else than text.
const (
	oidBool   = 16
	oidBytea  = 17
	oidInt8   = 20
	oidInt2   = 21
	oidInt4   = 23
	oidFloat4 = 700
	oidFloat8 = 701
)

// kindOf says how the text of a type is read. A type of the user's is text, also where it is made of another.
func kindOf(oid uint32) change.Kind {
	switch oid {
	case oidInt2, oidInt4, oidInt8:
		return change.KindInt
	case oidFloat4, oidFloat8:
		return change.KindFloat
	case oidBool:
		return change.KindBool
	case oidBytea:
		return change.KindBytes
	default:
		return change.KindText
	}
}

// The replica identities, as pg_class.relreplident has them.
const (
	identityDefault = 'd' // the primary key, if there is one
	identityIndex   = 'i'
	identityFull    = 'f'
	identityNothing = 'n'
)

// catalogTable is a table as the catalog has it now, which may be later than the log.
type catalogTable struct {
	schema, name string
	identity     byte
	columns      []catalogColumn // in order of number, dropped ones too
	key          []int           // numbers of the columns of the key, in its order; nil: rows have none
}

type catalogColumn struct {
	number    int
	name      string
	typeOID   uint32
	modifier  int32
	length    int // of its type, in bytes; negative where it differs
	typeName  string
	null      bool
	generated bool
	dropped   bool
	added     change.Added
}

// relation is the table as a snapshot of now reads it. Generated columns are not in the log, and so not in it.
func (t *catalogTable) relation() *change.Relation {
	out := &change.Relation{Schema: t.schema, Name: t.name}
	for _, column := range t.columns {
		if column.dropped || column.generated {
			continue
		}
		out.Columns = append(out.Columns, change.Column{
			Name: column.name, Type: column.typeName, Number: column.number, Kind: kindOf(column.typeOID), Null: column.null,
			Added: column.added, Key: slices.Index(t.key, column.number) + 1,
		})
	}
	return out
}

// relationOf is the table as the log says that it is. The catalog adds what the log does not say (numbers of columns, whether
// they may be NULL, the order of the key), and may be ahead of it, or not have the table any more: what does not fit is not taken
// from it. types are the names of the columns' types.
func relationOf(m relationMessage, now *catalogTable, types []string) *change.Relation {
	out := &change.Relation{Schema: m.schema, Name: m.name, Columns: make([]change.Column, len(m.columns))}
	matched := matchColumns(m.columns, now)
	for i, column := range m.columns {
		c := change.Column{Name: column.name, Type: types[i], Kind: kindOf(column.typeOID), Null: true}
		if found := matched[i]; found != nil {
			c.Number, c.Null, c.Added = found.number, found.null, found.added
		}
		out.Columns[i] = c
	}
	for place, i := range keyOf(m, now, matched) {
		out.Columns[i].Key, out.Columns[i].Null = place+1, false
	}
	return out
}

// keyOf returns which columns identify a row, in order. The log says of which columns the values before a change come, so
// these they are; the catalog knows their order. With all columns in the log it is the primary key, if there is one.
func keyOf(m relationMessage, now *catalogTable, matched []*catalogColumn) []int {
	if m.identity == identityNothing {
		return nil
	}
	var ordered, flagged []int
	if now != nil {
		for _, number := range now.key {
			if i := slices.IndexFunc(matched, func(c *catalogColumn) bool { return c != nil && c.number == number }); i >= 0 {
				ordered = append(ordered, i)
			}
		}
		if len(ordered) < len(now.key) {
			ordered = nil // it has columns that the log does not have yet
		}
	}
	if m.identity == identityFull {
		return ordered
	}
	for i, column := range m.columns {
		if column.identity {
			flagged = append(flagged, i)
		}
	}
	if slices.Equal(slices.Sorted(slices.Values(ordered)), flagged) {
		return ordered
	}
	return flagged
}

// matchColumns finds the columns of the log in the catalog. The catalog has them all, in the order in which they were made:
// numbers aren't given again, and what is dropped stays as dropped. Of those made before the log's last one, all that are
// still there were in the table then; only dropped ones may have been gone already. So a column that was renamed since keeps
// its number. Where that leaves a choice, names and types decide. The results are nil where nothing fits, and where several that are
// dropped fit as well: a wrong number would have the target take it for another column.
func matchColumns(columns []relationColumn, now *catalogTable) []*catalogColumn {
	out := make([]*catalogColumn, len(columns))
	if now == nil {
		return out
	}
	stored := make([]*catalogColumn, 0, len(now.columns))
	for i := range now.columns {
		if !now.columns[i].generated {
			stored = append(stored, &now.columns[i])
		}
	}
	costs := matchCosts(columns, stored)
	if costs[0][0] >= matchImpossible {
		return out
	}
	first, last := make([]*catalogColumn, len(columns)), make([]*catalogColumn, len(columns))
	for i, j := 0, 0; i < len(columns); j++ {
		if costs[i][j] == costs[i+1][j+1]+matchCost(columns[i], stored[j]) {
			first[i] = stored[j]
			i++
		}
	}
	for i, j := 0, 0; i < len(columns); j++ {
		if !stored[j].dropped || costs[i][j] != costs[i][j+1] {
			last[i] = stored[j]
			i++
		}
	}
	for i := range out {
		if first[i] == last[i] || !first[i].dropped || !last[i].dropped {
			out[i] = first[i]
		}
	}
	return out
}

// matchImpossible is more than any match costs.
const matchImpossible = 1 << 30

// matchCosts returns for each i and j how badly the columns from i on fit those of the catalog from j on, at best.
func matchCosts(columns []relationColumn, stored []*catalogColumn) [][]int {
	costs := make([][]int, len(columns)+1)
	costs[len(columns)] = make([]int, len(stored)+1) // what was made later is left over
	for i := len(columns) - 1; i >= 0; i-- {
		costs[i] = make([]int, len(stored)+1)
		costs[i][len(stored)] = matchImpossible
		for j := len(stored) - 1; j >= 0; j-- {
			costs[i][j] = min(matchImpossible, costs[i+1][j+1]+matchCost(columns[i], stored[j]))
			if stored[j].dropped {
				costs[i][j] = min(costs[i][j], costs[i][j+1])
			}
		}
	}
	return costs
}

// matchCost is how badly a column of the log fits one of the catalog.
func matchCost(column relationColumn, stored *catalogColumn) int {
	switch {
	case stored.dropped && stored.length == column.length && stored.modifier == column.modifier: // all that is left of its type
		return 3
	case stored.dropped:
		return 4
	case stored.name == column.name && stored.typeOID == column.typeOID:
		return 0
	case stored.name == column.name:
		return 1
	case stored.typeOID == column.typeOID:
		return 2
	default:
		return 4
	}
}

// equalRelations reports whether rows of one are rows of the other.
func equalRelations(a, b *change.Relation) bool {
	return a.Schema == b.Schema && a.Name == b.Name && slices.Equal(a.Columns, b.Columns)
}
