package records

import (
	"context"
	"fmt"
	"sync"

	"fencerow/epochstore"
	"fencerow/maintainer"
)

// Listing is [Maintaining] for the many maintainers of a node, which may all start at once: those that want the nodes while
// a list is being read share the next one. That begins after each of them has asked, so it is as linearizable as a list of
// its own.
type Listing struct {
	Maintaining

	turn chan struct{} // holds a token while a list is being read

	mu   sync.Mutex // guards next
	next *listing   // has not begun, and may be joined; nil if there is none
}

var _ maintainer.Records = (*Listing)(nil)

// listing is one list, for everybody who joined it.
type listing struct {
	done  chan struct{}
	nodes maintainer.Nodes // once done; nobody changes it
	err   error
}

// NewListing returns what reads records for the maintainers of a node.
func NewListing(store *epochstore.Store) *Listing {
	return &Listing{Maintaining: Maintaining{Store: store}, turn: make(chan struct{}, 1)}
}

// ListNodes lists the nodes whose leases live, linearizably.
func (l *Listing) ListNodes(ctx context.Context) (maintainer.Nodes, error) {
	l.mu.Lock()
	joined, found := l.next, l.next != nil
	if !found {
		joined = &listing{done: make(chan struct{})}
		l.next = joined
	}
	l.mu.Unlock()
	if !found {
		l.read(ctx, joined)
	}
	select {
	case <-joined.done:
		return joined.nodes, joined.err
	case <-ctx.Done():
		return maintainer.Nodes{}, fmt.Errorf("records: list nodes: %w", context.Cause(ctx))
	}
}

// read waits for its turn, and reads. If its own caller gives up, those who joined ask again.
func (l *Listing) read(ctx context.Context, one *listing) {
	defer close(one.done)
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		one.err = fmt.Errorf("records: list nodes: %w", context.Cause(ctx))
	}
	l.mu.Lock()
	l.next = nil // who asks from here on wants a later one
	l.mu.Unlock()
	if one.err == nil {
		one.nodes, one.err = l.Maintaining.ListNodes(ctx)
	}
}
