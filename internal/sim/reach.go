package sim

import (
	"errors"
	"maps"
	"slices"
	"time"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

const (
	publishEvery = 500 * time.Millisecond
	linkSilence  = 1500 * time.Millisecond // without a ping's answer there is no link
	ackRetry     = 500 * time.Millisecond
)

// seePeers keeps which other nodes there are.
func (l *life) seePeers(known map[changefeed.NodeID]record.Node) {
	before := l.peers
	l.peers = map[changefeed.NodeID]changefeed.Time{}
	for id := range known {
		since, found := before[id]
		if !found {
			since = l.clock.read()
		}
		if id != l.id {
			l.peers[id] = since
		}
	}
}

// linked reports whether pings to a node are answered.
func (l *life) linked(id changefeed.NodeID) bool {
	w, other := l.world, l.world.lifeOf(id)
	if other == nil || other.pausedTo > w.now {
		return false
	}
	return !w.link(l.node.index, other.node.index).cut(w) && !w.link(other.node.index, l.node.index).cut(w)
}

// publish keeps the node's own record: its liveness, and the peers that it can't reach.
func (l *life) publish(t *task) {
	for l.session.Alive() && !l.leaving {
		t.sleep(publishEvery)
		node := l.record.Node
		node.Liveness, node.Unreachable = record.Alive, nil
		if l.draining {
			node.Liveness = record.Draining
		}
		now := l.clock.read()
		for _, id := range slices.Sorted(maps.Keys(l.peers)) {
			if l.linked(id) {
				l.peers[id] = now
			} else if now.Sub(l.peers[id]) > linkSilence {
				node.Unreachable = append(node.Unreachable, id)
			}
		}
		if l.record.Says(node) || l.leaving {
			continue
		}
		t.bound(requestWait)
		next, err := l.store.UpdateNode(never{}, l.record, node)
		if errors.Is(err, epochstore.ErrSessionOver) {
			return
		}
		if !l.leaving {
			l.record = next
		}
	}
}

func (l *life) takeDrains(update epochstore.Update) {
	for _, change := range update.Changes {
		if change.Ref.Name == l.node.name {
			l.draining = !change.Deleted
		}
	}
}

// takeEvictions tells the dispatchers what of theirs is void, and the maintainers who has acknowledged.
func (l *life) takeEvictions(update epochstore.Update) {
	for _, change := range update.Changes {
		uid, node := change.Ref.UID, change.Ref.Node
		eviction, ok := change.Record.(*record.Eviction)
		if !ok || change.Deleted {
			delete(l.maintainers.evicted[uid], node)
			if node == l.id {
				delete(l.hosts.evicted, uid)
			}
			continue
		}
		l.maintainers.eviction(uid, node, *eviction)
		if node == l.id {
			l.hosts.eviction(uid, *eviction)
		}
	}
}

func (m *maintainers) eviction(uid changefeed.UID, node changefeed.NodeID, eviction record.Eviction) {
	if m.evicted[uid] == nil {
		m.evicted[uid] = map[changefeed.NodeID]record.Eviction{}
	}
	m.evicted[uid][node] = eviction
	for _, id := range slices.SortedFunc(maps.Keys(m.runners), changefeed.ID.Compare) {
		if r := m.runners[id]; r != nil && r.own.Record.UID == uid {
			r.step(maintainer.EvictionSeen{Node: node, Eviction: eviction})
		}
	}
}

func (h *hosts) eviction(uid changefeed.UID, eviction record.Eviction) {
	input := dispatcher.Evicted{
		UID: uid, Token: fence.Mint(eviction.Epoch, eviction.Seq), Acknowledged: eviction.AcknowledgedAt != nil,
	}
	h.evicted[uid] = input
	for _, id := range slices.SortedFunc(maps.Keys(h.records), changefeed.ID.Compare) {
		if h.records[id].UID == uid {
			h.evict(id, input)
		}
	}
}

func (h *hosts) evict(id changefeed.ID, input dispatcher.Evicted) {
	f := h.feeds[id]
	if f == nil {
		f = h.feed(id) // is told when it is made
	} else {
		f.input(input)
	}
	f.settle()
}

// acknowledge tells the records that an eviction is done, until they take it.
func (f *hosted) acknowledge(done dispatcher.AcknowledgeEviction) {
	f.acking++
	f.life.world.spawn(f.life, func(t *task) {
		for {
			t.bound(requestWait)
			err := f.life.store.Acknowledge(never{}, done.UID, f.life.id, done.Token, dispatcher.Finals(done.Finals))
			if err == nil || errors.Is(err, fence.ErrStale) {
				break
			}
			t.sleep(ackRetry)
		}
		f.acking--
		f.settle()
	})
}
