package dispatcher

import (
	"context"
	"errors"

	"fencerow/change"
	"fencerow/sink"
)

// waitsBefore is what a dispatcher waits for at a barrier of the sink, as people are shown it.
const waitsBefore = "other spans, before "

// barriersMax is at how many barriers of a sink one batch may wait before it is given up, and tried again: more than there are tables.
const barriersMax = 10_000

// write hands a batch to the sink, over the barriers that it has there: first what comes before one, then, when the others have come
// there, the rest.
func (a *attempt) write(ctx context.Context, batch sink.Batch, resolved change.Position) error {
	for waited := 0; ; waited++ {
		err := a.writeOnce(ctx, batch, resolved)
		barrier, waits := errors.AsType[*sink.Barrier](err)
		if !waits || waited == barriersMax {
			return err
		}
		before, rest, cut := HoldAt(barrier.Before(), batch)
		if cut && (len(before.Changes) > 0 || a.pieces.behind(before.Span, before.To)) {
			if err := a.write(ctx, before, resolved); err != nil {
				return err
			}
			batch = rest
		}
		if err := a.await(ctx, barrier); err != nil {
			return err
		}
	}
}

// await waits at a barrier. A stop ends the wait: what comes before the barrier is in the sink, and known, and nothing else was written.
func (a *attempt) await(ctx context.Context, barrier *sink.Barrier) error {
	if err := a.reached(); err != nil {
		return err
	}
	writer, ok := a.writer.(sink.Barring)
	if !ok {
		return ofSink(barrier)
	}
	return a.waitForOthers(ctx, waitsBefore+barrier.For, func(ctx context.Context) error { return writer.Await(ctx, barrier) })
}
