// Package sourcetest holds implementations of source.Source to their contract: Run is the suite that each passes, and
// Checker judges what a reader delivered against a log of what was written. The checker knows nothing of any kind of
// source; it is itself tested with histories that are wrong.
package sourcetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// Write is one change that the source acknowledged.
type Write struct {
	Position change.Position
	Key      string
	Value    string
	Deleted  bool
	Index    uint32 // of a serial log: its place in the transaction; others rank by key within what is read
}

// Log is the truth: all writes, in any order. Writes of one position are one transaction.
type Log []Write

// sorted returns the log in order of positions, then indexes, then keys: a partitioned source ranks by key within a position.
func (l Log) sorted() Log {
	return slices.SortedFunc(slices.Values(l), func(a, b Write) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Key, b.Key))
	})
}

// At returns what the span holds at the position.
func (l Log) At(span changefeed.Span, position change.Position) map[string]string {
	held := make(map[string]string)
	for _, write := range l.sorted() {
		switch {
		case write.Position > position || !span.Contains([]byte(write.Key)):
		case write.Deleted:
			delete(held, write.Key)
		default:
			held[write.Key] = write.Value
		}
	}
	return held
}

// Checker follows one reader. Events are added as they come; Finish is asked when the log is complete.
type Checker struct {
	value  func(change.Row) string
	pieces []source.Piece
	span   changefeed.Span
	events []source.Event
	serial bool
}

// NewChecker makes a checker of what a reader of these pieces delivers; value returns the value of a row.
func NewChecker(pieces []source.Piece, value func(change.Row) string) *Checker {
	span := changefeed.Span{Start: pieces[0].Span.Start, End: pieces[len(pieces)-1].Span.End}
	return &Checker{value: value, pieces: pieces, span: span}
}

// OfSerialLog has the indexes of changes compared with those of the log.
func (c *Checker) OfSerialLog() *Checker {
	c.serial = true
	return c
}

// Add keeps an event for Finish, which judges all of them.
func (c *Checker) Add(event source.Event) { c.events = append(c.events, event) }

// Marks returns the pieces as they are after the events so far: what a sink would hold.
func (c *Checker) Marks() []source.Piece {
	pieces := slices.Clone(c.pieces)
	for _, event := range c.events {
		pieces = Advance(pieces, event)
	}
	return pieces
}

// Advance returns the pieces after an event, as a sink keeps them.
func Advance(pieces []source.Piece, event source.Event) []source.Piece {
	var out []source.Piece
	for _, piece := range pieces {
		inner, overlaps := piece.Span.Intersect(event.Span)
		if !overlaps {
			out = append(out, piece)
			continue
		}
		for _, rest := range piece.Span.Subtract(event.Span) {
			out = append(out, source.Piece{Span: rest, Mark: piece.Mark})
		}
		out = append(out, source.Piece{Span: inner, Mark: change.Later(piece.Mark, event.To)})
	}
	slices.SortFunc(out, func(a, b source.Piece) int { return a.Span.Compare(b.Span) })
	return out
}

// Finish judges the events against the log: each is well formed, every key's changes rise, a snapshot's page is what the
// source held, and after each event exactly what its span's marks say was delivered, once.
func (c *Checker) Finish(log Log) error {
	log = log.sorted()
	marks := slices.Clone(c.pieces)
	delivered := make(map[string]change.Mark) // the last change of each key, as the mark after it
	for number, event := range c.events {
		err := errors.Join(c.checkForm(event), c.checkRise(event, delivered))
		if err == nil && event.Snapshot {
			err = c.checkPage(event, log)
		} else if err == nil {
			err = c.checkRun(event, marks, log)
		}
		if err != nil {
			return fmt.Errorf("event %d of %v to %v: %w", number, event.Span, event.To, err)
		}
		marks = Advance(marks, event)
	}
	return nil
}

