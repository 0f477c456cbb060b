package epochstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"fencerow/epochstore"
	"fencerow/integration/history"
	"fencerow/kv"
)

// Coordinators of one term and of a former one bump at once, and lose answers, while others read: the epoch record is a
// linearizable register, as porcupine judges what was asked and what came back. Hazards 2 and 7.
func TestConcurrentBumpsAreThoseOfALinearizableRegister(t *testing.T) {
	const former, deciders, rounds, readers = 2, 3, 12, 3
	onBoth(t, func(t *testing.T, w *world) {
		w.create("a")
		began := time.Now()
		var recorders []*history.Recorder
		through := func(name string) *epochstore.Store {
			lossy := &flaky{Store: w.raw}
			var n atomic.Int64
			lossy.inject(nil, func(kv.Txn) error {
				if n.Add(1)%5 == 0 {
					return lost()
				}
				return nil
			})
			recorder := history.NewRecorder(lossy, name, began)
			recorders = append(recorders, recorder)
			return epochstore.New(recorder, w.keys, time.Now)
		}
		var running sync.WaitGroup
		var done, late atomic.Int64
		decide := func(store *epochstore.Store, lead *epochstore.Lead, bumps *atomic.Int64) {
			for range rounds {
				view, err := store.Changefeed(w.ctx, id("a"))
				if err == nil && lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n1")})[0].Err == nil {
					bumps.Add(1)
				}
			}
		}
		for i := range former {
			store := through(fmt.Sprintf("former %d", i))
			lead, err := store.Campaign(w.ctx, w.session(), "n0")
			require.NoError(t, err)
			require.NoError(t, lead.Resign(w.ctx)) // it goes on as if it were not
			running.Go(func() { decide(store, lead, &late) })
		}
		store := through("coordinator")
		lead, err := store.Campaign(w.ctx, w.session(), "n1")
		require.NoError(t, err)
		for range deciders {
			running.Go(func() { decide(store, lead, &done) })
		}
		for i := range readers {
			store := through(fmt.Sprintf("reader %d", i))
			running.Go(func() {
				for range rounds {
					_, _, _ = store.Epoch(w.ctx, id("a"))
				}
			})
		}
		running.Wait()
		require.Positive(t, done.Load(), "the coordinator bumps")
		require.Zero(t, late.Load(), "who was deposed does not")
		operations := w.register(recorders)
		require.Greater(t, len(operations), deciders*rounds)
		require.NoError(t, history.Linearizable(operations))
	})
}

// register returns what was asked of the epoch record of a, and what came back. What was done although its answer was lost
// is known by a watch from the beginning.
func (w *world) register(recorders []*history.Recorder) []porcupine.Operation {
	w.t.Helper()
	key := w.keys.Epoch(id("a"))
	end := w.get(key).ModRevision
	store := &history.Store{}
	for _, recorder := range recorders {
		store.Calls = append(store.Calls, recorder.Process().Calls...)
	}
	var events []kv.Event
	prefix := w.keys.Prefix()
	for response := range w.raw.Watch(w.ctx, kv.WatchRequest{Key: prefix, End: kv.PrefixEnd(prefix), From: 1}).Responses() {
		require.NoError(w.t, response.Err)
		events = append(events, response.Events...)
		if len(events) > 0 && events[len(events)-1].Pair.ModRevision >= end {
			break
		}
	}
	store.Commits = history.Commits(events)
	store.Attribute()
	return history.Register(store, key)
}
