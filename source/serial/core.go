package serial

import (
	"bytes"
	"slices"
	"sort"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// Message is one step of a subscription: the changes of its span from the mark that it follows to the event's.
type Message struct {
	Number  uint64      // from 1 on, without gaps
	Follows change.Mark // how far the message before it came
	Event   source.Event
	Cost    int // of its credit, in bytes; given back when the message was taken
}

// messageCost is what a message costs beside its changes.
const messageCost = 64

// portion decides what of the log one subscription gets. It is pure: no goroutine, lock, clock or I/O.
//
// Invariant: everything of the span at or below at, and of each piece at or below its mark, was handed out or is not wanted.
type portion struct {
	span   changefeed.Span
	whole  bool           // the span is everything that the log has
	pieces []source.Piece // nil when none is above at
	at     change.Mark
}

// newPortion takes pieces that partition a span, in order.
func newPortion(pieces []source.Piece, all changefeed.Span) portion {
	span := spanOf(pieces)
	p := portion{span: span, whole: span.Encloses(all), pieces: slices.Clone(pieces), at: lowest(pieces)}
	p.level()
	return p
}

// spanOf returns the span that the pieces partition.
func spanOf(pieces []source.Piece) changefeed.Span {
	return changefeed.Span{Start: pieces[0].Span.Start, End: pieces[len(pieces)-1].Span.End}
}

// lowest returns how far all of the pieces are.
func lowest(pieces []source.Piece) change.Mark {
	low := pieces[0].Mark
	for i := range pieces {
		low = change.Earlier(low, pieces[i].Mark)
	}
	return low
}

// level forgets the pieces when none is further than the whole.
func (p *portion) level() {
	if !slices.ContainsFunc(p.pieces, func(piece source.Piece) bool { return p.at.Before(piece.Mark) }) {
		p.pieces = nil
	}
}

// take returns the part of an event of the log that the subscription lacks; false if it lacks nothing of it. The changes
// are shared with the event where nothing had to be left out: they are not to be changed, nor appended to in place.
func (p *portion) take(event *source.Event) (source.Event, bool) {
	if !p.at.Before(event.To) {
		return source.Event{}, false // handed out before the log was opened anew
	}
	changes := event.Changes
	if len(changes) > 0 && (!p.whole || p.pieces != nil || p.at.Done(changes[0].Position, changes[0].Index)) {
		changes = p.lacking(changes)
	}
	p.at = event.To
	p.level()
	return source.Event{Changes: slices.Clip(changes), Span: p.span, To: event.To, Resolved: event.Resolved}, true
}

func (p *portion) lacking(changes []change.Change) []change.Change {
	var out []change.Change
	for i := range changes {
		c := &changes[i]
		if p.span.Contains(c.Key) && !p.at.Done(c.Position, c.Index) && !p.ahead(c) {
			out = append(out, *c)
		}
	}
	return out
}

// ahead reports whether the change is done in its piece.
func (p *portion) ahead(c *change.Change) bool {
	if p.pieces == nil {
		return false
	}
	at := sort.Search(len(p.pieces), func(i int) bool { return bytes.Compare(p.pieces[i].Span.Start, c.Key) > 0 }) - 1
	return at >= 0 && p.pieces[at].Mark.Done(c.Position, c.Index)
}

// costOf is what a message with these changes costs of a credit.
func costOf(changes []change.Change) int {
	cost := messageCost
	for i := range changes {
		cost += changes[i].Size()
	}
	return cost
}

// continuity checks what comes in on one subscription: it must be the next message, and follow what was delivered.
type continuity struct {
	next uint64
	at   change.Mark
}

// admits reports whether the message is the one that is due, and takes it in.
func (c *continuity) admits(m *Message) bool {
	if m.Number != c.next || m.Follows != c.at || !c.at.Before(m.Event.To) {
		return false
	}
	c.next++
	c.at = m.Event.To
	return true
}

// advance returns the pieces when everything of their span up to the mark was delivered.
func advance(pieces []source.Piece, to change.Mark) {
	for i := range pieces {
		pieces[i].Mark = change.Later(pieces[i].Mark, to)
	}
}
