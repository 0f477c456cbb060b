package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// page is one of a snapshot: rows from one key to before another, of which the first has an index.
func page(from, to string, position change.Position, index uint32) *source.Event {
	return &source.Event{
		Span: changefeed.Span{Start: []byte(from), End: []byte(to)}, To: change.At(position), Snapshot: true,
		Changes: []change.Change{{Position: position, Index: index, Op: change.OpRead, Key: []byte(from), Table: "s.t"}},
	}
}

// allOf takes until nothing is left.
func allOf(b *buffer) (out []run) {
	for runs := b.take(); len(runs) > 0; runs = b.take() {
		out = append(out, runs...)
	}
	return out
}

func texts(runs []run) (out []string) {
	for _, run := range runs {
		text := string(run.span.Start) + "-" + string(run.span.End) + ":"
		for i := range run.changes {
			text += string(run.changes[i].Key)
		}
		out = append(out, text)
	}
	return out
}

// The reader of a snapshot goes on as soon as one run of its pages is taken, and what is left is taken without a wait.
func TestASnapshotIsTakenRunByRun(t *testing.T) {
	t.Parallel()
	b := newBuffer(limits{changes: 2, bytes: 100 << 20})
	require.True(t, b.put(page("a", "b", 7, 0), 10))
	require.True(t, b.put(page("m", "n", 7, 0), 10))
	require.False(t, b.put(page("x", "y", 7, 0), 10), "there is no room")
	require.Equal(t, []string{"a-b:a"}, texts(b.take()))
	require.True(t, b.put(page("n", "o", 7, 1), 10))
	held, err := b.holds()
	require.NoError(t, err)
	require.Equal(t, full, held)
	require.False(t, b.put(page("x", "y", 7, 0), 10), "nor now")
	require.Equal(t, []string{"m-o:mn"}, texts(b.take()))
	held, err = b.holds()
	require.NoError(t, err)
	require.Equal(t, nothing, held)
}

// Pages that go on from one another are written in one step, also where those of two parts of a table come in turn.
func TestNeighbouringPagesAreOneStep(t *testing.T) {
	t.Parallel()
	held := func(events ...*source.Event) []string {
		b := newBuffer(limits{changes: 100, bytes: 100 << 20})
		for _, event := range events {
			require.True(t, b.put(event, joinedBytesMax/2))
		}
		return texts(allOf(b))
	}
	require.Equal(t, []string{"a-c:ab", "m-o:mn"},
		held(page("a", "b", 7, 0), page("m", "n", 7, 0), page("b", "c", 7, 1), page("n", "o", 7, 1)))
	require.Equal(t, []string{"a-b:a", "c-d:c"}, held(page("a", "b", 7, 0), page("c", "d", 7, 1)), "a gap")
	require.Equal(t, []string{"a-b:a", "b-c:b"}, held(page("a", "b", 7, 0), page("b", "c", 8, 1)), "of another snapshot")
	require.Equal(t, []string{"a-b:a", "b-c:b"}, held(page("a", "b", 7, 5), page("b", "c", 7, 0)), "places begin anew")
	require.Equal(t, []string{"a-c:ab", "c-d:c"}, held(page("a", "b", 7, 0), page("b", "c", 7, 1), page("c", "d", 7, 2)), "too large")
	live := &source.Event{
		Span: changefeed.Span{Start: []byte("a"), End: []byte("c")}, To: change.At(9), Changes: []change.Change{{Position: 9, Key: []byte("a")}},
	}
	require.Equal(t, []string{"a-b:a", "a-c:a", "b-c:b"}, held(page("a", "b", 7, 0), live, page("b", "c", 7, 1)), "a change lies between")
}
