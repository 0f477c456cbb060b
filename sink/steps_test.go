package sink_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// drawRun makes a run of changes in order of (position, index) in a span. Without repeats, no key is twice in a
// position.
func drawRun(t *rapid.T, repeats bool) sink.Batch {
	run := sink.Batch{Span: spanOf(rapid.IntRange(0, 2).Draw(t, "start"), rapid.IntRange(9, cells).Draw(t, "end"))}
	position := change.Position(rapid.IntRange(1, 5).Draw(t, "position"))
	for range rapid.IntRange(0, 12).Draw(t, "positions") {
		keys := rapid.Permutation([]byte("cdefghi")).Draw(t, "keys")
		keys = keys[:rapid.IntRange(1, len(keys)).Draw(t, "n")]
		if repeats {
			keys = append(keys, keys[:rapid.IntRange(0, len(keys)).Draw(t, "repeats")]...)
		}
		for index, k := range keys {
			value := make([]byte, rapid.IntRange(0, 400).Draw(t, "size"))
			run.Changes = append(run.Changes, change.Change{
				Position: position, Index: uint32(index), Op: change.OpUpdate, Key: []byte{k}, After: &change.KV{Value: value},
			})
		}
		position += change.Position(rapid.IntRange(1, 3).Draw(t, "gap"))
	}
	run.To = change.At(position - 1 + change.Position(rapid.IntRange(0, 3).Draw(t, "to")))
	return run
}

func drawLimits(t *rapid.T) sink.Limits {
	return sink.Limits{
		Changes:      rapid.SampledFrom([]int{0, 1, 2, 5, 20}).Draw(t, "changes"),
		Bytes:        rapid.SampledFrom([]int{0, 1, 600, 2000, 9000}).Draw(t, "bytes"),
		DistinctKeys: rapid.Bool().Draw(t, "distinct"),
	}
}

// place names a change.
func place(c change.Change) string { return fmt.Sprintf("%d/%d/%s", c.Position, c.Index, c.Key) }

// requireSteps checks everything that a writer relies on, against a table of marks, one per key.
func requireSteps(t *rapid.T, run sink.Batch, limits sink.Limits, steps []sink.Batch) {
	var marks [cells]change.Mark
	perKey := make(map[string][]string)
	count := 0
	for _, step := range steps {
		require.True(t, run.Span.Encloses(step.Span))
		require.LessOrEqual(t, step.To.Compare(run.To), 0)
		require.True(t, slices.IsSortedFunc(step.Changes, func(a, b change.Change) int {
			return change.Mark{Position: a.Position, Index: a.Index + 1}.Compare(change.Mark{Position: b.Position, Index: b.Index + 1})
		}))
		for _, c := range step.Changes {
			require.True(t, step.Span.Contains(c.Key))
			require.True(t, step.To.Done(c.Position, c.Index), "%s is not done at %v", place(c), step.To)
			require.False(t, marks[c.Key[0]-'a'].Done(c.Position, c.Index), "%s was done before", place(c))
			perKey[string(c.Key)] = append(perKey[string(c.Key)], place(c))
			count++
		}
		for i := range marks {
			if step.Span.Contains([]byte{byte('a' + i)}) {
				marks[i] = change.Later(marks[i], step.To)
			}
		}
		requireWithin(t, limits, step)
		// Nothing that the marks say is done is still to come.
		done := make(map[string]bool)
		for _, places := range perKey {
			for _, p := range places {
				done[p] = true
			}
		}
		for _, c := range run.Changes {
			require.Equal(t, marks[c.Key[0]-'a'].Done(c.Position, c.Index), done[place(c)], "%s", place(c))
		}
	}
	require.Equal(t, len(run.Changes), count)
	want := make(map[string][]string)
	for _, c := range run.Changes {
		want[string(c.Key)] = append(want[string(c.Key)], place(c))
	}
	require.Equal(t, want, perKey)
	for i := range marks {
		if run.Span.Contains([]byte{byte('a' + i)}) {
			require.Equal(t, run.To, marks[i])
		}
	}
}

func requireWithin(t *rapid.T, limits sink.Limits, step sink.Batch) {
	size, keys := 0, make(map[string]bool)
	for i := range step.Changes {
		size += step.Changes[i].Size()
		keys[string(step.Changes[i].Key)] = true
	}
	if limits.Changes > 0 {
		require.LessOrEqual(t, len(step.Changes), limits.Changes)
	}
	if limits.Bytes > 0 && len(step.Changes) > 1 {
		require.LessOrEqual(t, size, limits.Bytes)
	}
	if limits.DistinctKeys {
		require.Len(t, keys, len(step.Changes))
	}
}

