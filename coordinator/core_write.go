package coordinator

import (
	"cmp"
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/record"
)

// assign bumps with an owner, if a node can be one.
func (c *Core) assign(f *feed, v verdict) {
	if v.blame {
		f.avoid(f.owner())
	}
	node := c.choose(f, v.prefer)
	if node == nil {
		return // a node event makes it due again
	}
	c.bump(f, v, node)
}

// bump sends a new decision. A nil node is nobody.
func (c *Core) bump(f *feed, v verdict, node *record.Node) {
	decision := Decision{
		ID: f.id, UID: f.spec.value.UID,
		Previous: f.epoch.value, PreviousRevision: f.epoch.mod,
		Spec: f.spec.value, SpecRevision: f.spec.mod, SeenRevision: max(f.spec.revision, f.epoch.revision),
		MetaRevision: c.meta.mod, Floor: c.meta.value.EpochFloor,
		Status: f.status.value, StatusRevision: f.status.mod, Planned: v.planned, Unanswered: v.unanswered,
		Reason: v.reason, Nonce: c.config.Nonce(),
	}
	if node != nil {
		decision.Owner, decision.OwnerName = node.ID, node.Name
	}
	c.load(decision.Owner, 1)
	f.doubt = &decision
	c.send(f)
}

func (c *Core) send(f *feed) {
	f.busy = true
	c.bumping++
	c.emit(Bump{Decision: *f.doubt})
}

// resend sends a decision again whose outcome isn't known, if it would still be made. Else it is dropped: whatever is
// decided instead compares the same epoch record, so at most one of them is done.
func (c *Core) resend(f *feed, v verdict) bool {
	if f.doubt == nil {
		return false
	}
	d := f.doubt
	same := d.PreviousRevision == f.epoch.mod && d.SpecRevision == f.spec.mod && d.MetaRevision == c.meta.mod
	wanted := v.act == actDisown && d.Owner == "" || v.act == actBump && c.eligible(d.Owner)
	if same && wanted {
		c.send(f)
		return true
	}
	c.load(d.Owner, -1)
	f.doubt = nil
	return false
}

func (c *Core) requestHandoff(f *feed, v verdict) {
	epoch := f.epoch.value
	handoff := Handoff{ID: f.id, UID: epoch.UID, Epoch: epoch.Epoch, Reason: v.reason, Record: epoch, EpochRevision: f.epoch.mod}
	if v.reason != changefeed.ReasonPaused && v.reason != changefeed.ReasonRemoved {
		if v.reason == changefeed.ReasonMoved {
			f.pardon(v.prefer) // whoever asks for it knows better
		}
		if node := c.choose(f, v.prefer); node != nil {
			handoff.To, handoff.ToName = node.ID, node.Name
		}
	}
	f.busy = true
	c.chores++
	c.emit(RequestHandoff{Handoff: handoff})
}

func (c *Core) remove(f *feed) {
	f.busy = true
	c.chores++
	c.emit(Remove{Removal: Removal{
		ID: f.id, UID: f.spec.value.UID, Spec: f.spec.value, SpecRevision: f.spec.mod,
		EpochRecord: f.epoch.value, EpochRevision: f.epoch.mod,
	}})
}

// trim trims histories when nothing that matters more is under way.
func (c *Core) trim() {
	if len(c.untrim) == 0 || c.trims > 0 || c.bumping > 0 || c.writes.failing {
		return
	}
	ids := slices.SortedFunc(maps.Keys(c.untrim), changefeed.ID.Compare)
	for _, id := range ids[:min(len(ids), trimsInFlightMax)] {
		delete(c.untrim, id)
		c.trims++
		c.emit(TrimHistory{ID: id})
	}
}

// heal finds out whether writes succeed again when nothing else is being written that would tell.
func (c *Core) heal() {
	if c.writes.failing && c.bumping == 0 && c.chores == 0 {
		c.sendProbe()
	}
}

// raiseLevel raises the feature level once every node has it.
func (c *Core) raiseLevel() {
	if len(c.nodes) == 0 || !c.raise.ready(c.now) {
		return
	}
	level := record.LevelCurrent
	for _, node := range c.nodes {
		level = min(level, node.Level)
	}
	if level > c.meta.value.Level {
		c.raise.inFlight = true
		c.emit(RaiseLevel{MetaRevision: c.meta.mod, Level: level})
	}
}

// choose returns the node that is to own the changefeed: the preferred one if it can; else one that hasn't failed it,
// with the fewest maintainers, by name. If each has failed it, the one whose failure is the longest ago. Nil if no node
// can.
func (c *Core) choose(f *feed, prefer changefeed.NodeID) *record.Node {
	if c.eligible(prefer) && f.fault(prefer) == 0 {
		return c.nodes[prefer]
	}
	var best *record.Node
	for _, node := range c.nodes {
		if c.eligible(node.ID) && (best == nil || c.compare(f, node, best) < 0) {
			best = node
		}
	}
	return best
}

func (c *Core) compare(f *feed, a, b *record.Node) int {
	return cmp.Or(
		cmp.Compare(f.fault(a.ID), f.fault(b.ID)),
		cmp.Compare(c.reach.links[b.ID], c.reach.links[a.ID]),
		cmp.Compare(c.loads[a.ID], c.loads[b.ID]),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.ID, b.ID),
	)
}

// eligible reports whether a node may become an owner.
func (c *Core) eligible(id changefeed.NodeID) bool {
	node, lives := c.nodes[id]
	return lives && node.Liveness == record.Alive && !c.drained(node)
}

// leaving reports whether a node that lives is to be emptied.
func (c *Core) leaving(id changefeed.NodeID) bool {
	node, lives := c.nodes[id]
	return lives && (node.Liveness != record.Alive || c.drained(node))
}

func (c *Core) drained(node *record.Node) bool {
	_, found := c.drains[node.Name]
	return found
}

// avoid remembers that a node failed the changefeed, as the last of those that did.
func (f *feed) avoid(node changefeed.NodeID) {
	f.pardon(node)
	f.avoided = append(f.avoided, node)
	if len(f.avoided) > avoidedMax {
		f.avoided = f.avoided[1:]
	}
}

// fault returns 0 for a node that didn't fail the changefeed, and more the later it did.
func (f *feed) fault(node changefeed.NodeID) int { return slices.Index(f.avoided, node) + 1 }

// pardon forgets that a node failed the changefeed.
func (f *feed) pardon(node changefeed.NodeID) {
	f.avoided = slices.DeleteFunc(f.avoided, func(n changefeed.NodeID) bool { return n == node })
}
