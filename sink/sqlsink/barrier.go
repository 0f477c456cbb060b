package sqlsink

import (
	"context"
	"errors"
	"slices"
	"time"

	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/sink"
)

// A row of another form is a barrier over the spans of its table: everything before its position is in the target, of every span, before
// the table is altered, or the statement shown that people are to run. Where the spans are, the claims say, which are read under the
// head's lock, in the transaction that alters; so it needs nobody who decides.

// awaitEvery is how often it is looked whether the others have come to a barrier.
const awaitEvery = 100 * time.Millisecond

var _ sink.Barring = (*writer)(nil)

// barrier returns nil if a table that was brought to a form before may be brought to the one that is wanted.
func (w *tableWriter) barrier(ctx context.Context, want wanted, held *place) error {
	if held.known() == nil || want.at.Index == 0 { // it fitted nothing yet; or it's a page of a snapshot, which others wait for
		return nil
	}
	barrier := &sink.Barrier{At: want.at.Position, Span: pageFor(want.source, nil).span, For: "the schema change of " + want.source.String()}
	if !want.leads {
		return barrier
	}
	err := w.reached(ctx, barrier)
	if errors.Is(err, sink.ErrApart) {
		return barrier
	}
	return err
}

// reached returns nil if the others have come to a barrier, and [sink.ErrApart] if not.
func (w *writer) reached(ctx context.Context, barrier *sink.Barrier) error {
	held, err := w.survey(ctx)
	if err != nil {
		return err
	}
	if len(held.held.Pieces(w.n)) == 0 {
		return superseded(w.n)
	}
	return held.held.OthersReached(w.n, barrier.Span, barrier.Before())
}

// survey reads where all spans are.
func (w *writer) survey(ctx context.Context) (*state, error) {
	results, err := w.session.Do(ctx, w.sink.statements.readHead(), w.sink.statements.readClaims(w.head))
	if err != nil {
		return nil, err
	}
	head, err := headOf(results[0])
	if err != nil {
		return nil, err
	}
	return readState(head, results[1].Rows)
}

// Await implements [sink.Barring].
func (w *writer) Await(ctx context.Context, barrier *sink.Barrier) error {
	if w.ended != nil {
		return w.ended
	}
	for {
		err := w.reached(ctx, barrier)
		if err == nil {
			return nil
		}
		if !errors.Is(err, sink.ErrApart) {
			return w.end(w.sink.shown("look how far the others are", err))
		}
		if !wait.For(ctx, awaitEvery) {
			return ctx.Err()
		}
	}
}

// endOthers ends the connections of the other writers that have a part of the table, and know it as it was: they claim again, which has to
// wait for the head's lock.
func (w *tableWriter) endOthers(ctx context.Context, table changefeed.Span) error {
	results, err := w.session.Do(ctx, w.sink.statements.readClaims(w.head))
	if err != nil {
		return err
	}
	for _, row := range results[0].Rows {
		other, err := readClaim(row)
		if err != nil {
			return broken("claims", err)
		}
		has := slices.ContainsFunc(other.held, func(piece sink.Held) bool { return piece.Span.Overlaps(table) })
		if other.incarnation == w.n || other.backend == "" || !has {
			continue
		}
		if err := w.session.End(ctx, other.backend); err != nil {
			return err
		}
	}
	return nil
}
