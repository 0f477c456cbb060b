package peer

import (
	"errors"
	"sync"
	"time"

	"fencerow/changefeed"
)

var (
	errNotWanted = errors.New("peer: node is no peer any more")
	errStopping  = errors.New("peer: stopping")
	errReplaced  = errors.New("peer: replaced by a newer stream")
	errSilent    = errors.New("peer: no answer to pings")
)

// link is what a node has with one peer: a queue that outlives streams, and at most one stream that counts.
type link struct {
	id    changefeed.NodeID
	queue *queue
	gone  chan struct{} // closed when the link ends for good

	// Guarded by Peers.mu.
	wanted  bool      // SetPeers names it; otherwise it is only there because the peer connected
	since   time.Time // when it was wanted first
	dialing bool      // a goroutine connects

	// delivery is held while a message is handed on, and while one stream takes over from another. It comes before mu,
	// and is never taken under Peers.mu: whoever gets the message may call Send.
	delivery sync.Mutex

	mu         sync.Mutex
	ended      error
	address    string
	generation uint64 // of the newest stream that was ever attached
	current    *stream
}

func newLink(id changefeed.NodeID) *link {
	return &link{id: id, queue: newQueue(), gone: make(chan struct{})}
}

func (l *link) setAddress(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.address = address
}

func (l *link) whereabouts() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.address
}

func (l *link) up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current != nil
}

// attach makes s the stream that counts, and ends the one before it. A stream that is older than one that was attached
// is refused, however late it comes.
func (l *link) attach(s *stream) error {
	l.delivery.Lock()
	defer l.delivery.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	if s.generation <= l.generation {
		return errReplaced
	}
	if l.current != nil {
		l.current.end(errReplaced)
	} else {
		s.peers.config.Metrics.links.Inc()
	}
	l.generation, l.current = s.generation, s
	return nil
}

func (l *link) detach(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == s {
		l.current = nil
		s.peers.config.Metrics.links.Dec()
	}
}

// ifCurrent calls f unless s was replaced or ended. While f runs no other stream takes over, so that what comes on one
// stream is never mixed with what comes on the next.
func (l *link) ifCurrent(s *stream, f func()) bool {
	l.delivery.Lock()
	defer l.delivery.Unlock()
	if !l.counts(s) {
		return false
	}
	f()
	return true
}

func (l *link) counts(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current == s && !s.ended()
}

func (l *link) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return
	}
	l.ended = err
	close(l.gone)
	if l.current != nil {
		l.current.end(err)
	}
}
