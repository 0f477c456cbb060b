package sqlsink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// same is a dialect that keeps names.
type same struct{ Tables }

func (same) Target(schema, table string) TableName { return TableName{Schema: schema, Name: table} }

func TestNamesOfTheTarget(t *testing.T) {
	naming, err := ParseNaming(`public.a:shop.b, public.*:all.*,"Odd.Schema"."x,:""y":"t", other.a:shop."Weird.Name"`, `public.a.id:number,public.a."Q.R":q`)
	require.NoError(t, err)
	for from, to := range map[[2]string]TableName{
		{"public", "a"}:             {Schema: "shop", Name: "b"},
		{"public", "z"}:             {Schema: "all", Name: "z"},
		{"Odd.Schema", `x,:"y`}:     {Name: "t"},
		{"other", "a"}:              {Schema: "shop", Name: "Weird.Name"},
		{"other", "what.is.n't in"}: {Schema: "other", Name: "what.is.n't in"},
	} {
		require.Equal(t, to, naming.Target(from[0], from[1], same{}))
	}
	of := &change.Relation{Schema: "public", Name: "a"}
	require.Equal(t, "number", naming.Column(of, "id"))
	require.Equal(t, "q", naming.Column(of, "Q.R"))
	require.Equal(t, "other", naming.Column(of, "other"))
	require.Equal(t, "id", naming.Column(&change.Relation{Schema: "public", Name: "b"}, "id"))
}

func TestNamesThatMeanNothingAreRefused(t *testing.T) {
	for _, bad := range []string{
		"a:b", "public.a", "public.a:b.c.d", "public.a:b:c", "public.*:b.c", "public.a:b.*", "*.*:b.*", "public.a:", "public.a:b,public.a:c",
		"public.a:s.x,public.b:s.x", `public."a:b`, `public.a"b:c.d`, `public."a"b":c.d`, ",", "public..a:b.c",
	} {
		_, err := ParseNaming(bad, "")
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"a.b:c", "a.b.c", "a.b.c:d.e", "a.b.c:d,a.b.c:e", "a.b.c:d,a.b.e:d"} {
		_, err := ParseNaming("", bad)
		require.Error(t, err, bad)
	}
}
