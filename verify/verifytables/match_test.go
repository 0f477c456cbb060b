package verifytables

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/sink/sqlsink"
	source "fencerow/source/postgres"
	"fencerow/verify"
	"fencerow/verify/verifypostgres"
)

// pair is a table of columns, each with its type in the source and in the target, of which the first is the key; "" is none there.
func pair(name string, types ...[2]string) Pair {
	relation := &change.Relation{Schema: "public", Name: name}
	out := Pair{
		Followed: source.Followed{Relation: relation},
		Kept:     sqlsink.Kept{Of: relation, Name: sqlsink.TableName{Schema: "shop", Name: name}, Table: &sqlsink.Table{}},
	}
	for i := range types {
		column := change.Column{Name: string(rune('a' + i)), Type: types[i][0], Null: i > 0}
		if i == 0 {
			column.Key = 1
		}
		relation.Columns = append(relation.Columns, column)
	}
	for i := range types {
		from := &relation.Columns[i]
		if types[i][1] == "" {
			out.Left = append(out.Left, from.Name)
			continue
		}
		bound := sqlsink.Bound{From: from, At: i, To: sqlsink.TableColumn{Name: "t" + from.Name, Type: types[i][1], Null: i > 0}}
		out.Columns = append(out.Columns, bound)
		if from.Key > 0 {
			out.Key = append(out.Key, bound)
		}
	}
	return out
}

func ordersOf(pairs []Pair, order verifypostgres.Order) Orders {
	out := Orders{}
	for i := range pairs {
		out[pairs[i].name()] = map[string]verifypostgres.Order{"a": order, "ta": order}
	}
	return out
}

// A column of the target is compared with what the sink would have written to it.
func TestWhatIsComparedOfTwoPostgres(t *testing.T) {
	pairs := []Pair{pair("t", [2]string{"text", "text"}, [2]string{"numeric(10,2)", "numeric(12,4)"}, [2]string{"boolean", "text"}, [2]string{"json", "jsonb"})}
	ours, theirs, left := Postgres(pairs, ordersOf(pairs, verifypostgres.OrderBytes), ordersOf(pairs, verifypostgres.OrderBytes))
	require.Empty(t, left)
	require.Equal(t, []verifypostgres.Table{{
		Name: "public.t", Columns: []string{"a", "b", "c", "d"},
		Relation: verifypostgres.Relation{
			Schema: "public", Name: "t", Only: true, Key: []verifypostgres.Column{{Name: "a"}},
			Columns: []verifypostgres.Column{{Name: "a"}, {Name: "b", As: "numeric(12,4)"}, {Name: "c"}, {Name: "d", As: "jsonb"}},
		},
	}}, ours)
	require.Equal(t, []verifypostgres.Table{{
		Name: "public.t", Columns: []string{"a", "b", "c", "d"},
		Relation: verifypostgres.Relation{
			Schema: "shop", Name: "t", Key: []verifypostgres.Column{{Name: "ta"}},
			Columns: []verifypostgres.Column{{Name: "ta"}, {Name: "tb"}, {Name: "tc"}, {Name: "td"}},
		},
	}}, theirs)
}

func TestTablesInDifferentOrdersAreLookedUp(t *testing.T) {
	pairs := []Pair{pair("t", [2]string{"text", "text"})}
	for _, test := range []struct {
		from, to Orders
		apart    bool
	}{
		{ordersOf(pairs, verifypostgres.OrderBytes), ordersOf(pairs, verifypostgres.OrderBytes), false},
		{ordersOf(pairs, "c:de_DE.UTF-8"), ordersOf(pairs, verifypostgres.OrderBytes), true},
		{Orders{}, Orders{}, true},
	} {
		ours, theirs, _ := Postgres(pairs, test.from, test.to)
		require.Equal(t, test.apart, ours[0].Apart)
		require.Equal(t, test.apart, theirs[0].Apart)
	}
}

