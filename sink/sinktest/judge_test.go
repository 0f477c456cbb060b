package sinktest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// TestJudgeCanFail: hazard 73. The judge objects to a planted duplicate, gap and swap.
func TestJudgeCanFail(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(1, 2)), 200, 5)
	var good []Entry
	for _, c := range h.changes {
		good = append(good, entryOf(c))
	}
	require.NoError(t, h.judge(good, 0, h.head))
	require.Error(t, h.judge(good[:len(good)-1], 0, h.head))
	for at := range len(good) - 1 {
		require.Error(t, h.judge(slices.Insert(slices.Clone(good), at, good[at]), 0, h.head), "duplicate at %d", at)
		require.Error(t, h.judge(slices.Delete(slices.Clone(good), at, at+1), 0, h.head), "gap at %d", at)
		later := slices.IndexFunc(good[at+1:], func(e Entry) bool { return e.Key == good[at].Key })
		if later < 0 {
			continue
		}
		swapped := slices.Clone(good)
		swapped[at], swapped[at+1+later] = swapped[at+1+later], swapped[at]
		require.Error(t, h.judge(swapped, 0, h.head), "swap at %d", at)
	}
	require.Error(t, h.judge(append(good, Entry{Key: "stranger", Value: "x"}), 0, h.head))
}

func TestJudgeOfASnapshot(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(3, 4)), 100, 5)
	var entries []Entry
	for _, c := range h.state(60) {
		entries = append(entries, entryOf(c))
	}
	for _, c := range h.between(60, 90) {
		entries = append(entries, entryOf(c))
	}
	require.NoError(t, h.judge(entries, 60, 90))
	require.Error(t, h.judge(entries, 61, 90))
	require.Error(t, h.judge(entries, 60, change.Position(100)))
}

func TestJudgeOfWhatIsFolded(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(1, 2)), 200, 5)
	h.folds = true
	var all, last []Entry
	for i, c := range h.changes {
		all = append(all, entryOf(c))
		if !slices.ContainsFunc(h.changes[i+1:], func(later change.Change) bool { return string(later.Key) == string(c.Key) }) && c.Op != change.OpDelete {
			last = append(last, entryOf(c))
		}
	}
	require.NoError(t, h.judge(all, 0, h.head))
	require.NoError(t, h.judge(last, 0, h.head))
	require.Error(t, h.judge(last[1:], 0, h.head), "the last is missing")
	require.Error(t, h.judge(append(last, last[0]), 0, h.head), "twice")
	first := all[slices.IndexFunc(all, func(e Entry) bool { return e.Key == last[0].Key && e != last[0] })]
	require.Error(t, h.judge(append(last, first), 0, h.head), "out of order")
	require.Error(t, h.judge(append(last, Entry{Key: "stranger", Value: "x"}), 0, h.head))
}
