package sink

import (
	"context"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
)

// Barrier is what a [Barring] writer returns of a batch of which nothing was written: one of its changes may only be done when all parts
// of some keys are done up to right before its position, and some are not. The writer goes on.
type Barrier struct {
	At   change.Position // of the change
	Span changefeed.Span // the keys of which all parts have to come there
	For  string          // what the change does, for people
}

// Error says what waits.
func (b *Barrier) Error() string {
	return fmt.Sprintf("sink: %s at %d, which not everything before it has reached", b.For, b.At)
}

// Before returns the position that all parts have to have reached.
func (b *Barrier) Before() change.Position { return b.At - 1 }

// Barring is a writer that has barriers. Who writes by it brings what comes before one to the sink, waits for the others, and goes on with a
// batch that begins at the barrier's position.
type Barring interface {
	Writer
	// Await returns nil when the others have come to the barrier, which may take as long as they take. It changes nothing.
	Await(ctx context.Context, barrier *Barrier) error
}

// OthersReached returns nil if every part of span that is not of the incarnation is at the position or above, and [ErrApart] with the
// first that is not.
func (m Map) OthersReached(incarnation Incarnation, span changefeed.Span, at change.Position) error {
	return m.stands(span, at, func(held Held) bool {
		return held.Incarnation == incarnation || !held.Mark.Before(change.At(at))
	})
}
