package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

const (
	// changesMax is how many changes one transaction takes: enough that its own cost does not show.
	changesMax = 5000
	// bytesMax is how many bytes of changes one transaction takes. Escaped they are at most twice as many, which a MySQL
	// with its default limit of 16 MiB takes as one message.
	bytesMax = 4 << 20
)

// writer holds one claim.
type writer struct {
	sink    *Sink
	session Session
	head    int64
	n       sink.Incarnation
	token   fence.Token
	claimed []sink.Piece
	held    sink.Map     // of this claim alone
	tables  *tableWriter // nil: it writes key-value pairs
	ended   error        // why it is done with
}

var (
	_ sink.Writer     = (*writer)(nil)
	_ sink.SyncWriter = (*writer)(nil)
)

// Pieces implements [sink.Writer].
func (w *writer) Pieces() []sink.Piece { return w.claimed }

// Limits implements [sink.Writer].
func (w *writer) Limits() sink.Limits {
	if w.tables != nil {
		return sink.Limits{Changes: tableChangesMax, Bytes: tableBytesMax}
	}
	return sink.Limits{Changes: changesMax, Bytes: bytesMax}
}

// span returns what was claimed.
func (w *writer) span() changefeed.Span {
	return changefeed.Span{Start: w.claimed[0].Span.Start, End: w.claimed[len(w.claimed)-1].Span.End}
}

// Close implements [sink.Writer].
func (w *writer) Close() error {
	if w.ended == nil {
		w.stop(errClosed)
	}
	return nil
}

// end is stop for an error that the caller returns.
func (w *writer) end(why error) error {
	w.stop(why)
	return why
}

// stop closes the connection, which ends whatever it left open: what was not committed, or is unknown and says so already.
func (w *writer) stop(why error) {
	w.ended = why
	if w.tables != nil {
		w.tables.abandon()
	}
	_ = w.session.Close()
}

// Write implements [sink.Writer]: one transaction, marks first, then data.
//
// Crash before the commit: nothing happened. Crash after it, or an answer that is lost: data and marks are there together,
// and the next claim reads the marks.
func (w *writer) Write(ctx context.Context, batch sink.Batch) error {
	if w.ended != nil {
		return w.ended
	}
	write := w.write
	if w.tables != nil {
		write = w.tables.write
	}
	if err := w.Settle(ctx); err != nil {
		return err
	}
	err := write(ctx, batch)
	if _, waits := errors.AsType[*sink.Barrier](err); waits {
		return w.goesOn(ctx, err)
	}
	if err != nil {
		return w.end(err)
	}
	return nil
}

// goesOn returns an error of which the transaction is given up, and nothing else.
func (w *writer) goesOn(ctx context.Context, err error) error {
	if _, failed := w.session.Do(ctx, rollback()); failed != nil {
		return w.end(w.sink.failed("roll back", failed))
	}
	return err
}

func (w *writer) write(ctx context.Context, batch sink.Batch) error {
	do := w.sink.layout.changes
	if batch.Snapshot {
		do = func([]change.Change) ([]Statement, error) { return w.sink.layout.page(batch) }
	}
	data, err := do(batch.Changes)
	if err != nil {
		return err
	}
	after, err := w.held.Advance(w.n, batch.Span, batch.To)
	if err != nil {
		return err
	}
	move, err := w.sink.statements.move(w.head, w.n, after.Pieces(w.n))
	if err != nil {
		return err
	}
	err = w.sink.again(ctx, w.session, "write", func() error { return w.commit(ctx, append([]Statement{begin(), move}, data...)) })
	switch reasonOf(err) {
	case RefusedRow, RefusedDuplicate:
		return w.find(ctx, batch.Changes, move, err)
	default:
	}
	if err == nil {
		w.held = after
	}
	return err
}

// commit does what is left of a data transaction, and ends it. The claim's row comes before all data: if it is not there,
// nothing that follows happens.
func (w *writer) commit(ctx context.Context, statements []Statement) error {
	return w.compared(w.sink.commit(ctx, w.session, "write", statements...))
}

// compared says what it means that the claim's row was not found.
func (w *writer) compared(err error) error {
	if errors.Is(err, ErrNotOne) {
		return superseded(w.n)
	}
	return err
}

// find looks for the change that the target refuses, by doing them one by one in a transaction that is not committed.
func (w *writer) find(ctx context.Context, changes []change.Change, move Statement, refused error) error {
	if _, err := w.session.Do(ctx, rollback()); err != nil {
		return w.sink.failed("roll back", err)
	}
	if _, err := w.session.Do(ctx, begin(), move); err != nil {
		err = w.compared(err)
		return w.sink.shown("look for the change that is refused", err)
	}
	for i := range changes {
		one, err := w.sink.layout.changes(changes[i : i+1])
		if err != nil {
			return err
		}
		if _, err := w.session.Do(ctx, one...); err != nil {
			if reason := reasonOf(err); reason == RefusedRow || reason == RefusedDuplicate {
				return w.sink.refusedChange(&changes[i], err)
			}
			return w.sink.shown("look for the change that is refused", err)
		}
	}
	return refused
}

// Sync implements [sink.SyncWriter]. It waits for all transactions under claims of the changefeed, so that at its commit the
// target is the cut.
//
// Crash before its commit: nothing happened, and the next who tries finds the marks as they are. Crash after it, or an
// answer that is lost: the row is there, and whoever reads it knows.
func (w *writer) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	if w.ended != nil {
		return w.ended
	}
	if err := w.Settle(ctx); err != nil {
		return err
	}
	err := w.sink.again(ctx, w.session, "record a sync point", func() error { return w.sync(ctx, whole, at) })
	if errors.Is(err, sink.ErrApart) || errors.Is(err, sink.ErrSynced) {
		return w.goesOn(ctx, err)
	}
	if err != nil {
		return w.end(err)
	}
	return nil
}

func (w *writer) sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	s := w.sink.statements
	results, err := w.session.Do(ctx,
		begin(), s.lockHead(), s.lockAll(w.head), s.readHead(), s.readClaims(w.head), s.readSyncs(w.head))
	if err != nil {
		return err
	}
	head, err := headOf(results[3])
	if err != nil {
		return err
	}
	held, err := readState(head, results[4].Rows)
	if err != nil {
		return err
	}
	synced, err := readSyncs(results[5])
	if err != nil {
		return err
	}
	if len(held.held.Pieces(w.n)) == 0 { // fence:F24 sql
		return superseded(w.n)
	}
	if slices.Contains(synced, at) { // fence:F24 sql
		return sink.ErrSynced
	}
	if err := w.apart(held.held, whole, at); err != nil {
		return err
	}
	if _, err := w.session.Do(ctx, append(s.trimSyncs(w.head, synced), s.putSync(w.head, at, w.token))...); err != nil {
		return err
	}
	return w.sink.commit(ctx, w.session, "sync point")
}

// apart returns nil if the target holds what a sync point needs: a copy exactly everything, a log at least that.
func (w *writer) apart(held sink.Map, whole changefeed.Span, at change.Position) error {
	if w.sink.config.Settings.Mode == ModeLog {
		return held.HasReached(whole, at)
	}
	return held.StandsAt(whole, at)
}

// readSyncs decodes the positions of sync points.
func readSyncs(result Result) ([]change.Position, error) {
	var out []change.Position
	for _, row := range result.Rows {
		r := reader{row: row}
		at := change.Position(r.number(64))
		if r.err != nil || at == 0 {
			return nil, broken("syncs", fmt.Errorf("%w", errors.Join(r.err, unexpected("a position", row))))
		}
		out = append(out, at)
	}
	return out, nil
}
