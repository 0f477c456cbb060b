package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/node/records"
	"fencerow/record"
	"fencerow/source/serial"
)

// readEpochs tells both hosts who owns what, in the order of the watch. joined is the revision of the node's record: a
// host admits nothing before it has listed at or after it.
func (l *life) readEpochs(ctx context.Context, joined int64) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.epochs.Updates():
			if update.Snapshot {
				if update.Revision < joined {
					return fmt.Errorf("node: the records were listed at revision %d, before this node joined at %d", update.Revision, joined)
				}
				if err := l.listEpochs(ctx, update.Changes); err != nil {
					return ignoreEnd(ctx, err)
				}
				l.joined.Store(true)
				continue
			}
			for _, change := range update.Changes {
				if err := l.observeEpoch(ctx, change); err != nil {
					return ignoreEnd(ctx, err)
				}
			}
		}
	}
}

func (l *life) listEpochs(ctx context.Context, changes []epochstore.Change) error {
	known := make(map[changefeed.ID]record.Epoch, len(changes))
	owned := make([]maintainer.Ownership, 0, len(changes))
	for _, change := range changes {
		if own, ok := records.Ownership(change); ok {
			known[own.ID] = own.Record
			owned = append(owned, own)
		} else {
			l.reportInvalid(change)
		}
	}
	owners := make(map[changefeed.ID]serial.Owner, len(known))
	for id, watched := range known {
		owners[id] = ownerOfLog(watched)
	}
	l.logs.Listed(owners)
	l.dispatchers.Listed(known)
	return l.maintainers.Listed(ctx, owned)
}

func (l *life) observeEpoch(ctx context.Context, change epochstore.Change) error {
	if change.Deleted {
		l.dispatchers.Deleted(change.Ref.ID)
		l.logs.Deleted(change.Ref.ID)
		l.statuses.Forget(change.Ref.ID)
		return l.maintainers.Deleted(ctx, change.Ref.ID)
	}
	own, ok := records.Ownership(change)
	if !ok {
		l.reportInvalid(change)
		return nil
	}
	if own.Record.Owner != l.id {
		l.statuses.Forget(own.ID)
	}
	l.logs.Observed(own.ID, ownerOfLog(own.Record))
	l.dispatchers.Observed(own.ID, own.Record)
	return l.maintainers.Observed(ctx, own)
}

// reportInvalid says that a record is left alone. The coordinator and the API show it as a state too.
func (l *life) reportInvalid(change epochstore.Change) {
	if change.Err != nil {
		l.log.Error("record does not parse; what it is about is left as it is", zap.String("key", change.Key), zap.Error(change.Err))
	}
}

// readNodes keeps the peers, and tells the maintainers which nodes there are.
func (l *life) readNodes(ctx context.Context) error {
	known := make(map[changefeed.NodeID]record.Node)
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.nodes.Updates():
			if len(update.Changes) == 0 && !update.Snapshot {
				continue
			}
			for _, change := range update.Changes {
				node, ok := change.Record.(*record.Node)
				if change.Deleted || !ok {
					delete(known, change.Ref.Node)
					continue
				}
				known[node.ID] = *node
			}
			l.tellNodes(known, update.Revision)
		}
	}
}

func (l *life) tellNodes(known map[changefeed.NodeID]record.Node, revision int64) {
	addresses := make(map[changefeed.NodeID]string, len(known))
	list := maintainer.Nodes{Revision: revision}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		addresses[id] = known[id].Peer
		list.Nodes = append(list.Nodes, known[id])
	}
	l.known.Store(&list)
	l.peers.SetPeers(addresses)
	l.maintainers.NodesChanged(list)
}

// readHandoffs tells the maintainers who is asked to release.
func (l *life) readHandoffs(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.handoffs.Updates():
			for _, change := range update.Changes {
				if handoff, ok := change.Record.(*record.Handoff); ok && !change.Deleted {
					l.maintainers.Handoff(change.Ref.ID, *handoff)
				} else if change.Deleted {
					l.maintainers.HandoffDeleted(change.Ref.ID)
				}
			}
		}
	}
}

// readDrains learns whether this node is to be emptied. A drain that does not parse is one all the same.
func (l *life) readDrains(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.drains.Updates():
			for _, change := range update.Changes {
				if change.Ref.Name == l.process.config.Name {
					l.draining.Store(!change.Deleted)
				}
			}
		}
	}
}

// publishEvery is how often what the node says of itself is looked at.
const publishEvery = 500 * time.Millisecond

// publish keeps the node's own record: its liveness, and the peers that it can't reach.
func (l *life) publish(ctx context.Context, registration epochstore.Registration) error {
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.leavingSoon:
		case <-ticker.C:
		}
		node := registration.Node
		node.Liveness, node.Unreachable = record.Alive, l.peers.Unreachable()
		if l.draining.Load() {
			node.Liveness = record.Draining
		}
		if l.leaving.Load() {
			node.Liveness = record.Stopping
		}
		slices.Sort(node.Unreachable)
		if registration.Says(node) {
			continue
		}
		var err error
		registration, err = l.store.UpdateNode(ctx, registration, node)
		switch {
		case err == nil:
		case errors.Is(err, epochstore.ErrSessionOver):
			return errLifeOver
		case ctx.Err() == nil:
			l.log.Warn("the node's record was not updated; trying again", zap.Error(err))
		}
	}
}

// handOver says that the node leaves, and waits until what it owns has gone to others, if there are any.
func (l *life) handOver(ctx context.Context) {
	select {
	case l.leavingSoon <- struct{}{}:
	default:
	}
	ticker := time.NewTicker(handOverLook)
	defer ticker.Stop()
	enough := time.NewTimer(min(handOverMax, l.process.config.StopTimeout/2))
	defer enough.Stop()
	for l.maintainers.Count()+l.dispatchers.Dispatchers() > 0 && l.successors() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-enough.C:
			l.log.Warn("not everything was handed over in time; the rest is taken over when this node is gone",
				zap.Int("maintainers", l.maintainers.Count()), zap.Int("dispatchers", l.dispatchers.Dispatchers()))
			return
		case <-ticker.C:
		}
	}
}

// handOverMax bounds how long a leaving node waits for others to take what it runs.
const handOverMax = 10 * time.Second

// handOverLook is how often a leaving node looks whether anything is left.
const handOverLook = 20 * time.Millisecond

// nodesKnown counts the nodes of the cluster.
func (l *life) nodesKnown() int {
	if list := l.known.Load(); list != nil {
		return len(list.Nodes)
	}
	return 1
}

// successors counts the other nodes that can take over.
func (l *life) successors() int {
	list := l.known.Load()
	if list == nil {
		return 0
	}
	count := 0
	for _, node := range list.Nodes {
		if node.ID != l.id && node.Liveness == record.Alive {
			count++
		}
	}
	return count
}

// ignoreEnd returns nil for an error that the end of ctx has caused, or that of the maintainers in a clean stop, which
// comes before that of the watches: an ownership may still be observed in between.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, maintainer.ErrStopped) {
		return nil //nolint:nilerr // which is what it is for
	}
	return err
}
