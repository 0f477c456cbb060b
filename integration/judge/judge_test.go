package judge_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/judge"
)

func puts() []judge.Put {
	return []judge.Put{
		{Key: "a", Value: "1", Revision: 2},
		{Key: "b", Value: "2", Revision: 3},
		{Key: "a", Value: "3", Revision: 4},
		{Key: "a", Delete: true, Revision: 5},
		{Key: "c", Value: "4"}, // its answer was lost
	}
}

func seen() []judge.Seen {
	return []judge.Seen{
		{Key: "a", Value: "1", Revision: 2},
		{Key: "b", Value: "2", Revision: 3},
		{Key: "a", Value: "3", Revision: 4},
		{Key: "a", Delete: true, Revision: 5},
	}
}

func TestAFaithfulReaderIsBelieved(t *testing.T) {
	require.Empty(t, judge.Log(puts(), seen()))
}

func TestAWriteWhoseAnswerWasLostMayBeSeenOrNot(t *testing.T) {
	require.Empty(t, judge.Log(puts(), append(seen(), judge.Seen{Key: "c", Value: "4", Revision: 6})))
}

func TestPlantedFaultsAreObjectedTo(t *testing.T) {
	for name, spoil := range map[string]func([]judge.Seen) []judge.Seen{
		"a duplicate":          func(s []judge.Seen) []judge.Seen { return append(s, s[3]) },
		"a duplicate in place": func(s []judge.Seen) []judge.Seen { return slices.Insert(s, 1, s[0]) },
		"a gap":                func(s []judge.Seen) []judge.Seen { return slices.Delete(s, 1, 2) },
		"a lost tail":          func(s []judge.Seen) []judge.Seen { return s[:3] },
		"a swap within a key":  func(s []judge.Seen) []judge.Seen { s[0], s[2] = s[2], s[0]; return s },
		"an altered value":     func(s []judge.Seen) []judge.Seen { s[1].Value = "9"; return s },
		"a delete made a put":  func(s []judge.Seen) []judge.Seen { s[3].Delete = false; return s },
		"an invented change":   func(s []judge.Seen) []judge.Seen { return append(s, judge.Seen{Key: "z", Value: "z", Revision: 9}) },
		"a moved revision":     func(s []judge.Seen) []judge.Seen { s[1].Revision = 7; return s },
		"a lost write, doubled": func(s []judge.Seen) []judge.Seen {
			l := judge.Seen{Key: "c", Value: "4", Revision: 6}
			return append(s, l, l)
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEmpty(t, judge.Log(puts(), spoil(seen())))
		})
	}
}

func TestPlantedFaultsInACopyAreObjectedTo(t *testing.T) {
	source := map[string]judge.Stored{"a": {Value: "1", Version: 2}, "b": {Value: "2", Version: 1}}
	require.Empty(t, judge.Copy(source, maps.Clone(source)))
	for name, spoil := range map[string]func(map[string]judge.Stored){
		"lost":          func(m map[string]judge.Stored) { delete(m, "a") },
		"altered":       func(m map[string]judge.Stored) { m["a"] = judge.Stored{Value: "9", Version: 2} },
		"applied twice": func(m map[string]judge.Stored) { m["a"] = judge.Stored{Value: "1", Version: 3} },
		"coalesced":     func(m map[string]judge.Stored) { m["a"] = judge.Stored{Value: "1", Version: 1} },
		"invented":      func(m map[string]judge.Stored) { m["z"] = judge.Stored{Value: "1", Version: 1} },
	} {
		t.Run(name, func(t *testing.T) {
			target := maps.Clone(source)
			spoil(target)
			require.NotEmpty(t, judge.Copy(source, target))
		})
	}
}

func TestACutIsWhatWasWrittenUpToThere(t *testing.T) {
	require.Len(t, judge.UpTo(puts(), 3), 3, "with the one whose answer was lost")
	require.Empty(t, judge.Log(judge.UpTo(puts(), 4), seen()[:3]))
	require.NotEmpty(t, judge.Log(judge.UpTo(puts(), 4), seen()), "one above the cut")
	require.NotEmpty(t, judge.Log(judge.UpTo(puts(), 4), seen()[:2]), "one below is missing")
	answered := puts()[:4]
	slices.Reverse(answered)
	require.Equal(t, map[string]judge.Stored{"a": {Value: "1", Version: 1}, "b": {Value: "2", Version: 1}}, judge.At(answered, 3))
	require.Equal(t, map[string]judge.Stored{"a": {Value: "3", Version: 2}, "b": {Value: "2", Version: 1}}, judge.At(answered, 4))
	require.Equal(t, map[string]judge.Stored{"b": {Value: "2", Version: 1}}, judge.At(answered, 9))
}
