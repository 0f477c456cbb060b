package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/source"
)

var linedTable = &change.Relation{Schema: "s", Name: "t", Columns: []change.Column{{Name: "k", Kind: change.KindText, Key: 1}}}

// linesPage is a page with two rows, as lines.
func linesPage() *source.Event {
	return &source.Event{
		Span: changefeed.Span{Start: []byte("s.t:a"), End: []byte("s.t:c")}, To: change.At(7), Snapshot: true,
		Lines: &change.Lines{Of: linedTable, Text: []byte("a\nb\n"), Count: 2},
	}
}

func linesBatch() sink.Batch {
	page := linesPage()
	return sink.Batch{Lines: page.Lines, Span: page.Span, To: page.To, Snapshot: true}
}

// A page of lines counts as its rows do, and is joined with nothing.
func TestABufferHoldsPagesOfLines(t *testing.T) {
	t.Parallel()
	b := newBuffer(limits{changes: 3, bytes: 1 << 20})
	require.True(t, b.put(linesPage(), 100))
	next := linesPage()
	next.Span = changefeed.Span{Start: []byte("s.t:c"), End: []byte("s.t:e")}
	require.False(t, b.put(next, 100), "it would be four rows")
	runs := b.take()
	require.Len(t, runs, 1)
	require.Equal(t, 2, runs[0].lines.Count)
	require.True(t, b.put(next, 100))
	require.True(t, b.put(page("s.t:e", "s.t:f", 7, 9), 1))
	require.Len(t, b.take(), 1, "of a snapshot the first run")
	require.Equal(t, 1, b.changes)
	require.Len(t, b.take(), 1)
}

// The sink is given the lines, and they are counted when they are settled.
func TestAPageOfLinesIsGathered(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	page := linesPage()
	require.NoError(t, a.writeRun(t.Context(), run{lines: page.Lines, span: page.Span, to: page.To, snapshot: true}, sink.Limits{Changes: 1}))
	require.Len(t, s.open, 1)
	require.NotNil(t, s.open[0].Lines)
	require.Empty(t, s.open[0].Changes)
	require.NoError(t, a.settle(t.Context()))
	require.Equal(t, uint64(2), a.known().Changes)
	require.True(t, a.marked("s.t:a"))
	require.Len(t, s.rows, 2)
	require.Equal(t, "s.t:a", string(s.rows[0].Key))
}

// Where a page is a step of its own, what is written are changes.
func TestAPageOfLinesThatIsNotGatheredIsTakenApart(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	a.limit = 9
	page := linesPage()
	require.NoError(t, a.writeRun(t.Context(), run{lines: page.Lines, span: page.Span, to: page.To, snapshot: true}, sink.Limits{Changes: 1}))
	require.Empty(t, s.open)
	require.Equal(t, 2, s.batches, "the sink takes one change at a time")
	require.Equal(t, uint64(2), a.known().Changes)
	require.True(t, a.marked("s.t:b"))

	a, s = gatheringAttempt(t)
	a.limit = 9 // it came since the run was cut into steps
	require.NoError(t, a.write(t.Context(), linesBatch(), 7))
	require.Equal(t, 1, s.batches)
	require.True(t, a.marked("s.t:b"))
}

// Lines that are none are a fault of the source's, and nothing of them is written.
func TestLinesThatCanNotBeTakenApartAreRefused(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	a.limit = 9
	batch := linesBatch()
	batch.Lines.Count = 3
	require.ErrorContains(t, a.write(t.Context(), batch, 7), "s.t")
	require.Zero(t, s.batches)
	require.False(t, a.marked("s.t:a"))
}