// What is not compared is said, and nothing is compared of which it is not known what it should be.
func TestWhatIsNotComparedIsSaid(t *testing.T) {
	unread := pair("unread", [2]string{"integer", "integer"})
	unread.Unread = true
	nullable := pair("nullable", [2]string{"integer", "integer"})
	nullable.Key[0].To.Null = true
	unfound := pair("unfound", [2]string{"integer", "integer"})
	unfound.Name.Schema = ""
	absent := pair("absent", [2]string{"integer", "integer"})
	absent.Table, absent.Columns, absent.Key = nil, nil, nil
	pairs := []Pair{
		pair("narrow", [2]string{"integer", "integer"}, [2]string{"bigint", "integer"}, [2]string{"text", ""}),
		pair("keyless", [2]string{"integer", ""}), unread, nullable, unfound, absent,
	}
	ours, theirs, left := Postgres(pairs, Orders{}, Orders{})
	names := func(tables []verifypostgres.Table) (out []string) {
		for _, table := range tables {
			out = append(out, table.Name)
		}
		return out
	}
	require.Equal(t, []string{"public.narrow", "public.nullable", "public.absent"}, names(ours))
	require.Equal(t, names(ours), names(theirs))
	require.Equal(t, []string{"a"}, ours[0].Columns, "a bigint in an integer is not known to be what it should be")
	require.True(t, theirs[2].Absent)
	require.False(t, ours[2].Absent)
	said := map[string][]string{}
	for _, one := range left {
		said[one.Table] = append(said[one.Table], one.Columns...)
		require.NotEmpty(t, one.Why)
	}
	require.Equal(t, map[string][]string{
		"public.narrow": {"b", "c"}, "public.keyless": nil, "public.unread": nil, "public.nullable": {"a"}, "public.unfound": nil,
	}, said)
}

func TestWhatIsComparedOfAPostgresAndAMariaDB(t *testing.T) {
	absent := pair("absent", [2]string{"integer", "int(11)"})
	absent.Table, absent.Columns, absent.Key = nil, nil, nil
	pairs := []Pair{
		pair("t", [2]string{"bigint", "bigint(20)"}, [2]string{"boolean", "tinyint(1)"}, [2]string{"text", "int(11)"}),
		pair("words", [2]string{"text", "varchar(768) COLLATE utf8mb4_nopad_bin"}), absent,
	}
	pairs[0].Relation.Columns[0].Kind, pairs[0].Relation.Columns[1].Kind = change.KindInt, change.KindBool
	asked := ""
	is := func(table string) func(context.Context) (bool, error) { asked = table; return nil }
	ours, theirs, left := MySQL(pairs, Orders{"public.words": {"a": "i:de"}}, is)
	require.Equal(t, []verify.Left{{Table: "public.t", Columns: []string{"c"}, Why: "the target's columns are of types that can't hold every value of the source's"}}, left)
	require.Equal(t, "`shop`.`absent`", asked)
	require.Equal(t, []string{"a", "b"}, ours[0].Columns)
	require.Len(t, theirs[0].Columns, 2)
	require.Equal(t, "`shop`.`t`", theirs[0].From)
	require.Equal(t, []bool{false, true, false}, []bool{ours[0].Apart, ours[1].Apart, ours[2].Apart})
	forms := Forms(pairs)("public.t", ours[0].Columns)
	formed, err := forms[1]([]byte("t"))
	require.NoError(t, err)
	shown, err := theirs[0].Columns[1].Form([]byte("1"))
	require.NoError(t, err)
	require.Equal(t, shown, formed)
	require.Len(t, Forms(pairs)("public.absent", []string{"a"}), 1)
}

func TestWhatWasAlteredMeanwhileIsSaid(t *testing.T) {
	before := []Pair{pair("same", [2]string{"integer", "integer"}), pair("altered", [2]string{"integer", "integer"}), pair("gone", [2]string{"integer", "integer"})}
	after := slices.Clone(before[:2])
	after[1] = pair("altered", [2]string{"integer", "bigint"})
	var said []string
	for _, one := range Altered(before, append(after, pair("new", [2]string{"integer", "integer"}))) {
		said = append(said, one.Table)
	}
	require.Equal(t, []string{"public.altered", "public.gone"}, said)
}
