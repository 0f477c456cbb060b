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
		event, lacks, err := p.take(&source.Event{Changes: changes, To: to, Resolved: 99})
		require.NoError(t, err)
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

// A row that gets another key, with values that only the target has, can be written by who has both keys at the same place. Nobody
// else is given it in parts: the one would change what is another's, and the other never hear of it.
func TestRowThatLeavesItsSpanIsAFault(t *testing.T) {
	of := &change.Relation{Schema: "s", Name: "t", Columns: []change.Column{{Name: "k", Key: 1}, {Name: "large"}}}
	start, _ := change.TableSpan(of.Schema, of.Name)
	at := func(key string) string { return string(change.AppendKey(start, of, [][]byte{[]byte(key), nil})) }
	move := change.Change{
		Position: 10, Op: change.OpUpdate, Table: "s.t", Key: []byte(at("x")),
		Before: &change.Tuple{Of: of, Cells: [][]byte{[]byte("b"), nil}, KeyOnly: true},
		After:  &change.Tuple{Of: of, Cells: [][]byte{[]byte("x"), nil}, Unchanged: []bool{false, true}},
	}
	take := func(pieces ...source.Piece) (int, error) {
		p := newPortion(pieces, changefeed.Whole())
		event, _, err := p.take(&source.Event{Changes: []change.Change{move}, To: change.At(10)})
		return len(event.Changes), err
	}
	low, high := span(at("a"), at("m")), span(at("m"), at("z"))
	n, err := take(source.Piece{Span: span(at("a"), at("z")), Mark: change.At(5)})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = take(source.Piece{Span: span("a", "b"), Mark: change.At(5)})
	require.NoError(t, err)
	require.Zero(t, n, "neither key is its own")
	for _, pieces := range [][]source.Piece{
		{{Span: low, Mark: change.At(5)}},
		{{Span: high, Mark: change.At(5)}},
		{{Span: low, Mark: change.At(5)}, {Span: high, Mark: change.At(10)}},
	} {
		_, err = take(pieces...)
		fault := changefeed.AsFault(err, "")
		require.True(t, fault.Permanent)
		require.Contains(t, fault.Cure, "merge")
	}
}

// A table that is emptied is emptied in every span that has a part of it, each at its own beginning, and once.
func TestTruncateReachesEverySpanOfTheTable(t *testing.T) {
	start, end := change.TableSpan("s", "t")
	truncate := change.Change{Position: 10, Op: change.OpTruncate, Table: "s.t", Key: start}
	take := func(pieces ...source.Piece) (keys []string, err error) {
		p := newPortion(pieces, changefeed.Whole())
		event, _, err := p.take(&source.Event{Changes: []change.Change{truncate}, To: change.At(10)})
		for _, c := range event.Changes {
			keys = append(keys, string(c.Key))
		}
		return keys, err
	}
	middle := string(start) + "m"
	for _, is := range []struct {
		span changefeed.Span
		keys []string
	}{
		{changefeed.Whole(), []string{string(start)}},
		{changefeed.Span{End: []byte(middle)}, []string{string(start)}},
		{changefeed.Span{Start: []byte(middle)}, []string{middle}},
		{span(middle, middle+"z"), []string{middle}},
		{changefeed.Span{Start: end}, nil},
		{changefeed.Span{End: start}, nil},
	} {
		keys, err := take(source.Piece{Span: is.span, Mark: change.At(5)})
		require.NoError(t, err)
		require.Equal(t, is.keys, keys, "%v", is.span)
	}
	uneven := func(low, high change.Position) ([]string, error) {
		return take(
			source.Piece{Span: changefeed.Span{End: []byte(middle)}, Mark: change.At(low)},
			source.Piece{Span: changefeed.Span{Start: []byte(middle)}, Mark: change.At(high)})
	}
	keys, err := uneven(5, 7)
	require.NoError(t, err)
	require.Equal(t, []string{string(start)}, keys)
	for _, marks := range [][2]change.Position{{5, 10}, {10, 5}} {
		_, err = uneven(marks[0], marks[1])
		require.True(t, changefeed.AsFault(err, "").Permanent)
	}
}

// A subscription to everything shares the event, and can't spoil it for another.
func TestPortionOfEverythingIsNotCopied(t *testing.T) {
	changes := append(make([]change.Change, 0, 8), keyed(10, 0, "a"), keyed(10, 1, "b"))
	one := newPortion([]source.Piece{{Mark: change.At(5)}}, changefeed.Whole())
	event, _, err := one.take(&source.Event{Changes: changes, To: change.At(10)})
	require.NoError(t, err)
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
