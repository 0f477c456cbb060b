package dispatcher

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/sink"
	"fencerow/source"
)

// What a dispatcher waits for at a barrier, as people are shown it.
const (
	waitsForOthers = "the others at a sync point"
	waitsForSync   = "sink to record a sync point"
)

// holdOrder is where a pump was asked to stop and stay alive.
type holdOrder struct {
	order uint64
	at    change.Position // 0: it goes on
	sync  bool            // it is to record the position, once
}

// hold asks the pump to write nothing above a position, or, with 0, to go on. What it was asked to record before and has
// not begun to, it does not.
func (p *pump) hold(order uint64, at change.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = holdOrder{order: order, at: at}
	notify(p.ordered)
}

// sync asks the pump to record the position at which it holds.
func (p *pump) sync(at change.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held.sync = p.held.at == at
	notify(p.ordered)
}

// heldAt returns where the pump was asked to hold. What it is to record is told once.
func (p *pump) heldAt() holdOrder {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held
	p.held.sync = false
	return held
}

// obey takes in where to hold, between two writes, and says so. What was written above before stays; nothing is added to it.
func (a *attempt) obey(ctx context.Context) error {
	held := a.heldAt()
	a.limit = HoldLimit(held.at, Pieces{a.pieces})
	if held.order != a.obeyed {
		a.obeyed = held.order
		pace := inTurn
		if held.at != 0 {
			pace = atOnce
			a.hurry()
		}
		a.publish(pace, func(progress *Progress) { progress.Order = held.order })
	}
	if held.sync && MayRecord(held.at, Pieces{a.pieces}) {
		return a.record(ctx, held.at)
	}
	return nil
}

// hurry asks a source that has nothing to tell how far it is, since others wait.
func (a *attempt) hurry() {
	if reader, ok := a.reader.(source.Hurrying); ok && a.pieces.mark().Before(change.At(a.limit)) {
		reader.Hurry()
	}
}

// record records the position in the sink, as the owner asked for. Crash before: nothing happened. Crash after, or an
// answer that is lost: the owner finds it in the sink.
func (a *attempt) record(ctx context.Context, at change.Position) error {
	writer, ok := a.writer.(sink.SyncWriter)
	if !ok {
		a.log.Warn("asked to record a sync point in a sink that keeps none", zap.Stringer("position", at))
		return nil
	}
	a.waits(waitsForSync)
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	if err := a.mayWrite(); err != nil {
		return err
	}
	err := writer.Sync(limited, a.whole, at)
	switch {
	case err == nil, errors.Is(err, sink.ErrSynced):
		a.publish(atOnce, func(progress *Progress) { progress.Synced = at })
		return nil
	case errors.Is(err, sink.ErrApart): // the owner asks again, or gives it up
		a.log.Info("no sync point", zap.Stringer("position", at), zap.Error(err))
		return nil
	default:
		a.metrics.refusedStale(err, refusedIncarnation)
		return ofSink(err)
	}
}

// holds says what can be written now: of what waits above the limit what has come below it, else what was read.
func (a *attempt) holds(buffer *buffer) (content, error) {
	if len(a.pending) == 0 {
		return buffer.holds()
	}
	now, _, waits := HoldAt(a.limit, a.pending[0].batch())
	if waits && len(now.Changes) == 0 && !a.pieces.behind(now.Span, now.To) {
		return nothing, nil
	}
	return full, nil
}

// writePending writes what was taken, run by run, up to the limit. A limit that comes meanwhile is obeyed between two.
func (a *attempt) writePending(ctx context.Context, limits sink.Limits) error {
	for len(a.pending) > 0 {
		if err := a.obey(ctx); err != nil {
			return err
		}
		next := a.pending[0]
		now, rest, waits := HoldAt(a.limit, next.batch())
		next.changes, next.to = now.Changes, now.To
		if err := a.writeRun(ctx, next, limits); err != nil {
			return err
		}
		if waits {
			a.pending[0].changes, a.pending[0].to = rest.Changes, rest.To
			return nil
		}
		a.pending = a.pending[1:]
	}
	a.pending = nil
	return nil
}

// idleFor says what the pump waits for when there is nothing to write.
func (a *attempt) idleFor() string {
	if a.limit != 0 && !a.pieces.mark().Before(change.At(a.limit)) {
		return waitsForOthers
	}
	if reader, ok := a.reader.(source.Waiting); ok {
		if waits := reader.Waits(); waits != "" {
			return waitsForSource + ": " + waits
		}
	}
	return waitsForSource
}

// batch is the run as one batch.
func (r *run) batch() sink.Batch {
	return sink.Batch{Changes: r.changes, Lines: r.lines, Span: r.span, To: r.to, Snapshot: r.snapshot}
}
