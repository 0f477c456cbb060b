package dispatcher

import (
	"errors"
	"slices"

	"fencerow/changefeed"
	"fencerow/sink"
)

// Forgotten is that a source has no more what follows a claim. It says nothing yet: others may have claimed the span since then, and
// written what is gone now, while this dispatcher was stopped or heard of nobody. The sink knows, so the span is claimed once more, and the
// source is believed if that finds nothing newer.
type Forgotten struct {
	at  []sink.Piece
	err error
}

// forgottenError is a [Forgotten] that a later claim has confirmed.
type forgottenError struct{ err error }

func (e *forgottenError) Error() string { return e.err.Error() }
func (e *forgottenError) Unwrap() error { return e.err }

// forgottenBy returns what an attempt found out about its claim; nil if the source has everything, or has forgotten it for good.
func forgottenBy(err error, claimed Pieces) *Forgotten {
	fault, ok := errors.AsType[*changefeed.Fault](err)
	if !ok || !fault.Permanent || fault.Code != changefeed.CodeSourceSlotLost && fault.Code != changefeed.CodeSourceCompacted {
		return nil
	}
	if _, confirmed := errors.AsType[*forgottenError](err); confirmed || claimed.held == nil {
		return nil
	}
	return &Forgotten{at: slices.Clone(claimed.held.items), err: err}
}

// Confirm returns why a claim can't be gone on with: it was made after the source had forgotten what follows it, and finds what the one
// before had. nil if there is no such reason.
func (f *Forgotten) Confirm(claimed Pieces) error {
	if f == nil || !slices.EqualFunc(f.at, claimed.held.items, func(a, b sink.Piece) bool { return a.Mark == b.Mark && a.Span.Equal(b.Span) }) {
		return nil
	}
	return &forgottenError{err: f.err}
}
