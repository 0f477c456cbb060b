package maintainer

import (
	"errors"
	"maps"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// This file is about nodes whose leases live and that can't be reached. Under claims nobody waits for them: the next
// claim shuts them out. Else they are evicted through etcd: a record voids what they run, they see it by their watch,
// stop, and acknowledge it with how far they came; then their spans are placed elsewhere.

// evictionsInFlightMax bounds the writes about evictions that are under way, below resultsMax.
const evictionsInFlightMax = 4

// eviction is how far the eviction of a host is.
type eviction struct {
	state evictionState
	token fence.Token // every token up to it is void there
	since changefeed.Time
	write retried
}

// evictionState is what is waited for.
type evictionState uint8

const (
	evictionNone    evictionState = iota
	evictionPutting               // its record is being written
	evictionAwaited               // the node has not acknowledged yet
	evictionOver                  // acknowledged: its record is being deleted
)

// pending reports whether the node may still run what is voided.
func (e *eviction) pending() bool { return e.state == evictionPutting || e.state == evictionAwaited }

func (e *eviction) become(state evictionState, write Effect) {
	e.state, e.write = state, retried{effect: write}
}

// Evictions.
type (
	// EvictionSeen is the eviction record of a node, as it was listed or watched, in order.
	EvictionSeen struct {
		Node     changefeed.NodeID
		Eviction record.Eviction
	}
	// EvictionPut answers Evict.
	EvictionPut struct {
		Node changefeed.NodeID
		Err  error
	}
	// EvictionDropped answers DropEviction.
	EvictionDropped struct {
		Node changefeed.NodeID
		Err  error
	}

	// Evict voids every token of the changefeed up to this one on a node, guarded by the ownership. Done again, it changes
	// nothing.
	Evict struct {
		Node  changefeed.NodeID
		Token fence.Token
	}
	// DropEviction deletes the record of an eviction that was acknowledged, or whose node is gone, guarded likewise.
	DropEviction struct{ Node changefeed.NodeID }
)

func (EvictionSeen) input()    {}
func (EvictionPut) input()     {}
func (EvictionDropped) input() {}
func (Evict) effect()          {}
func (DropEviction) effect()   {}

// unreachable reports whether a node that lives in etcd has been silent for longer than it may: until its lease would
// have ended had it died, or, if the records of both nodes say that there is no link, until it counts as silent.
func (c *Core) unreachable(h *host) bool {
	limit := c.silenceMax()
	switch {
	case c.cutOff(h) && !h.answered:
		limit = c.answerWait(h)
	case c.cutOff(h):
		limit = c.stallLimit()
	}
	return !h.gone && c.silentFor(h) >= limit
}

// evict begins the evictions that are due, and goes on with those that are under way.
func (c *Core) evict() {
	flying := 0
	for _, h := range c.hosts {
		if h.eviction.write.asked {
			flying++
		}
	}
	for _, h := range c.hosts {
		if c.mustEvict(h) {
			h.eviction.token, h.eviction.since = fence.Mint(c.epoch(), c.seq), c.now.At
			h.eviction.become(evictionPutting, Evict{Node: h.id, Token: h.eviction.token})
		}
		write := &h.eviction.write
		if write.effect == nil || write.asked || flying >= evictionsInFlightMax || c.doubt.effect != nil {
			continue
		}
		if c.askAgain(write); write.asked {
			flying++
		}
	}
}

// mustEvict reports whether what a node may be running has to be stopped through etcd. A stop for good waits for
// everybody, also under claims.
func (c *Core) mustEvict(h *host) bool {
	if c.fencing == FencedByClaims && c.phase != phaseStopping {
		return false
	}
	if h.eviction.state != evictionNone || c.leaving() || c.doubt.effect != nil || !c.mayRun(h) || !c.unreachable(h) {
		return false
	}
	return c.phase == phaseStopping || c.heardElsewhere(h)
}

// mayRun reports whether a node may be running a part of the changefeed, as far as is known.
func (c *Core) mayRun(h *host) bool {
	if h.placed > 0 || h.orphans > 0 {
		return true
	}
	return !h.answered && !h.cleared && c.report.spansBefore > 0 && c.anyUnknown()
}

// anyUnknown reports whether nodes that did not answer may be running a part of the cover.
func (c *Core) anyUnknown() bool {
	return slices.ContainsFunc(c.cover.unsettled, func(cell *cell) bool { return cell.unknown })
}

// onEvictionPut goes on when the record is written. After any error it is written again: the same record, or none.
func (c *Core) onEvictionPut(in EvictionPut) {
	h := c.host(in.Node)
	if h == nil || h.eviction.state != evictionPutting {
		return
	}
	if in.Err != nil {
		c.retryEviction(&h.eviction, in.Err)
		return
	}
	h.eviction.become(evictionAwaited, nil)
}

func (c *Core) onEvictionDropped(in EvictionDropped) {
	h := c.host(in.Node)
	if h == nil || h.eviction.state != evictionOver {
		return
	}
	if in.Err != nil {
		c.retryEviction(&h.eviction, in.Err)
		return
	}
	h.eviction = eviction{}
	delete(c.evictions, in.Node)
}

func (c *Core) retryEviction(e *eviction, err error) {
	c.later(&e.write)
	if errors.Is(err, fence.ErrStale) {
		c.suspect()
	}
}

// onEviction takes in what the record of an eviction says. How far those came that it stopped is true whoever evicted;
// only an acknowledgement of all that this owner voided frees their spans. A record that is of no use any more is
// deleted.
func (c *Core) onEviction(in EvictionSeen) {
	seen := &in.Eviction
	c.evictions[in.Node] = in.Eviction
	if seen.AcknowledgedAt == nil { // fence:F19 its eviction was not acknowledged
		return
	}
	for i := range seen.Finals {
		c.finals.add(finalOf(&seen.Finals[i]))
	}
	h := c.host(in.Node)
	if h == nil {
		return // taken in again when the node is listed
	}
	obeyed := fence.Mint(seen.Epoch, seen.Seq)
	if h.eviction.pending() && obeyed.OlderThan(h.eviction.token) { // fence:F19 an older eviction was acknowledged
		return
	}
	if h.eviction.pending() {
		c.free(h)
	}
	h.eviction.become(evictionOver, DropEviction{Node: h.id})
}

func finalOf(f *record.Final) (changefeed.Span, change.Mark, fence.Token) {
	span := changefeed.Span{Start: orNil(f.Start), End: orNil(f.End)}
	return span, change.Mark{Position: f.Position, Index: f.Index}, fence.Mint(f.Epoch, f.Seq)
}

// orNil makes an empty bound the nil that it was.
func orNil(bound []byte) []byte {
	if len(bound) == 0 {
		return nil
	}
	return bound
}

// free takes in that nothing runs on a host of what its eviction voided, which is all that this owner knows of.
func (c *Core) free(h *host) {
	h.reply = nil // what it said before
	h.cleared = h.cleared || !h.answered
	for _, item := range c.orphans.all() {
		if item.host == h {
			c.orphans.remove(item)
		}
	}
	if c.cover == nil {
		return
	}
	c.cover.each(func(cell *cell) bool {
		if cell.host == h {
			c.becomeAbsent(cell)
			cell.mark = c.finals.low(cell.span, cell.mark)
		}
		return true
	})
}

// takeEvictions takes in what is stored about a node that was not known before.
func (c *Core) takeEvictions(node changefeed.NodeID) {
	if seen, found := c.evictions[node]; found {
		c.onEviction(EvictionSeen{Node: node, Eviction: seen})
	}
}

// dropEvictionsOfGone deletes what is stored about nodes that are gone for good: nobody else would. If that fails, the
// next owner does it.
func (c *Core) dropEvictionsOfGone() {
	if len(c.evictions) == 0 {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(c.evictions)) {
		if c.host(node) == nil {
			delete(c.evictions, node)
			c.emit(DropEviction{Node: node})
		}
	}
}

// cutOff reports whether there is no link between this node and another: one counts if both ends say so.
func (c *Core) cutOff(h *host) bool { return h.cutSaid }

// seeLinks takes in which links the node records speak of.
func (c *Core) seeLinks(nodes []record.Node) {
	var own []changefeed.NodeID
	for i := range nodes {
		if nodes[i].ID == c.cfg.Node {
			own = nodes[i].Unreachable
		}
	}
	for i := range nodes {
		if h := c.host(nodes[i].ID); h != nil {
			h.cutSaid = h.id != c.cfg.Node && (slices.Contains(own, h.id) || slices.Contains(nodes[i].Unreachable, c.cfg.Node))
		}
	}
}
