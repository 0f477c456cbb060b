package dispatcher

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/source"
)

// copy writes what the buffer holds, batch by batch, until an order, an error or ctx ends it.
func (a *attempt) copy(ctx context.Context, buffer *buffer) error {
	limits := a.batchLimits()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	idle := "" // what it waits for, as was told
	var first changefeed.Time
	for {
		if err := a.settleBefore(ctx); err != nil {
			return err
		}
		if err := a.reached(); err != nil {
			return err
		}
		if err := a.obey(ctx); err != nil {
			return err
		}
		held, err := a.holds(buffer)
		now := a.clock()
		settles, settled := a.settleDue(ctx, held, now)
		if settled != nil {
			return settled
		}
		if held == failed {
			return ofSource(err)
		}
		if held == nothing {
			first = 0
		} else if first == 0 {
			first = now
		}
		wait, ready := a.pause(held, now, first)
		wait = sooner(wait, settles)
		if ready {
			first, idle = 0, ""
			if len(a.pending) == 0 {
				a.pending = buffer.take()
			}
			if err := a.writePending(ctx, limits); err != nil {
				return err
			}
			continue
		}
		if waits := a.idleFor(); idle != waits {
			idle = waits
			a.waits(waits)
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-buffer.ready:
		case <-a.ordered:
		case <-due:
		case <-ctx.Done():
			return errRevoked
		}
	}
}

// batchLimits are the tighter ones of the sink's limits and the options.
func (a *attempt) batchLimits() sink.Limits {
	limits := a.writer.Limits()
	limits.Changes = tighter(limits.Changes, a.limits.changes)
	limits.Bytes = tighter(limits.Bytes, a.limits.bytes)
	return limits
}

func tighter(theirs, ours int) int {
	if theirs == 0 {
		return ours
	}
	return min(theirs, ours)
}

// reached ends the copy if it was asked to stop, and has come as far.
func (a *attempt) reached() error {
	at, asked := a.asked()
	if asked && !a.pieces.mark().Before(at) || asked && at == (change.Mark{}) {
		return errStopped
	}
	return nil
}

// pause says whether what is held is written now, and else how long it may wait at most; 0 is until more comes.
func (a *attempt) pause(held content, now, first changefeed.Time) (wait time.Duration, ready bool) {
	_, asked := a.asked()
	switch held {
	case full:
		return 0, true
	case data:
		wait = a.limits.flush - now.Sub(first)
	case progress:
		if a.last != 0 {
			wait = progressEvery - now.Sub(a.last)
		}
	case nothing:
		if _, explains := a.reader.(source.Waiting); explains {
			return waitsLookEvery, false
		}
		return 0, false
	case failed:
		return 0, false
	}
	if asked || a.limit != 0 || wait <= 0 {
		return 0, true
	}
	return wait, false
}

// writeRun cuts a run into the batches that the sink takes, and writes them.
func (a *attempt) writeRun(ctx context.Context, r run, limits sink.Limits) error {
	whole := r.batch()
	if !r.snapshot {
		undone := a.pieces.undone(r.changes)
		a.metrics.again.Add(float64(len(r.changes) - len(undone)))
		whole.Changes = a.leaveOut(undone)
	}
	if whole.Rows() == 0 && !a.pieces.behind(whole.Span, whole.To) {
		a.resolve(r.resolved)
		return nil
	}
	if _, gathers := a.gathers(whole); !gathers { // then the sink's limits hold for the page
		apart, err := whole.Apart()
		if err != nil {
			return ofSource(err)
		}
		whole = apart
	}
	a.upTo = whole.To.Position
	for _, step := range sink.Steps(whole, limits) {
		batch, last, err := a.trim(step, whole)
		if err != nil {
			return err
		}
		if err := a.write(ctx, batch, r.resolved); err != nil {
			return err
		}
		if last {
			return a.reached()
		}
	}
	return nil
}