func (c *Checker) checkForm(event source.Event) error {
	switch {
	case !c.span.Encloses(event.Span):
		return errors.New("is outside the request")
	case !event.Snapshot && !event.Span.Equal(c.span):
		return errors.New("is not of the whole request, nor a snapshot's page")
	case event.Resolved != 0 && event.Resolved < event.To.Whole():
		return fmt.Errorf("resolves %v, below what it delivers", event.Resolved)
	}
	for i, one := range event.Changes {
		switch {
		case !event.Span.Contains(one.Key):
			return fmt.Errorf("key %q is outside the event's span", one.Key)
		case !event.To.Done(one.Position, one.Index):
			return fmt.Errorf("key %q at %v:%d lies beyond the event", one.Key, one.Position, one.Index)
		case event.Snapshot != (one.Op == change.OpRead):
			return fmt.Errorf("key %q is %v", one.Key, one.Op)
		case (one.Op == change.OpDelete) != (one.After == nil):
			return fmt.Errorf("key %q: %v and its row don't fit", one.Key, one.Op)
		case i > 0 && (one.Position < event.Changes[i-1].Position ||
			one.Position == event.Changes[i-1].Position && one.Index <= event.Changes[i-1].Index):
			return fmt.Errorf("key %q at %v:%d comes after %v:%d", one.Key, one.Position, one.Index,
				event.Changes[i-1].Position, event.Changes[i-1].Index)
		}
	}
	return nil
}

func (c *Checker) checkRise(event source.Event, delivered map[string]change.Mark) error {
	for _, one := range event.Changes {
		last, found := delivered[string(one.Key)]
		if found && last.Done(one.Position, one.Index) {
			return fmt.Errorf("key %q at %v:%d again, or too late", one.Key, one.Position, one.Index)
		}
		delivered[string(one.Key)] = change.Mark{Position: one.Position, Index: one.Index + 1}
	}
	return nil
}

func (c *Checker) checkPage(event source.Event, log Log) error {
	got := make(map[string]string)
	for _, one := range event.Changes {
		got[string(one.Key)] = c.value(one.After)
	}
	if want := log.At(event.Span, event.To.Position); !maps.Equal(want, got) {
		return fmt.Errorf("page has %d rows that are not the %d that the source held", len(got), len(want))
	}
	return nil
}

// checkRun compares the changes with the log between the marks before and after.
func (c *Checker) checkRun(event source.Event, marks []source.Piece, log Log) error {
	next := 0
	var index uint32
	var position change.Position
	for _, write := range log {
		if !event.Span.Contains([]byte(write.Key)) {
			continue
		}
		if write.Position != position {
			position, index = write.Position, 0
		}
		at := index
		index++
		if c.serial {
			at = write.Index
		}
		if !event.To.Done(write.Position, at) || markOf(marks, write.Key).Done(write.Position, at) {
			continue
		}
		if next == len(event.Changes) {
			return fmt.Errorf("key %q at %v is missing", write.Key, write.Position)
		}
		one := event.Changes[next]
		next++
		if one.Position != write.Position || one.Index != at || !bytes.Equal(one.Key, []byte(write.Key)) {
			return fmt.Errorf("key %q at %v:%d where %q at %v:%d is due", one.Key, one.Position, one.Index, write.Key, write.Position, at)
		}
		if (one.Op == change.OpDelete) != write.Deleted || !write.Deleted && c.value(one.After) != write.Value {
			return fmt.Errorf("key %q at %v has another row than was written", one.Key, one.Position)
		}
	}
	if next < len(event.Changes) {
		one := event.Changes[next]
		return fmt.Errorf("key %q at %v:%d was not due", one.Key, one.Position, one.Index)
	}
	return nil
}

func markOf(pieces []source.Piece, key string) change.Mark {
	for _, piece := range pieces {
		if piece.Span.Contains([]byte(key)) {
			return piece.Mark
		}
	}
	return change.Mark{}
}
