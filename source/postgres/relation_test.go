package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

const oidText = 25

// column is a column of the catalog; "-" before its name says that it was dropped.
func column(number int, name string, oid uint32) catalogColumn {
	c := catalogColumn{number: number, name: name, typeOID: oid, typeName: map[uint32]string{oidInt4: "integer", oidText: "text", oidInt8: "bigint"}[oid]}
	if name[0] == '-' {
		c.dropped, c.typeOID, c.typeName = true, 0, ""
	}
	return c
}

func TestColumnsKeepTheirNumbersThoughTheCatalogIsAhead(t *testing.T) {
	a, b, c := relationColumn{name: "a", typeOID: oidInt4}, relationColumn{name: "b", typeOID: oidText}, relationColumn{name: "c", typeOID: oidText}
	for name, one := range map[string]struct {
		log  []relationColumn
		now  []catalogColumn
		want []int
	}{
		"the same":                      {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt4), column(2, "b", oidText)}, []int{1, 2}},
		"one was renamed":               {[]relationColumn{a, b, c}, []catalogColumn{column(1, "a", oidInt4), column(2, "x", oidText), column(3, "c", oidText)}, []int{1, 2, 3}},
		"the last was renamed":          {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt4), column(2, "x", oidText)}, []int{1, 2}},
		"two were swapped":              {[]relationColumn{b, c}, []catalogColumn{column(1, "c", oidText), column(2, "b", oidText)}, []int{1, 2}},
		"one was added":                 {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt4), column(2, "b", oidText), column(3, "c", oidText)}, []int{1, 2}},
		"one was dropped":               {[]relationColumn{a, b, c}, []catalogColumn{column(1, "a", oidInt4), column(2, "-", 0), column(3, "c", oidText)}, []int{1, 2, 3}},
		"one was gone already":          {[]relationColumn{a, c}, []catalogColumn{column(1, "a", oidInt4), column(2, "-", 0), column(3, "c", oidText)}, []int{1, 3}},
		"one was made again":            {[]relationColumn{a, b, c}, []catalogColumn{column(1, "a", oidInt4), column(2, "-", 0), column(3, "c", oidText), column(4, "b", oidText)}, []int{1, 2, 3}},
		"one of two that were dropped":  {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt4), column(2, "-", 0), column(3, "-", 0)}, []int{1, 0}},
		"both of two that were dropped": {[]relationColumn{a, b, c}, []catalogColumn{column(1, "a", oidInt4), column(2, "-", 0), column(3, "-", 0)}, []int{1, 2, 3}},
		"what is left of its type tells": {[]relationColumn{a, {name: "b", typeOID: oidText, length: -1, modifier: 9}}, []catalogColumn{
			column(1, "a", oidInt4),
			{number: 2, dropped: true, length: -1, modifier: -1},
			{number: 3, dropped: true, length: -1, modifier: 9},
			{number: 4, dropped: true, length: 8, modifier: 9},
		}, []int{1, 3}},
		"one was altered": {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt8), column(2, "b", oidText)}, []int{1, 2}},
		"another table":   {[]relationColumn{a, b}, []catalogColumn{column(1, "a", oidInt4)}, []int{0, 0}},
		"a generated one is not in it": {[]relationColumn{a, c}, []catalogColumn{
			column(1, "a", oidInt4), {number: 2, name: "g", typeOID: oidText, generated: true}, column(3, "c", oidText),
		}, []int{1, 3}},
	} {
		of := relationOf(relationMessage{columns: one.log, identity: identityDefault}, &catalogTable{columns: one.now}, make([]string, len(one.log)))
		var got []int
		for _, column := range of.Columns {
			got = append(got, column.Number)
		}
		require.Equal(t, one.want, got, name)
	}
}

func TestATableThatIsGoneIsAsTheLogSays(t *testing.T) {
	log := relationMessage{identity: identityDefault, columns: []relationColumn{{name: "a", typeOID: oidInt4}, {name: "b", typeOID: 70000}}}
	of := relationOf(log, nil, []string{"integer", "public.mood"})
	require.Equal(t, []change.Column{
		{Name: "a", Type: "integer", Kind: change.KindInt, Null: true},
		{Name: "b", Type: "public.mood", Null: true},
	}, of.Columns)
}

func TestTheKeyIsTheLogsInTheCatalogsOrder(t *testing.T) {
	columns := func(flags ...bool) []relationColumn {
		out := []relationColumn{{name: "a", typeOID: oidInt4}, {name: "b", typeOID: oidText}, {name: "c", typeOID: oidText}}
		for i, flag := range flags {
			out[i].identity = flag
		}
		return out
	}
	now := func(key ...int) *catalogTable {
		return &catalogTable{key: key, columns: []catalogColumn{column(1, "a", oidInt4), column(2, "b", oidText), column(3, "c", oidText)}}
	}
	for name, one := range map[string]struct {
		log  relationMessage
		now  *catalogTable
		want []int // places of a, b, c
	}{
		"in the index's order":        {relationMessage{identity: identityDefault, columns: columns(true, true)}, now(2, 1), []int{2, 1, 0}},
		"another key since":           {relationMessage{identity: identityDefault, columns: columns(true, true)}, now(3), []int{1, 2, 0}},
		"no key in the log":           {relationMessage{identity: identityDefault, columns: columns()}, now(1), []int{0, 0, 0}},
		"a table that is gone":        {relationMessage{identity: identityIndex, columns: columns(false, true)}, nil, []int{0, 1, 0}},
		"all columns and a key":       {relationMessage{identity: identityFull, columns: columns(true, true, true)}, now(3, 1), []int{2, 0, 1}},
		"all columns and no key":      {relationMessage{identity: identityFull, columns: columns(true, true, true)}, now(), []int{0, 0, 0}},
		"all columns and a later key": {relationMessage{identity: identityFull, columns: columns(true, true, true)}, now(3, 9), []int{0, 0, 0}},
		"none":                        {relationMessage{identity: identityNothing, columns: columns()}, now(1), []int{0, 0, 0}},
	} {
		of := relationOf(one.log, one.now, make([]string, 3))
		var got []int
		for _, column := range of.Columns {
			got = append(got, column.Key)
		}
		require.Equal(t, one.want, got, name)
	}
}

func TestATableAsASnapshotOfNowReadsIt(t *testing.T) {
	table := &catalogTable{schema: "public", name: "a", key: []int{4, 1}, columns: []catalogColumn{
		column(1, "a", oidInt4), column(2, "-", 0), {number: 3, name: "g", typeOID: oidText, generated: true}, column(4, "b", oidText),
	}}
	require.Equal(t, &change.Relation{Schema: "public", Name: "a", Columns: []change.Column{
		{Name: "a", Type: "integer", Number: 1, Kind: change.KindInt, Key: 2},
		{Name: "b", Type: "text", Number: 4, Key: 1},
	}}, table.relation())
}