// leaveOut says what is left out, since nothing else will.
func (a *attempt) leaveOut(changes []change.Change) []change.Change {
	kept := LeaveOut(changes, a.start.Spec.Skips)
	if left := len(changes) - len(kept); left > 0 {
		a.log.Info("changes are left out as asked", zap.Int("changes", left), zap.Stringer("up_to", changes[len(changes)-1].Position))
	}
	return kept
}

// resolve tells how far the source is, when there is nothing to write.
func (a *attempt) resolve(resolved change.Position) {
	a.publish(inTurn, func(progress *Progress) {
		progress.Resolved = max(progress.Resolved, resolved, progress.Mark.Whole())
		progress.Fault = nil
	})
}

// trim cuts a batch at the mark that the pump was asked to stop at: everything at or below it is written, nothing
// above. A page of a snapshot that was read at a later position cannot be cut: the pump stops where it is.
func (a *attempt) trim(step, whole sink.Batch) (batch sink.Batch, last bool, err error) {
	at, asked := a.asked()
	if !asked {
		return step, false, nil
	}
	return CutAt(at, step, whole)
}

// writeOnce hands one batch to the sink and counts it when it is durable. Crash before the count: the sink's pieces know.
func (a *attempt) writeOnce(ctx context.Context, batch sink.Batch, resolved change.Position) error {
	began := a.clock()
	a.publish(inTurn, func(progress *Progress) {
		progress.WaitingOn, progress.WaitingSince = waitsForWrite, began
	})
	if to, gathers := a.gathers(batch); gathers {
		return a.gather(ctx, to, batch, resolved)
	}
	if err := a.settle(ctx); err != nil {
		return err
	}
	batch, err := batch.Apart()
	if err != nil {
		return ofSource(err)
	}
	if err := a.stage(ctx, batch); err != nil {
		return err
	}
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	if err := a.mayWrite(); err != nil {
		return err
	}
	if err := a.writer.Write(limited, batch); err != nil {
		a.unknown = limited.Err() != nil || errors.Is(err, fence.ErrUnknown)
		a.metrics.refusedStale(err, refusedIncarnation)
		return ofSink(err)
	}
	a.wroteSince(began)
	a.pieces.advance(batch.Span, batch.To)
	a.count(batch, len(batch.Changes), sizeOf(batch), resolved)
	return nil
}

func sizeOf(batch sink.Batch) int {
	if batch.Lines != nil {
		return batch.Lines.Size()
	}
	bytes := 0
	for i := range batch.Changes {
		bytes += batch.Changes[i].Size()
	}
	return bytes
}

// wroteSince notes that something is durable, and how long that took.
func (a *attempt) wroteSince(began changefeed.Time) {
	ended := a.clock()
	a.writes.Observe(ended.Sub(began).Seconds())
	a.traceFirst()
	a.last, a.moved = ended, true
}

// count publishes what is durable now.
func (a *attempt) count(batch sink.Batch, changes, bytes int, resolved change.Position) {
	mark := a.pieces.mark()
	rows, total := a.snapshotProgress()
	a.metrics.written.Add(float64(changes))
	measured := !batch.Snapshot && a.traffic.Wrote(a.last, batch.Changes)
	a.publish(inTurn, func(progress *Progress) {
		if measured {
			progress.Measure(&a.traffic, a.last)
		}
		progress.Mark = change.Later(progress.Mark, mark)
		progress.Highest = max(progress.Highest, a.pieces.highest().Position)
		progress.Resolved = max(progress.Resolved, resolved, progress.Mark.Whole())
		progress.Changes += uint64(changes) //nolint:gosec // a count
		progress.Bytes += uint64(bytes)
		progress.SnapshotRows, progress.SnapshotTotal = rows, total
		progress.WaitingOn, progress.WaitingSince = "", 0
		progress.Fault = nil
	})
}

// snapshotProgress asks the reader how far its snapshot is.
func (a *attempt) snapshotProgress() (rows, total int64) {
	reader, ok := a.reader.(source.Progressing)
	if !ok {
		return 0, 0
	}
	read, reading := reader.Progress()
	if !reading {
		return 0, 0
	}
	return read.RowsRead, read.RowsTotal
}
