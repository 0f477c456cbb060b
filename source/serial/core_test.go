package serial

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

func keyed(position change.Position, index uint32, key string) change.Change {
	return change.Change{Position: position, Index: index, Op: change.OpCreate, Key: []byte(key)}
}

func span(start, end string) changefeed.Span {
	return changefeed.Span{Start: []byte(start), End: []byte(end)}
}

// A subscription gets of each event what it lacks: by span, by what its pieces have done, and by what it was given before the log
// was opened anew, wherever a transaction was cut then.
func TestPortionTakesWhatIsLacking(t *testing.T) {
	p := newPortion([]source.Piece{
		{Span: span("b", "d"), Mark: change.Mark{Position: 10, Index: 2}}, {Span: span("d", "f"), Mark: change.At(20)},
	}, changefeed.Whole())
	require.Equal(t, change.Mark{Position: 10, Index: 2}, p.at)
	places := func(event source.Event) (out []change.Mark) {
		for _, c := range event.Changes {
			out = append(out, change.Mark{Position: c.Position, Index: c.Index})
		}
		return out
	}
	take := func(to change.Mark, changes ...change.Change) ([]change.Mark, bool) {
		event, lacks := p.take(&source.Event{Changes: changes, To: to, Resolved: 99})
		return places(event), lacks
	}
	_, lacks := take(change.At(9), keyed(9, 0, "b"))
	require.False(t, lacks)
	got, lacks := take(change.Mark{Position: 10, Index: 4}, keyed(10, 0, "b"), keyed(10, 1, "c"), keyed(10, 2, "c"), keyed(10, 3, "d"))
	require.True(t, lacks)
	require.Equal(t, []change.Mark{{Position: 10, Index: 2}}, got)
	got, lacks = take(change.At(10), keyed(10, 4, "a"), keyed(10, 5, "f"))
	require.True(t, lacks, "how far everything is")
	require.Empty(t, got)
	got, _ = take(change.At(20), keyed(20, 0, "b"), keyed(20, 1, "e"))
	require.Equal(t, []change.Mark{{Position: 20}}, got)
	require.Nil(t, p.pieces, "all are equally far")
	got, _ = take(change.Mark{Position: 30, Index: 1}, keyed(30, 0, "e"))
	require.Len(t, got, 1)
	got, _ = take(change.Mark{Position: 30, Index: 3}, keyed(30, 0, "e"), keyed(30, 1, "e"), keyed(30, 2, "e")) // cut elsewhere
	require.Equal(t, []change.Mark{{Position: 30, Index: 1}, {Position: 30, Index: 2}}, got)
	_, lacks = take(change.Mark{Position: 30, Index: 2})
	require.False(t, lacks)
}

// A subscription to everything shares the event, and can't spoil it for another.
func TestPortionOfEverythingIsNotCopied(t *testing.T) {
	changes := append(make([]change.Change, 0, 8), keyed(10, 0, "a"), keyed(10, 1, "b"))
	one := newPortion([]source.Piece{{Mark: change.At(5)}}, changefeed.Whole())
	event, _ := one.take(&source.Event{Changes: changes, To: change.At(10)})
	require.Same(t, &changes[0], &event.Changes[0])
	require.Equal(t, len(event.Changes), cap(event.Changes), "what is appended goes elsewhere")
}

// Only the next message counts, and only where it follows what was delivered.
func TestContinuity(t *testing.T) {
	c := continuity{next: 1, at: change.At(5)}
	message := func(number uint64, follows, to change.Mark) *Message {
		return &Message{Number: number, Follows: follows, Event: source.Event{To: to}}
	}
	require.False(t, c.admits(message(2, change.At(5), change.At(6))), "one is missing")
	require.False(t, c.admits(message(1, change.At(4), change.At(6))), "it follows something else")
	require.False(t, c.admits(message(1, change.At(5), change.At(5))), "it does not go on")
	require.True(t, c.admits(message(1, change.At(5), change.Mark{Position: 6, Index: 3})))
	require.False(t, c.admits(message(1, change.At(5), change.At(6))), "again")
	require.True(t, c.admits(message(2, change.Mark{Position: 6, Index: 3}, change.At(6))))
}
