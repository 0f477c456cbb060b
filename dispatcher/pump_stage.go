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
	if err := a.waitForOthers(ctx, waitsForLog, func(ctx context.Context) error { return staged.Await(ctx, batch) }); err != nil {
		return err
	}
	a.waits(waitsForWrite)
	return nil
}

// waitForOthers waits for what others write. A stop ends the wait, once what was written is as far as was asked for, and a barrier is heard
// in it.
func (a *attempt) waitForOthers(ctx context.Context, what string, await func(context.Context) error) error {
	a.waits(what)
	a.publish(inTurn, func(progress *Progress) { progress.Highest = max(progress.Highest, a.upTo) })
	ready, stop := context.WithCancel(ctx)
	defer stop()
	defer a.watch(ready, stop, func() {
		a.hear()
		if a.reached() != nil {
			stop()
		}
	})()
	err := await(ready)
	if stopped := a.reached(); stopped != nil && err != nil {
		return stopped
	}
	if err != nil {
		a.metrics.refusedStale(err, refusedIncarnation)
		return ofSink(err)
	}
	return nil
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

// hear takes in where to hold while a batch waits. Where that is below what is being written, the owner has to learn of it, and raise the
// barrier; those that the batch waits for would else be held for ever.
func (a *attempt) hear() {
	held := a.heldAt()
	if held.order == a.obeyed {
		return
	}
	a.obeyed, a.limit = held.order, 0
	if held.at != 0 {
		a.limit = max(held.at, a.upTo)
	}
	a.publish(atOnce, func(progress *Progress) { progress.Order = held.order })
}
