package dispatcher

import (
	"errors"
	"slices"
	"sync/atomic"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
)

// This file has the decisions of a pump, apart from its goroutines, for whoever moves data in a way of its own, as a
// simulator does.

// MayWrite returns nil if a claim or a write may begin now: it is asked right before, with the mark that the host has
// revoked the token, and the session that the pump was started under.
func MayWrite(revoked *atomic.Bool, alive func() bool) error {
	if revoked.Load() { // fence:F21
		return errRevoked
	}
	if !alive() { // fence:F21
		return errRevoked
	}
	return nil
}

// Attempt is how an attempt of a pump to move its data ended.
type Attempt struct {
	Err      error
	Asked    bool            // to stop at once, or its token was revoked
	Failures int             // in a row, with this one
	Retries  int             // how many it may make
	Code     changefeed.Code // of a fault that has none of its own
	Claimed  Pieces          // as they were at its end; zero if nothing was claimed
}

// Outcome is what follows from an attempt.
type Outcome struct {
	Over   bool
	Fenced bool // the sink has shut it out, by a newer claim or a raised floor: the owner's record says who goes on
	Fault  *changefeed.Fault
	Doubt  *Forgotten // the next attempt confirms it, or goes on
}

// Outcome tells the outcomes of an attempt apart; nothing else does.
func (a Attempt) Outcome() Outcome {
	switch {
	case a.Asked, errors.Is(a.Err, errStopped), errors.Is(a.Err, errRevoked):
		return Outcome{Over: true}
	case errors.Is(a.Err, fence.ErrStale):
		return Outcome{Over: true, Fenced: true}
	}
	if doubt := forgottenBy(a.Err, a.Claimed); doubt != nil {
		return Outcome{Doubt: doubt}
	}
	fault := changefeed.AsFault(a.Err, a.Code)
	return Outcome{Over: fault.Permanent || a.Failures > a.Retries, Fault: fault}
}

// CutAt cuts a step of a run at the mark that a pump was asked to stop at; last says that nothing follows. The error says
// that the pump stops before it.
func CutAt(at change.Mark, step, run sink.Batch) (batch sink.Batch, last bool, err error) {
	switch {
	case at == change.Mark{}:
		return step, false, errStopped
	case !at.Before(step.To):
		return step, false, nil
	case step.Snapshot:
		return step, false, errStopped
	}
	kept := 0
	for kept < len(step.Changes) && at.Done(step.Changes[kept].Position, step.Changes[kept].Index) {
		kept++
	}
	if kept == 0 { // of this step, and of those that follow
		return sink.Batch{Span: run.Span, To: at}, true, nil
	}
	// The steps of one position that is cut by key reach beyond the mark together: each brings its own part there.
	last = slices.Equal(step.Span.End, run.Span.End)
	return sink.Batch{Changes: step.Changes[:kept:kept], Span: step.Span, To: at}, last, nil
}

// HoldAt cuts a run at the position above which a pump writes nothing: what may be written now, and whether the rest waits.
// A page of a snapshot can't be cut, and is written: whoever asked hears how far that went.
func HoldAt(limit change.Position, run sink.Batch) (now, rest sink.Batch, waits bool) {
	if limit == 0 || run.Snapshot || !change.At(limit).Before(run.To) {
		return run, sink.Batch{}, false
	}
	kept := 0
	for kept < len(run.Changes) && run.Changes[kept].Position <= limit {
		kept++
	}
	now, rest = run, run
	now.Changes, now.To = run.Changes[:kept:kept], change.At(limit)
	rest.Changes = run.Changes[kept:]
	return now, rest, true
}

// HoldLimit returns the position above which a pump that was asked to hold at one writes nothing: what was written above before
// stays, and nothing is added to it. 0: it was asked to go on.
func HoldLimit(at change.Position, pieces Pieces) change.Position {
	if at == 0 {
		return 0
	}
	return max(at, pieces.Highest().Position)
}

// MayRecord reports whether a pump may record the position that it holds at: everything is exactly there.
func MayRecord(at change.Position, pieces Pieces) bool {
	return at != 0 && HoldLimit(at, pieces) == at && pieces.Mark() == change.At(at)
}

// LeaveOut returns the changes without those that users have left out. The marks pass them all the same.
func LeaveOut(changes []change.Change, skips []record.Skip) []change.Change {
	if len(skips) == 0 {
		return changes
	}
	left := func(c *change.Change) bool {
		return slices.ContainsFunc(skips, func(skip record.Skip) bool { return skip.Position == c.Position && skip.Index == c.Index })
	}
	kept := make([]change.Change, 0, len(changes))
	for i := range changes {
		if !left(&changes[i]) {
			kept = append(kept, changes[i])
		}
	}
	return kept
}

// Pieces is how far each part of a claimed span is durable in the sink, as its one writer knows it.
type Pieces struct{ held *pieces }

// NewPieces takes the pieces of a claim, which partition the span in order.
func NewPieces(claimed []sink.Piece) Pieces { return Pieces{held: newPieces(claimed)} }

// Mark returns how far the whole span is.
func (p Pieces) Mark() change.Mark { return p.held.mark() }

// Behind reports whether a part of span is not yet at mark.
func (p Pieces) Behind(span changefeed.Span, mark change.Mark) bool { return p.held.behind(span, mark) }

// Request returns the pieces as a source takes them.
func (p Pieces) Request() source.Request { return p.held.request(0) }

// Undone returns the changes that are not done in the piece that they belong to.
func (p Pieces) Undone(changes []change.Change) []change.Change { return p.held.undone(changes) }

// Highest returns how far the piece is that is furthest.
func (p Pieces) Highest() change.Mark { return p.held.highest() }

// Advance moves what lies in span to mark, never back.
func (p Pieces) Advance(span changefeed.Span, mark change.Mark) { p.held.advance(span, mark) }
