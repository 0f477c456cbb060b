package kvtest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/kv"
)

var errPromise = errors.New("an event at or below a revision that was said to be complete")

// stream is one watch on each.
type stream struct{ real, memory *follower }

// follow watches both from one of the memory's revisions.
func (p *pair) follow(from int64) stream {
	request := kv.WatchRequest{Key: p.prefix, End: kv.PrefixEnd(p.prefix), From: from}
	inMemory := p.memory.Watch(p.ctx, request)
	request.From += p.offset
	return stream{real: p.follower(p.real.Watch(p.ctx, request)), memory: p.follower(inMemory)}
}

// sameEvents reads both up to now and wants the same.
func (p *pair) sameEvents(s stream) {
	p.t.Helper()
	revision := p.revision()
	inMemory, inReal := s.memory.upTo(revision), s.real.upTo(revision+p.offset)
	require.Equal(p.t, len(inReal), len(inMemory))
	for i, event := range inReal { // one by one: the difference of thousands is not readable
		event.Pair = p.fromReal(event.Pair)
		require.Equal(p.t, event, inMemory[i], "event %d", i)
	}
}

// follower collects events as they come, so that the real one's watch is never behind for long.
type follower struct {
	p     *pair
	watch kv.Watch
	moved chan struct{} // something came

	mu       sync.Mutex
	events   []kv.Event
	complete int64
	err      error
}

func (p *pair) follower(watch kv.Watch) *follower {
	f := &follower{p: p, watch: watch, moved: make(chan struct{}, 1)}
	p.followers.Go(f.collect)
	return f
}

func (f *follower) collect() {
	for response := range f.watch.Responses() {
		f.take(response)
		select {
		case f.moved <- struct{}{}:
		default:
		}
	}
}

func (f *follower) take(response kv.WatchResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, response.Err)
	for _, event := range response.Events {
		if revision := event.Pair.ModRevision; revision <= f.complete || revision > response.Revision {
			f.err = errors.Join(f.err, fmt.Errorf("%w: %+v after %d", errPromise, event, f.complete))
		}
	}
	f.events = append(f.events, response.Events...)
	if !response.Fragment {
		f.complete = response.Revision
	}
}

func (f *follower) state() (complete int64, events []kv.Event, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.complete, f.events, f.err
}

// upTo waits until everything up to a revision has come, and returns everything.
func (f *follower) upTo(revision int64) []kv.Event {
	f.p.t.Helper()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		complete, events, err := f.state()
		require.NoError(f.p.t, err)
		if complete >= revision {
			return events
		}
		require.NoError(f.p.t, f.watch.RequestProgress(f.p.ctx))
		select {
		case <-f.moved:
		case <-again.C:
		case <-f.p.ctx.Done():
			require.FailNow(f.p.t, "a watch is silent", "at %d of %d", complete, revision)
		}
	}
}
