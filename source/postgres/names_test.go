package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreKeptInAComment(t *testing.T) {
	kept := names{7: keptName("public", "a"), 5: keptName("S' =", `o"d\d`)}
	require.Equal(t, `COMMENT ON PUBLICATION "p" IS 'fencerow, tables as they are copied: 5=S%27%20=.o%22d%5Cd 7=public.a'`, kept.keep(`"p"`))
	require.Equal(t, kept, readNames(`fencerow, tables as they are copied: 5=S%27%20=.o%22d%5Cd 7=public.a`))
	require.Equal(t, names{9: "public.b"}, readNames(namesPrefix+" x=public.a 7 =b 99999999999=c 9=public.b"), "what is no name of ours is left out")
	require.Empty(t, readNames("somebody's own: 7=public.a"))
	require.Empty(t, readNames(""))
	require.Equal(t, names{5: kept[5], 7: "public.c"}, kept.with(listed{oid: 7, schema: "public", name: "c"}))
	require.Equal(t, "public.a", kept[7], "and the others stay as they are")
	now := publications{members: map[uint32]*membership{7: {oid: 7, schema: "public", name: "renamed"}, 8: {oid: 8, schema: "public", name: "new"}}, names: kept}
	named, more := now.named()
	require.True(t, more)
	require.Equal(t, names{7: "public.a", 8: "public.new"}, named)
}
