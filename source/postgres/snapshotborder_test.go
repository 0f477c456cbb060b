package postgres

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
)

func relation(name string, columns ...change.Column) *change.Relation {
	for i := range columns {
		columns[i].Number = i + 1
	}
	return &change.Relation{Schema: "public", Name: name, Columns: columns}
}

func intColumn(name string, key int) change.Column {
	return change.Column{Name: name, Kind: change.KindInt, Type: "bigint", Key: key}
}

func textColumn(name string, key int) change.Column {
	return change.Column{Name: name, Type: "text", Key: key}
}

func TestLeastInt(t *testing.T) {
	for _, n := range []int64{math.MinInt64, -12, -1, 0, 7, math.MaxInt64} {
		least, exact, found := leastInt(intText(n))
		require.True(t, found && exact)
		require.Equal(t, n, least)
	}
	for text, want := range map[string]int64{
		"": math.MinInt64, "-": math.MinInt64, ".": 0, "00": 0, "0000000000000000007\x01": 8, "000000000000000001": 10, "/": 0,
	} {
		least, exact, found := leastInt(text)
		require.True(t, found, text)
		require.False(t, exact, text)
		require.Equal(t, want, least, text)
	}
	_, _, found := leastInt("a")
	require.False(t, found)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		text := intText(int64(random.Uint64()))
		text = text[:random.IntN(len(text)+1)]
		least, _, _ := leastInt(text)
		require.GreaterOrEqual(t, intText(least), text)
		if least > math.MinInt64 {
			require.Less(t, intText(least-1), text)
		}
	}
}

func TestConditions(t *testing.T) {
	of := relation("t", intColumn("a", 1), textColumn("b", 2), change.Column{Name: "c"})
	in := func(from, to string) string {
		condition, err := between(of, changefeed.Span{Start: []byte("public.t" + from), End: []byte("public.t" + to)})
		require.NoError(t, err)
		return condition
	}
	seven := ":" + intText(7)
	require.Empty(t, in(":", ";"))
	require.Equal(t, `("a") >= ('7'::bigint)`, in(seven, ";"))
	require.Equal(t, `("a") < ('7'::bigint)`, in(":", seven))
	require.Equal(t, `("a", convert_to(concat("b"), 'UTF8')) >= ('7'::bigint, '\x78'::bytea)`, in(seven+"\x00x", ";"))
	require.Equal(t, `("a", convert_to(concat("b"), 'UTF8')) > ('7'::bigint, '\x78'::bytea)`, in(seven+"\x00x\x00", ";"))
	require.Equal(t, `("a", convert_to(concat("b"), 'UTF8')) <= ('7'::bigint, '\x78'::bytea)`, in(":", seven+"\x00x\x00"))
	require.Equal(t, `("a") >= ('8'::bigint)`, in(seven+"a", ";"), "a number that is no key")
	require.Equal(t, "false", in(":x", ";"))
	require.Equal(t, "true", in(":", ":x"))
}

func TestPlanCoversWhatItIsMadeOf(t *testing.T) {
	tables := []*table{
		{relation: relation("b", intColumn("id", 1)), rows: 3_000_000},
		{relation: relation("a", textColumn("id", 1)), rows: 10},
		{relation: relation("history", textColumn("note", 0)), rows: 10},
	}
	random := rand.New(rand.NewPCG(1, 2))
	borders := [][]byte{
		[]byte("public.a:k"), []byte("public.a:"), []byte("public.a;"), []byte("public.b:" + intText(5)), []byte("public.history:"),
		[]byte("public.history:x"), []byte("public.history;"), []byte("q"), []byte("a"),
	}
	for range 300 {
		var keys [][]byte
		for range random.IntN(5) {
			keys = append(keys, borders[random.IntN(len(borders))])
		}
		spans := changefeed.Whole().SplitAt(keys...)
		spans = spans[random.IntN(len(spans)):]
		var covered []changefeed.Span
		found := make(map[string]int)
		for _, part := range plan(spans, tables) {
			covered = append(covered, part.span)
			if part.table == nil {
				continue
			}
			found[part.table.relation.Name]++
			require.True(t, part.table.span().Encloses(part.span))
			if by, n := part.cutting(partRows); n > 1 {
				require.Equal(t, "id", by.Name)
				var inner []changefeed.Span
				for _, piece := range part.cut(evenly(1, 3_000_000, n)) {
					inner = append(inner, piece.span)
				}
				require.NoError(t, changefeed.CheckCover(part.span, inner))
			}
		}
		require.NoError(t, changefeed.CheckCover(changefeed.Span{Start: spans[0].Start}, covered))
		require.LessOrEqual(t, found["history"], 1, "all its rows have one key")
		if len(spans[0].Start) == 0 {
			require.Equal(t, 1, found["history"])
		}
	}
}

func TestCuts(t *testing.T) {
	require.Equal(t, []string{"26", "51", "76"}, evenly(1, 100, 4))
	require.Empty(t, evenly(5, 5, 4))
	require.Len(t, evenly(math.MinInt64, math.MaxInt64, 4), 3)
	require.Equal(t, []string{"2", "3"}, quantiles([]string{"1", "2", "3", "4"}, 3))
	require.Equal(t, []string{"2"}, quantiles([]string{"1", "2", "2", "2", "2", "4"}, 4))
}
