package serial

import (
	"sync"

	"fencerow/change"
	"fencerow/source"
)

// subscription is the hub's end of what one dispatcher reads.
type subscription struct {
	id    string
	inbox *inbox
	room  chan struct{} // credit came back, or it is gone

	mu      sync.Mutex // guards what follows
	portion portion
	next    uint64 // number of the next message
	sent    change.Mark
	credit  int
	gone    bool
}

func newSubscription(request *Request, from source.Source) *subscription {
	p := newPortion(request.Pieces, from.Span())
	return &subscription{
		id: request.ID, inbox: newInbox(), room: make(chan struct{}, 1), portion: p, next: 1, sent: p.at, credit: request.Credit,
	}
}

// at returns how far it was given the log.
func (s *subscription) at() change.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.portion.at
}

// offer gives it its part of an event; false if it has no room for it now.
func (s *subscription) offer(event *source.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return true
	}
	if s.credit <= 0 && s.portion.at.Before(event.To) {
		return false
	}
	part, lacks := s.portion.take(event)
	if !lacks {
		return true
	}
	m := Message{Number: s.next, Follows: s.sent, Event: part}
	if m.progress() && s.inbox.extend(&m) {
		s.sent = part.To
		return true
	}
	m.Cost = costOf(part.Changes)
	s.next++
	s.sent, s.credit = part.To, s.credit-m.Cost
	s.inbox.push(m)
	return true
}

// grant gives credit back.
func (s *subscription) grant(bytes int) {
	s.mu.Lock()
	s.credit = min(s.credit+max(bytes, 0), creditMax)
	s.mu.Unlock()
	s.ring()
}

// leave has nothing more given to it.
func (s *subscription) leave() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.ring()
}

func (s *subscription) ring() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}
