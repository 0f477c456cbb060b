package dispatcher

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
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

// What becomes of a pump: it is over when it was asked to, when the sink has shut it out, when time heals nothing, and when it has
// tried often enough.
func TestOutcomesOfAnAttempt(t *testing.T) {
	t.Parallel()
	lasting := &changefeed.Fault{Code: changefeed.CodeSinkLost, Permanent: true}
	for name, test := range map[string]struct {
		attempt Attempt
		over    bool
		fenced  bool
		code    changefeed.Code
	}{
		"asked to stop at a mark":   {Attempt{Err: fmt.Errorf("a: %w", errStopped)}, true, false, ""},
		"revoked":                   {Attempt{Err: errRevoked}, true, false, ""},
		"asked, whatever went on":   {Attempt{Err: fence.ErrStale, Asked: true}, true, false, ""},
		"shut out":                  {Attempt{Err: fmt.Errorf("a: %w", fence.ErrStale), Retries: 3}, true, true, ""},
		"nothing heals it":          {Attempt{Err: lasting, Failures: 1, Retries: 3}, true, false, changefeed.CodeSinkLost},
		"a first failure":           {Attempt{Err: errors.New("x"), Failures: 1, Retries: 1, Code: changefeed.CodeSinkUnreachable}, false, false, changefeed.CodeSinkUnreachable},
		"more failures than it may": {Attempt{Err: errors.New("x"), Failures: 2, Retries: 1, Code: changefeed.CodeSinkUnreachable}, true, false, changefeed.CodeSinkUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := test.attempt.Outcome()
			require.Equal(t, [2]bool{test.over, test.fenced}, [2]bool{got.Over, got.Fenced})
			if test.code == "" {
				require.Nil(t, got.Fault)
				return
			}
			require.Equal(t, test.code, got.Fault.Code)
		})
	}
}

// A position is recorded only where every piece is exactly there.
func TestHoldingAndRecording(t *testing.T) {
	t.Parallel()
	left, right := changefeed.Span{End: []byte("m")}, changefeed.Span{Start: []byte("m")}
	pieces := func(low, high change.Position) Pieces {
		return NewPieces([]sink.Piece{{Span: left, Mark: change.At(low)}, {Span: right, Mark: change.At(high)}})
	}
	require.Zero(t, HoldLimit(0, pieces(3, 5)))
	require.Equal(t, change.Position(4), HoldLimit(4, pieces(3, 4)))
	require.Equal(t, change.Position(5), HoldLimit(4, pieces(3, 5)), "what was written above before stays")
	require.True(t, MayRecord(4, pieces(4, 4)))
	require.False(t, MayRecord(4, pieces(3, 4)))
	require.False(t, MayRecord(4, pieces(4, 5)))
	require.False(t, MayRecord(0, pieces(0, 0)))
}
