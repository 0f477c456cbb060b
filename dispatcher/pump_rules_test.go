package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// A pump that is asked to stop at a position writes everything at or below it and nothing above, however small the
// batches are that the sink takes.
func TestCutAtWritesExactlyWhatLiesBelow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		span := changefeed.Span{Start: []byte("a"), End: []byte("z")}
		run := sink.Batch{Span: span}
		position := change.Position(1)
		for range rapid.IntRange(0, 12).Draw(t, "changes") {
			if rapid.Bool().Draw(t, "next") {
				position++
			}
			index := uint32(0)
			if n := len(run.Changes); n > 0 && run.Changes[n-1].Position == position {
				index = run.Changes[n-1].Index + 1
			}
			key := byte('a' + rapid.IntRange(0, 20).Draw(t, "key"))
			run.Changes = append(run.Changes, change.Change{Key: []byte{key}, Position: position, Index: index})
		}
		run.To = change.At(position + change.Position(rapid.IntRange(0, 3).Draw(t, "further")))
		at := change.At(change.Position(rapid.IntRange(1, int(run.To.Position)).Draw(t, "at")))
		limits := sink.Limits{Changes: rapid.IntRange(1, 4).Draw(t, "limit")}

		held := NewPieces([]sink.Piece{{Span: span}})
		written := 0
		for _, step := range sink.Steps(run, limits) {
			batch, last, err := CutAt(at, step, run)
			require.NoError(t, err)
			written += len(batch.Changes)
			for _, c := range batch.Changes {
				require.LessOrEqual(t, c.Position, at.Position)
				require.True(t, batch.Span.Contains(c.Key))
			}
			held.Advance(batch.Span, batch.To)
			if last {
				break
			}
		}
		want := 0
		for _, c := range run.Changes {
			if c.Position <= at.Position {
				want++
			}
		}
		require.Equal(t, want, written)
		require.Equal(t, at, held.Mark())
	})
}
