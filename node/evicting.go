package node

import (
	"context"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/record"
)

// readEvictions tells this node's dispatchers what of theirs is void, and the maintainers who has acknowledged.
func (l *life) readEvictions(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.evictions.Updates():
			for _, change := range update.Changes {
				l.takeEviction(change)
			}
		}
	}
}

func (l *life) takeEviction(change epochstore.Change) {
	uid, node := change.Ref.UID, change.Ref.Node
	if change.Deleted {
		l.maintainers.EvictionDeleted(uid, node)
		if node == l.id {
			l.dispatchers.EvictionDeleted(uid)
		}
		return
	}
	eviction, ok := change.Record.(*record.Eviction)
	if !ok {
		l.reportInvalid(change)
		return
	}
	l.maintainers.Evicted(uid, node, *eviction)
	if node == l.id {
		l.dispatchers.Evicted(uid, *eviction)
	}
}

// evicting writes to the records that an eviction of this node is done.
type evicting struct {
	store *epochstore.Store
	node  changefeed.NodeID
}

func (e evicting) Acknowledge(ctx context.Context, done dispatcher.Acknowledgement) error {
	return e.store.Acknowledge(ctx, done.UID, e.node, done.Token, dispatcher.Finals(done.Finals))
}