func TestSteps(t *testing.T) {
	for _, repeats := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			run, limits := drawRun(t, repeats), drawLimits(t)
			before := fmt.Sprint(run)
			steps := sink.Steps(run, limits)
			require.Equal(t, before, fmt.Sprint(run), "the run was changed")
			requireSteps(t, run, limits, steps)
			if repeats {
				return
			}
			for _, step := range steps {
				require.Zero(t, step.To.Index, "an etcd source has no indexes to go on from")
			}
		})
	}
}

// TestStepsArePacked: whole positions share a batch as long as they fit.
func TestStepsArePacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := drawRun(t, false)
		limits := sink.Limits{Changes: 20}
		steps := sink.Steps(run, limits)
		for i := 1; i < len(steps); i++ {
			require.True(t, steps[i].Span.Equal(run.Span), "no position is above the limit")
			next := 0
			for next < len(steps[i].Changes) && steps[i].Changes[next].Position == steps[i].Changes[0].Position {
				next++
			}
			require.Greater(t, len(steps[i-1].Changes)+next, limits.Changes, "the next position would have fitted")
		}
	})
}

func TestStepsOfAPage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := sink.Batch{Span: changefeed.Whole(), To: change.At(9), Snapshot: true}
		for _, k := range rapid.Permutation([]byte("abcdefghijk")).Draw(t, "keys")[:rapid.IntRange(0, 11).Draw(t, "n")] {
			run.Changes = append(run.Changes, change.Change{
				Position: 9, Index: uint32(len(run.Changes)), Op: change.OpRead, Key: []byte{k},
				After: &change.KV{Value: make([]byte, rapid.IntRange(0, 400).Draw(t, "size"))},
			})
		}
		limits := drawLimits(t)
		steps := sink.Steps(run, limits)
		requireSteps(t, run, limits, steps)
		var spans []changefeed.Span
		for _, step := range steps {
			require.True(t, step.Snapshot)
			spans = append(spans, step.Span)
		}
		require.NoError(t, changefeed.CheckCover(run.Span, spans))
	})
}

func TestStepsOfNothing(t *testing.T) {
	run := sink.Batch{Span: spanOf(1, 4), To: change.At(7)}
	require.Equal(t, []sink.Batch{run}, sink.Steps(run, sink.Limits{Changes: 1, DistinctKeys: true}))
}

func BenchmarkSteps(b *testing.B) {
	run := sink.Batch{Span: changefeed.Whole(), To: change.At(10_000)}
	for i := range 10_000 {
		run.Changes = append(run.Changes, change.Change{
			Position: change.Position(i + 1), Op: change.OpUpdate,
			Key: fmt.Appendf(nil, "/orders/%06d", i*7919%10_000), After: &change.KV{Value: make([]byte, 200)},
		})
	}
	limits := sink.Limits{Changes: 127, Bytes: 1 << 20, DistinctKeys: true}
	b.ReportAllocs()
	for b.Loop() {
		sink.Steps(run, limits)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/change")
}

// A row that gets another row's former key stays behind the change that made room.
func TestAPositionOfTablesIsCutByIndex(t *testing.T) {
	run := sink.Batch{Span: changefeed.Whole(), To: change.At(5)}
	for index, key := range []string{"t:9", "t:5", "t:7"} {
		run.Changes = append(run.Changes, change.Change{Position: 5, Index: uint32(index), Op: change.OpUpdate, Key: []byte(key), Table: "t"})
	}
	var marks []change.Mark
	for i, step := range sink.Steps(run, sink.Limits{Changes: 1}) {
		require.Equal(t, run.Changes[i:i+1], step.Changes)
		require.Equal(t, changefeed.Whole(), step.Span)
		marks = append(marks, step.To)
	}
	require.Equal(t, []change.Mark{{Position: 5, Index: 1}, {Position: 5, Index: 2}, change.At(5)}, marks)
}

// The rows of a table without keys are all in one place.
func TestAPageIsNotCutBetweenEqualKeys(t *testing.T) {
	page := sink.Batch{Span: changefeed.Whole(), To: change.At(5), Snapshot: true}
	for index, key := range []string{"a", "t:", "t:", "t:", "z"} {
		page.Changes = append(page.Changes, change.Change{Position: 5, Index: uint32(index), Op: change.OpRead, Key: []byte(key)})
	}
	var sizes []int
	for _, step := range sink.Steps(page, sink.Limits{Changes: 2}) {
		sizes = append(sizes, len(step.Changes))
		for _, c := range step.Changes {
			require.True(t, step.Span.Contains(c.Key))
		}
	}
	require.Equal(t, []int{4, 1}, sizes)
}
