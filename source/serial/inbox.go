package serial

import (
	"sync"
)

// inbox is what one end of a subscription puts in and another takes out. Its bound is the credit of whoever takes.
type inbox struct {
	ready chan struct{} // something is there to look at

	mu    sync.Mutex // guards what follows
	items []Message
	note  string // what the reader of the log waits for, for people
	over  error  // why nothing more comes
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

func (b *inbox) ring() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// push puts a message in.
func (b *inbox) push(m Message) {
	b.mu.Lock()
	b.items = append(b.items, m)
	b.mu.Unlock()
	b.ring()
}

// extend has the last message, if it was not taken yet, say that everything up to another's mark is delivered, which has
// no change of its own.
func (b *inbox) extend(m *Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.items) == 0 {
		return false
	}
	last := &b.items[len(b.items)-1].Event
	last.To, last.Resolved = m.Event.To, max(last.Resolved, m.Event.Resolved)
	return true
}

// take takes everything out. What ended the inbox shows when nothing is left.
func (b *inbox) take() ([]Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	if len(items) == 0 {
		return nil, b.over
	}
	if b.over != nil {
		b.ring()
	}
	return items, nil
}

// end lets nothing more in; the first reason stays.
func (b *inbox) end(err error) {
	b.mu.Lock()
	if b.over == nil {
		b.over = err
	}
	b.mu.Unlock()
	b.ring()
}

// say tells what the reader of the log waits for; "" is nothing.
func (b *inbox) say(note string) {
	b.mu.Lock()
	changed := b.note != note
	b.note = note
	b.mu.Unlock()
	if changed {
		b.ring()
	}
}

func (b *inbox) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.note
}
