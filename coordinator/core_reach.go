package coordinator

import (
	"cmp"
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/record"
)

// This file is about nodes that live in etcd and can't reach one another. Each says in its record which peers it can't
// reach; a link counts if both ends say so.

// Delays of what follows from links.
const (
	reachSettleMin    = 1e9 // 1 s: by then the two ends of a broken link, and the others, have all said so
	reachSettleFactor = 4   // of a session's TTL, whichever is longer
	reachMoveFactor   = 10  // TTLs between two moves of one owner for want of links
	expelFactor       = 2   // TTLs that a node has to acknowledge an eviction
	expelsInFlightMax = 4
)

// reach is how many live nodes each node has a link to, and since when another has strictly more.
type reach struct {
	links  map[changefeed.NodeID]int
	behind map[changefeed.NodeID]changefeed.Time
}

// link is a pair of nodes, the smaller id first.
type link struct{ a, b changefeed.NodeID }

// seeLinks counts the links anew, after the records of nodes changed.
func (c *Core) seeLinks() {
	cut := make(map[link]struct{})
	for id, node := range c.nodes {
		for _, other := range node.Unreachable {
			if _, lives := c.nodes[other]; lives && other != id {
				cut[link{min(id, other), max(id, other)}] = struct{}{}
			}
		}
	}
	links := make(map[changefeed.NodeID]int, len(c.nodes))
	for id := range c.nodes {
		links[id] = len(c.nodes) - 1
	}
	for pair := range cut {
		links[pair.a]--
		links[pair.b]--
	}
	most := 0
	for id, count := range links { // a maximum does not depend on the order
		if c.eligible(id) {
			most = max(most, count)
		}
	}
	behind := make(map[changefeed.NodeID]changefeed.Time)
	for id, count := range links {
		if count >= most {
			continue
		}
		behind[id] = c.now
		if since, was := c.reach.behind[id]; was {
			behind[id] = since
		}
	}
	c.reach = reach{links: links, behind: behind}
}

// reachSettle is for how long an owner must reach fewer than another node could, before it is asked to hand over.
func (c *Core) reachSettle() changefeed.Duration {
	return max(reachSettleMin, c.config.SessionTTL/reachSettleFactor)
}

// ruleUnreachable: the owner lives, and another node reaches strictly more of those that do. It is moved there, but not
// again and again: links that come and go must not take an owner from node to node.
func (c *Core) ruleUnreachable(f *feed) verdict {
	at, behind := c.unreachableAt(f)
	if !behind || c.now < at || f.spec.value.Desired != changefeed.DesiredRunning {
		return verdict{}
	}
	to := c.choose(f, "")
	if to == nil || c.reach.links[to.ID] <= c.reach.links[f.owner()] {
		return verdict{}
	}
	return verdict{act: actHandoff, reason: changefeed.ReasonOwnerUnreachable, prefer: to.ID}
}

// unreachableAt is when an owner that reaches fewer nodes than another could is moved.
func (c *Core) unreachableAt(f *feed) (changefeed.Time, bool) {
	since, behind := c.reach.behind[f.owner()]
	at := since.Add(c.reachSettle())
	if f.reachedAt != 0 {
		at = max(at, f.reachedAt.Add(reachMoveFactor*c.config.SessionTTL))
	}
	return at, behind
}

// noteReason remembers when an owner was moved for want of links, as far as this term has seen.
func (f *feed) noteReason(now changefeed.Time) {
	if epoch := f.epoch.value; epoch != nil && epoch.Reason == changefeed.ReasonOwnerUnreachable {
		f.reachedAt = now
	}
}

// evictedFrom names an eviction.
type evictedFrom struct {
	uid  changefeed.UID
	node changefeed.NodeID
}

func (e evictedFrom) compare(other evictedFrom) int {
	return cmp.Or(cmp.Compare(e.node, other.node), cmp.Compare(e.uid, other.uid))
}

// evicted is an eviction that was not acknowledged yet.
type evicted struct {
	errand
	revision int64
	seenAt   changefeed.Time
}

// Expulsion is a node whose lease is to be revoked, since it did not acknowledge an eviction in time.
type Expulsion struct {
	Node changefeed.NodeID
	UID  changefeed.UID
	// Revision is that of the eviction, to be compared.
	Revision int64
}

// What is told and done about evictions.
type (
	// EvictionSeen is the record evictions/<uid>/<node-id>.
	EvictionSeen struct {
		UID  changefeed.UID
		Node changefeed.NodeID
		Observed[record.Eviction]
	}
	// ExpelAnswered is the answer to an Expel.
	ExpelAnswered struct {
		Expulsion Expulsion
		Err       error
	}
	// Expel revokes the lease of a node. It is answered by ExpelAnswered.
	Expel struct{ Expulsion Expulsion }
)

func (EvictionSeen) input()  {}
func (ExpelAnswered) input() {}
func (Expel) effect()        {}

func (c *Core) takeEviction(in EvictionSeen) {
	key := evictedFrom{in.UID, in.Node}
	known := c.evictions[key]
	if known != nil && in.Revision <= known.revision {
		return
	}
	if in.Value == nil || in.Value.AcknowledgedAt != nil {
		delete(c.evictions, key)
		return
	}
	c.evictions[key] = &evicted{revision: in.Revision, seenAt: c.now}
}

// expel has the leases of those revoked that had time enough to acknowledge an eviction, while our own writes succeeded:
// else it may be etcd that they can't tell it.
func (c *Core) expel() {
	if len(c.evictions) == 0 {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.evictions), evictedFrom.compare) {
		e := c.evictions[key]
		due := max(e.seenAt, c.writes.healthyFrom).Add(expelFactor * c.config.SessionTTL)
		if _, lives := c.nodes[key.node]; !lives || c.now < due || !e.ready(c.now) || c.expels >= expelsInFlightMax {
			continue
		}
		if !c.provedWrites() {
			c.sendProbe()
			return
		}
		e.inFlight = true
		c.expels++
		c.emit(Expel{Expulsion: Expulsion{Node: key.node, UID: key.uid, Revision: e.revision}})
	}
}

func (c *Core) expelAnswered(in ExpelAnswered) {
	c.expels--
	c.wrote(in.Err)
	e := c.evictions[evictedFrom{in.Expulsion.UID, in.Expulsion.Node}]
	if e == nil || e.revision != in.Expulsion.Revision {
		return
	}
	e.answered(c.now, in.Err)
	if in.Err == nil {
		e.retryAt = c.now.Add(c.config.SessionTTL) // its record goes with the lease
	}
}
