package dispatcher

import "sync"

const (
	// readAheadMax is what one pump's source may hold that was not taken yet. A source of many watches shares a backlog
	// among as many of them as this has room for.
	readAheadMax = 64 << 20
	// readAheadHostMax bounds it over the pumps of one host: a node that takes over a hundred changefeeds that are behind
	// must not run out of memory.
	readAheadHostMax = 2 * readAheadMax
)

// readAhead hands out the memory of one host that sources may fill. The first pumps get much, later ones half of what is
// left, and the least that a pump needs in any case.
type readAhead struct {
	mu   sync.Mutex // guards held
	held int
}

// take returns a share of at least least bytes, and the function that gives it back.
func (r *readAhead) take(least int) (bytes int, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	share := max(least, min(readAheadMax, (readAheadHostMax-r.held)/2))
	r.held += share
	return share, sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held -= share
	})
}
