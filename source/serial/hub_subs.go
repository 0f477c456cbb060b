package serial

import (
	"slices"

	"fencerow/change"
	"fencerow/source"
)

// This file has what others tell a hub, by any goroutine: who subscribes and leaves, and what the source may forget.

// subscribe adds a subscription.
func (h *Hub) subscribe(request *Request) (*subscription, error) {
	sub := newSubscription(request, h.config.Source, h.node.config.Spool, h.log)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, errEnded
	}
	h.subs = append(h.subs, sub)
	h.fits(sub)
	h.ring()
	return sub, nil
}

// fits has the log opened anew if the subscription is below where it is.
func (h *Hub) fits(sub *subscription) {
	if h.rewind != nil && h.behind(sub) {
		h.rewind(errRewind)
	}
}

// behind reports whether the subscription lacks something that the open log has passed. The lock is held.
func (h *Hub) behind(sub *subscription) bool { return sub.lacks(h.at) }

// leave takes a subscription away.
func (h *Hub) leave(sub *subscription) {
	sub.leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = slices.DeleteFunc(h.subs, func(one *subscription) bool { return one == sub })
	h.ring()
}

func (h *Hub) ring() {
	select {
	case h.came <- struct{}{}:
	default:
	}
}

// Acknowledge takes in a stored checkpoint: the source may forget everything at or below it. It does not wait. Only what a
// guarded write of the status returned may be told.
func (h *Hub) Acknowledge(stored change.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stored <= h.stored {
		return
	}
	h.stored = stored
	h.floor = max(h.floor, stored)
	if h.open != nil {
		h.open.Acknowledge(stored)
	}
}

// reads returns the log that is open, nil if none is.
func (h *Hub) reads() source.Log {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// hurry asks a source without changes to say soon how far it is.
func (h *Hub) hurry() {
	if hurrying, ok := h.reads().(source.Hurrying); ok {
		hurrying.Hurry()
	}
}

// retained returns how many bytes the source keeps until they are acknowledged; false where it does not say.
func (h *Hub) retained() (int64, bool) {
	if retaining, ok := h.reads().(source.Retaining); ok {
		return retaining.Retained()
	}
	return 0, false
}

// streamed returns how many bytes of transactions in progress are kept here; false where the source keeps them itself.
func (h *Hub) streamed() (int64, bool) {
	if streaming, ok := h.reads().(source.Streaming); ok {
		return streaming.Streamed(), true
	}
	return 0, false
}

// say tells all dispatchers what the log waits for.
func (h *Hub) say(note string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sub := range h.subs {
		sub.inbox.say(note)
	}
}

// endAll ends all subscriptions.
func (h *Hub) endAll(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sub := range h.subs {
		sub.inbox.end(err)
		sub.leave()
	}
	h.subs = nil
}

// close ends the hub for good.
func (h *Hub) close() {
	h.node.unregister(h)
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.endAll(errEnded)
}
