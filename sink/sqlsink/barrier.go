package sqlsink

import (
	"context"
	"errors"
	"slices"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/sink"
)

// A row of another form is a barrier over the spans of its table: everything before its position is in the target, of every span, before
// the table is altered, or the statement shown that people are to run. Where the spans are, the claims say, which are read under the
// head's lock, in the transaction that alters; so it needs nobody who decides.

// awaitFirst and awaitLongest bound the pauses between two looks whether the others have come to a barrier. They grow, since of many spans
// each looks at all.
const (
	awaitFirst   = 50 * time.Millisecond
	awaitLongest = time.Second
)

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

// leads reports whether nothing of an earlier position is in the batch.
func (work *batchWork) leads(at change.Mark) bool {
	return len(work.batch.Changes) == 0 || work.batch.Changes[0].Position == at.Position
}

// reached returns nil if the others have come to a barrier, and [sink.ErrApart] if not. The head's lock is held: else parts that are claimed
// meanwhile would be seen twice, or not at all.
func (w *writer) reached(ctx context.Context, barrier *sink.Barrier) error {
	results, err := w.session.Do(ctx, w.sink.statements.readHead(), w.sink.statements.readClaims(w.head))
	if err != nil {
		return err
	}
	head, err := headOf(results[0])
	if err != nil {
		return err
	}
	found, err := readState(head, results[1].Rows)
	if err != nil {
		return err
	}
	if len(found.held.Pieces(w.n)) == 0 {
		return superseded(w.n)
	}
	return found.held.OthersReached(w.n, barrier.Span, barrier.Before())
}

// anyBehind reports whether another writer is not at a barrier yet. It locks nothing, and reads only the claims that are in question.
func (w *writer) anyBehind(ctx context.Context, barrier *sink.Barrier) (bool, error) {
	results, err := w.session.Do(ctx, w.sink.statements.readClaimsUpTo(w.head, w.n, barrier.Before()))
	if err != nil {
		return false, err
	}
	claimed, waits := false, false
	for _, row := range results[0].Rows {
		claim, err := readClaim(row)
		if err != nil {
			return false, broken("claims", err)
		}
		if claim.incarnation == w.n {
			claimed = true
			continue
		}
		waits = waits || slices.ContainsFunc(claim.held, func(piece sink.Held) bool {
			return piece.Span.Overlaps(barrier.Span) && piece.Mark.Before(change.At(barrier.Before()))
		})
	}
	if !claimed {
		return false, superseded(w.n)
	}
	return waits, nil
}

// Await implements [sink.Barring].
func (w *writer) Await(ctx context.Context, barrier *sink.Barrier) error {
	if w.ended != nil {
		return w.ended
	}
	for pause := awaitFirst; ; pause = min(2*pause, awaitLongest) {
		waits, err := w.anyBehind(ctx, barrier)
		if err == nil && !waits {
			waits, err = w.apartNow(ctx, barrier)
		}
		if err != nil {
			return w.end(w.sink.shown("look how far the others are", err))
		}
		if !waits {
			return nil
		}
		if !wait.For(ctx, pause) {
			return ctx.Err()
		}
	}
}

// apartNow reports whether a part is not at a barrier yet, of those too that nobody writes.
func (w *writer) apartNow(ctx context.Context, barrier *sink.Barrier) (bool, error) {
	var apart error
	err := w.sink.again(ctx, w.session, "look how far the others are", func() error {
		if _, err := w.session.Do(ctx, begin(), w.sink.statements.lockHead()); err != nil {
			return err
		}
		if apart = w.reached(ctx, barrier); apart != nil && !errors.Is(apart, sink.ErrApart) {
			return apart
		}
		_, err := w.session.Do(ctx, rollback())
		return err
	})
	return apart != nil, err
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
