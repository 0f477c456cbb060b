package node

import (
	"context"
	"time"

	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/node/records"
)

// coordinatorWatch turns what is watched into what the coordinator's core takes in.
type coordinatorWatch struct {
	watch  *epochstore.Watch
	inputs chan []coordinator.Input
}

func newCoordinatorWatch(watch *epochstore.Watch) *coordinatorWatch {
	return &coordinatorWatch{watch: watch, inputs: make(chan []coordinator.Input)}
}

func (w *coordinatorWatch) Inputs() <-chan []coordinator.Input { return w.inputs }

func (w *coordinatorWatch) Age() time.Duration { return w.watch.Age() }

// run hands updates over until ctx ends.
func (w *coordinatorWatch) run(ctx context.Context) error {
	defer close(w.inputs)
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-w.watch.Updates():
			inputs := records.CoordinatorInputs(update)
			if len(inputs) == 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case w.inputs <- inputs:
			}
		}
	}
}
