package serial

import (
	"sync"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/source"
)

// subscription is the hub's end of what one dispatcher reads.
type subscription struct {
	id    string
	inbox *inbox
	log   *zap.Logger
	room  chan struct{} // credit came back, or it is gone

	mu       sync.Mutex // guards what follows
	portion  portion
	resolved change.Position // the highest that was seen
	next     uint64          // number of the next message
	sent     change.Mark     // up to where the last message came
	credit   int
	backlog  backlog
	gone     bool
}

func newSubscription(request *Request, from source.Source, spool *Spool, log *zap.Logger) *subscription {
	p := newPortion(request.Pieces, from.Span())
	return &subscription{
		id: request.ID, inbox: newInbox(), log: log, room: make(chan struct{}, 1), portion: p, next: 1, sent: p.at, credit: request.Credit,
		backlog: backlog{spool: spool, first: 1, next: 1, trimmed: 1},
	}
}

// at returns how far it was given the log.
func (s *subscription) at() change.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.portion.at
}

// lacks reports whether something up to a mark is still to be given to it. One that has ended lacks nothing.
func (s *subscription) lacks(upTo change.Mark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.gone && s.portion.at.Before(upTo)
}

// offer gives it its part of an event; false if it has no room for it now. A part that can't be given ends it. One that lags has its changes spooled, and is
// told how far everything is with what comes next.
func (s *subscription) offer(event *source.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return true
	}
	after := s.portion
	part, lacks, err := after.take(event)
	if err != nil {
		s.inbox.end(err)
		s.gone = true
	}
	if !lacks {
		return true
	}
	ready := s.credit > 0 && s.backlog.empty()
	switch {
	case len(part.Changes) == 0 && !ready:
	case len(part.Changes) == 0:
		s.progress(part.To, part.Resolved)
	case ready:
		s.push(s.message(part))
	case !s.backlog.room() || !s.spool(part):
		return false
	}
	s.portion, s.resolved = after, max(s.resolved, part.Resolved)
	return true
}

// message makes the next message. The lock is held.
func (s *subscription) message(event source.Event) Message {
	return Message{Number: s.next, Follows: s.sent, Event: event, Cost: costOf(event.Changes)}
}

// push has the dispatcher take a message. The lock is held.
func (s *subscription) push(m Message) {
	s.next, s.sent, s.credit = m.Number+1, m.Event.To, s.credit-m.Cost
	s.inbox.push(m)
}

// progress tells that everything is delivered up to a mark. The lock is held.
func (s *subscription) progress(to change.Mark, resolved change.Position) {
	m := s.message(source.Event{Span: s.portion.span, To: to, Resolved: resolved})
	if s.inbox.extend(&m) {
		s.sent = to
		return
	}
	s.push(m)
}

// spool puts a part of an event into the backlog. The lock is held.
func (s *subscription) spool(part source.Event) bool {
	m := s.message(part)
	if err := s.backlog.append(&m); err != nil {
		s.log.Debug("not spooled", zap.String("subscription", s.id), zap.Error(err))
		return false
	}
	s.next, s.sent = m.Number+1, part.To
	return true
}

// grant gives credit back.
func (s *subscription) grant(bytes int) {
	s.mu.Lock()
	s.credit = min(s.credit+max(bytes, 0), creditMax)
	s.refill()
	s.mu.Unlock()
	s.ring()
}

// refill has the dispatcher take what it lags behind, as far as its credit goes. The lock is held.
func (s *subscription) refill() {
	for !s.gone && s.credit > 0 && !s.backlog.empty() {
		m, err := s.backlog.take()
		if err != nil { // what is lost here is read again
			s.log.Warn("a subscription can't go on, and is opened again", zap.String("subscription", s.id), zap.Error(err))
			s.inbox.end(errDropped)
			s.gone = true
			return
		}
		m.Event.Span = s.portion.span
		s.credit -= m.Cost
		s.inbox.push(m)
	}
	if !s.gone && s.credit > 0 && s.backlog.empty() && s.sent != s.portion.at {
		s.progress(s.portion.at, s.resolved)
	}
}

// leave has nothing more given to it.
func (s *subscription) leave() {
	s.mu.Lock()
	s.gone = true
	if err := s.backlog.drop(); err != nil {
		s.log.Debug("spool not trimmed", zap.String("subscription", s.id), zap.Error(err))
	}
	s.mu.Unlock()
	s.ring()
}

func (s *subscription) ring() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}
