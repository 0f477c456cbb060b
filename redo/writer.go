package redo

import (
	"context"
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// writer is a claim of the log and one of the target, of the same span and token.
type writer struct {
	sink     *Sink
	log      logWriter
	target   sink.Writer
	inLog    *marks
	inTarget *marks
	claimed  []sink.Piece
	alone    bool // it has all of the source: there is nobody to wait for
}

var (
	_ sink.Staged     = (*writer)(nil)
	_ sink.SyncWriter = (*syncWriter)(nil)
)

// begin takes in where the two are.
func (w *writer) begin() error {
	var err error
	if w.inLog, err = newMarks(w.log.Pieces()); err != nil {
		return fmt.Errorf("redo: pieces of the log: %w", err)
	}
	if w.inTarget, err = newMarks(w.target.Pieces()); err != nil {
		return fmt.Errorf("redo: pieces of the target: %w", err)
	}
	if w.claimed, err = both(w.inLog, w.inTarget); err != nil {
		return err
	}
	first, last := w.claimed[0].Span, w.claimed[len(w.claimed)-1].Span
	w.alone = changefeed.Span{Start: first.Start, End: last.End}.Encloses(w.sink.whole)
	return nil
}

// Pieces implements [sink.Writer]. What either lacks has to come again, and each takes only what it lacks itself.
func (w *writer) Pieces() []sink.Piece { return w.claimed }

// Limits implements [sink.Writer]. They are the log's, which has few steps of much; for the target a batch is cut again.
func (w *writer) Limits() sink.Limits { return w.log.Limits() }

// Close implements [sink.Writer].
func (w *writer) Close() error { return errors.Join(ofLog(w.log.Close()), w.target.Close()) }

// Write implements [sink.Writer]. In the target a batch may be several steps, of which each brings a part of the span, or
// some of the positions, to its mark; the batch counts when all are done.
//
// Crash between the log and the target: the log is ahead. The next claim's pieces are the target's, so that the batch
// comes again; the log leaves it out, the target takes it.
func (w *writer) Write(ctx context.Context, batch sink.Batch) error {
	if err := w.Stage(ctx, batch); err != nil {
		return err
	}
	return write(ctx, w.target, w.inTarget, batch)
}

// Stage implements [sink.Staged].
func (w *writer) Stage(ctx context.Context, batch sink.Batch) error {
	return ofLog(write(ctx, w.log, w.inLog, batch))
}

// Ready implements [sink.Staged]. Pages of a snapshot don't wait: they are what others wait for.
func (w *writer) Ready(batch sink.Batch) bool {
	return batch.Snapshot || w.alone || uint64(batch.To.Position) <= w.sink.reached.Load()
}

// Await implements [sink.Staged].
func (w *writer) Await(ctx context.Context, batch sink.Batch) error {
	if w.Ready(batch) {
		return nil
	}
	return w.sink.await(ctx, w.log.Incarnation(), batch.To.Position)
}

// write writes to one of the two what it lacks of the batch.
func write(ctx context.Context, to sink.Writer, at *marks, batch sink.Batch) error {
	for _, part := range at.lacks(batch) {
		for _, step := range sink.Steps(part, to.Limits()) {
			if err := to.Write(ctx, step); err != nil {
				return err
			}
			if err := at.advance(step.Span, step.To); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncWriter is a writer whose target records sync points.
type syncWriter struct{ *writer }

// Sync implements [sink.SyncWriter]: in the log, then in the target. The log's stays true whatever becomes of the
// target's, since a log only grows.
func (w *syncWriter) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	target, ok := w.target.(sink.SyncWriter)
	if !ok {
		return fmt.Errorf("redo: the target gave a %T", w.target)
	}
	if err := w.log.Sync(ctx, whole, at); err != nil && !errors.Is(err, sink.ErrSynced) {
		return ofLog(err)
	}
	// Crash here: the sync point is in the log alone. The next who decides on it finds it there, and goes on here.
	return target.Sync(ctx, whole, at)
}
