package node

import (
	"context"
	"sync"

	"fencerow/api"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/record"
)

// rejectionsWaiting is how many refusals wait for one who listens; those above it are dropped.
const rejectionsWaiting = 64

// rejections hands what the fences of this node refuse to who listens. It never blocks who tells it.
type rejections struct {
	mu        sync.Mutex // guards listeners
	listeners map[chan api.Rejection]struct{}
}

func (r *rejections) tell(refused dispatcher.Rejection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for listener := range r.listeners {
		select {
		case listener <- api.Rejection(refused):
		default:
		}
	}
}

func (r *rejections) listen() (<-chan api.Rejection, func()) {
	listener := make(chan api.Rejection, rejectionsWaiting)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listeners == nil {
		r.listeners = make(map[chan api.Rejection]struct{})
	}
	r.listeners[listener] = struct{}{}
	return listener, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, listener)
	}
}

// Rejections returns what this node's fences refuse from now on, and what ends that.
func (b backend) Rejections() (<-chan api.Rejection, func()) { return b.rejected.listen() }

// Follow tells all records that people are told of, and then each change, until ctx ends.
func (b backend) Follow(ctx context.Context, tell func(changes []api.RecordChange, first bool)) error {
	watch := b.store.Watch(epochstore.WatchConfig{
		Kinds: []record.Kind{record.KindNode, record.KindSpec, record.KindEpoch, record.KindStatus},
		Clock: epochstore.BootTime, Logger: b.log,
	})
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = watch.Run(ctx) }) //nolint:errcheck // it ends with ctx
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-watch.Updates():
			changes := make([]api.RecordChange, len(update.Changes))
			for i, change := range update.Changes {
				changes[i] = api.RecordChange{Ref: change.Ref, Record: change.Record, Deleted: change.Deleted, Revision: change.ModRevision}
			}
			tell(changes, update.Snapshot)
		}
	}
}
