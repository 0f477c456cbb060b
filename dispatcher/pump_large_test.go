package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/source"
)

// part is a part of a large transaction: the changes from one index to below another, of which the last part has no end.
func part(position change.Position, from, to uint32, complete bool) *source.Event {
	event := &source.Event{To: change.Mark{Position: position, Index: to}}
	if complete {
		event.To = change.At(position)
	}
	for i := from; i < to; i++ {
		event.Changes = append(event.Changes, change.Change{Position: position, Index: i, Key: []byte("k"), Table: "s.t"})
	}
	return event
}

// The parts of a large transaction are written as they come, each once, wherever a pump began, holds or stops.
func TestLargeTransactionInParts(t *testing.T) {
	t.Parallel()
	b := newBuffer(limits{changes: 100, bytes: 1 << 20})
	for _, event := range []*source.Event{part(20, 0, 1, true), part(30, 0, 3, false), part(30, 3, 6, false)} {
		require.True(t, b.put(event, 1))
	}
	runs := b.take()
	require.Len(t, runs, 1)
	run := runs[0].batch()
	require.Equal(t, change.Mark{Position: 30, Index: 6}, run.To)
	require.Len(t, run.Changes, 7)

	now, rest, waits := HoldAt(20, run)
	require.True(t, waits)
	require.Equal(t, change.At(20), now.To)
	require.Len(t, now.Changes, 1)
	require.Equal(t, run.To, rest.To)
	require.Len(t, rest.Changes, 6)
	_, _, waits = HoldAt(30, run)
	require.False(t, waits, "what is above the part is not there yet")

	// Begun in the middle, under a claim that found some of it done.
	held := NewPieces([]sink.Piece{{Span: changefeed.Whole(), Mark: change.Mark{Position: 30, Index: 2}}})
	undone := held.Undone(run.Changes)
	require.Len(t, undone, 4)
	require.Equal(t, uint32(2), undone[0].Index)
	run.Changes = undone
	for _, step := range sink.Steps(run, sink.Limits{Changes: 3}) {
		require.True(t, held.Behind(step.Span, step.To))
		held.Advance(step.Span, step.To)
	}
	require.Equal(t, run.To, held.Mark())
	require.Equal(t, change.Position(29), held.Mark().Whole(), "no checkpoint covers half a transaction")

	// A stop at the transaction waits for its end, and one within it cuts it there.
	batch, last, err := CutAt(change.At(30), run, run)
	require.NoError(t, err)
	require.False(t, last)
	require.Equal(t, run.To, batch.To)
	batch, last, err = CutAt(change.Mark{Position: 30, Index: 4}, run, run)
	require.NoError(t, err)
	require.True(t, last)
	require.Equal(t, change.Mark{Position: 30, Index: 4}, batch.To)
	require.Len(t, batch.Changes, 2)
	held.Advance(changefeed.Whole(), change.At(30))
	require.False(t, held.Behind(changefeed.Whole(), run.To))
}
