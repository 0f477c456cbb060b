package dispatcher

import (
	"context"

	"fencerow/sink"
)

// stage keeps a batch where a sink with a log wants it, and waits until it may be written. A stop, unlike one that finds a
// write under way, ends the wait: nothing was written that is not known.
func (a *attempt) stage(ctx context.Context, batch sink.Batch) error {
	staged, ok := a.writer.(sink.Staged)
	if !ok {
		return nil
	}
	if err := a.keep(ctx, staged, batch); err != nil || staged.Ready(batch) {
		return err
	}
	a.waits(waitsForLog)
	ready, stop := context.WithCancel(ctx)
	defer stop()
	defer a.watchOrders(ready, stop)()
	err := staged.Await(ready, batch)
	switch {
	case err == nil:
		a.waits(waitsForWrite)
		return nil
	case a.stopsNow():
		return errStopped
	default:
		return ofSink(err)
	}
}

// keep is the write of the log.
func (a *attempt) keep(ctx context.Context, staged sink.Staged, batch sink.Batch) error {
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	if err := a.mayWrite(); err != nil {
		return err
	}
	if err := staged.Stage(limited, batch); err != nil {
		a.metrics.refusedStale(err, refusedIncarnation)
		return ofSink(err)
	}
	return nil
}
