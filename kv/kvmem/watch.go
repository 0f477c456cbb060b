package kvmem

import (
	"context"
	"fmt"

	"fencerow/kv"
)

// watch delivers what a cursor finds. The server's lock guards all but the channels.
type watch struct {
	store     *Store
	cursor    *Cursor
	pending   []kv.WatchResponse
	asked     bool // for progress
	done      bool // the last response is in pending
	wake      chan struct{}
	responses chan kv.WatchResponse
}

// Watch starts a watch. Its goroutine ends with ctx, with Close, or after the last response was taken.
func (s *Store) Watch(ctx context.Context, request kv.WatchRequest) kv.Watch {
	w := &watch{store: s, wake: make(chan struct{}, 1), responses: make(chan kv.WatchResponse)}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	w.cursor = s.server.machine.Watch(request)
	s.server.watches[w] = struct{}{}
	w.fill()
	s.watches.Go(func() { w.run(ctx) })
	return w
}

// Responses returns the channel of responses.
func (w *watch) Responses() <-chan kv.WatchResponse { return w.responses }

// RequestProgress asks for a response that says how far the watch is. None comes while the watch is behind or silent.
func (w *watch) RequestProgress(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kvmem: request progress: %w", err)
	}
	w.store.server.mu.Lock()
	defer w.store.server.mu.Unlock()
	w.asked = true
	w.fill()
	return nil
}

// fill takes what the cursor has, unless the watch is held back. It is taken as soon as it happens: what reached a real
// client's connection is not lost by a compaction either.
func (w *watch) fill() {
	eventsMax, held := w.store.faults.watch()
	if held || w.done {
		return
	}
	for {
		response, found := w.cursor.Next(eventsMax)
		if !found {
			break
		}
		w.pending = append(w.pending, response)
		w.done = response.Err != nil
	}
	if w.asked && !w.done {
		if response, found := w.cursor.Progress(); found {
			w.pending = append(w.pending, response)
			w.asked = false
		}
	}
	w.notify()
}

// end makes err the last response.
func (w *watch) end(err error) {
	if w.done {
		return
	}
	w.done = true
	w.cursor.Close()
	w.pending = append(w.pending, kv.WatchResponse{Err: err})
	w.notify()
}

func (w *watch) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) take() (kv.WatchResponse, bool) {
	w.store.server.mu.Lock()
	defer w.store.server.mu.Unlock()
	if len(w.pending) == 0 {
		return kv.WatchResponse{}, false
	}
	response := w.pending[0]
	w.pending = w.pending[1:]
	return response, true
}

func (w *watch) forget() {
	w.store.server.mu.Lock()
	defer w.store.server.mu.Unlock()
	w.cursor.Close()
	delete(w.store.server.watches, w)
}

func (w *watch) run(ctx context.Context) {
	defer close(w.responses)
	defer w.forget()
	for {
		response, found := w.take()
		if !found {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
				return
			case <-w.store.closed:
				w.sayClosed()
				return
			}
		}
		select {
		case w.responses <- response:
		case <-ctx.Done():
			return
		case <-w.store.closed:
			w.sayClosed()
			return
		}
		if response.Err != nil {
			return
		}
	}
}

// sayClosed tells a reader that is waiting; another one sees the channel closed.
func (w *watch) sayClosed() {
	select {
	case w.responses <- kv.WatchResponse{Err: kv.ErrClosed}:
	default:
	}
}
