package serial

import (
	"bytes"
	"fmt"
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
// are shared with the event where nothing had to be left out: they are not to be changed, nor appended to in place. The error is
// the fault of a change that can't be parted; nothing is taken then.
func (p *portion) take(event *source.Event) (source.Event, bool, error) {
	if !p.at.Before(event.To) {
		return source.Event{}, false, nil // handed out before the log was opened anew
	}
	changes := event.Changes
	if len(changes) > 0 && (!p.whole || p.pieces != nil || p.at.Done(changes[0].Position, changes[0].Index)) {
		var err error
		if changes, err = p.lacking(changes); err != nil {
			return source.Event{}, false, err
		}
	}
	p.at = event.To
	p.level()
	return source.Event{Changes: slices.Clip(changes), Span: p.span, To: event.To, Resolved: event.Resolved}, true, nil
}

func (p *portion) lacking(changes []change.Change) ([]change.Change, error) {
	var out []change.Change
	for i := range changes {
		c := &changes[i]
		if p.at.Done(c.Position, c.Index) {
			continue
		}
		if c.Op == change.OpTruncate {
			part, wants, err := p.emptied(c)
			if err != nil {
				return nil, err
			}
			if wants {
				out = append(out, part)
			}
			continue
		}
		wants := p.wants(c.Key, c)
		if from, moved := c.Moved(); moved && p.wants(from, c) != wants {
			return nil, torn(c)
		}
		if wants {
			out = append(out, *c)
		}
	}
	return out, nil
}

// wants reports whether what the change does to a key is still to be done for the subscription.
func (p *portion) wants(key []byte, c *change.Change) bool {
	if !p.span.Contains(key) || p.pieces == nil {
		return p.span.Contains(key)
	}
	at := sort.Search(len(p.pieces), func(i int) bool { return bytes.Compare(p.pieces[i].Span.Start, key) > 0 }) - 1
	return at < 0 || !p.pieces[at].Mark.Done(c.Position, c.Index)
}

// emptied returns the subscription's part of a truncate: every span of the table has one, at where it begins in there.
func (p *portion) emptied(c *change.Change) (part change.Change, wants bool, err error) {
	key, err := change.ParseTableKey(c.Key)
	if err != nil {
		return part, false, fmt.Errorf("serial: truncate at %d: %w", c.Position, err)
	}
	start, end := change.TableSpan(key.Schema, key.Table)
	inside, overlaps := p.span.Intersect(changefeed.Span{Start: start, End: end})
	if !overlaps {
		return part, false, nil
	}
	wants = p.wants(inside.Start, c)
	for i := range p.pieces {
		piece := &p.pieces[i]
		if piece.Span.Overlaps(inside) && piece.Mark.Done(c.Position, c.Index) == wants {
			return part, false, uneven(c)
		}
	}
	part = *c
	part.Key = inside.Start
	return part, wants, nil
}

// uneven is the fault of a truncate that a part of a table has behind it and another before it, within one span.
func uneven(c *change.Change) *changefeed.Fault {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "source", Value: c.Table, Permanent: true,
		Detail: fmt.Sprintf("truncates %s at %d:%d, while parts of it are unequally far: the one that is ahead would lose its rows", c.Table, c.Position, c.Index),
		Cure:   "remove the changefeed and create it anew with start=snapshot",
	}
}

// torn is the fault of a row that goes from one span to another, or between parts that are unequally far, with values that the
// log does not have: nobody can write it whole.
func torn(c *change.Change) *changefeed.Fault {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "split_keys", Value: c.Table, Permanent: true,
		Detail: fmt.Sprintf("parts the old key of a row of %s from its new one, at %d:%d, and large values of it that did not change are not in the log",
			c.Table, c.Position, c.Index),
		Cure: "merge the spans of the table with changefeed merge and resume, and set ALTER TABLE … REPLICA IDENTITY FULL before it is split again",
	}
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
