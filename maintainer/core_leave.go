package maintainer

import "fencerow/changefeed"

// NodeLeaves says that this node stops in good order: the last checkpoint is stored, and nothing is placed any more.
type NodeLeaves struct{}

func (NodeLeaves) input() {}

// leaveWait bounds how long a leaving maintainer waits for the final marks of its own node's dispatchers, and then for
// the write of its last status.
const leaveWait = 2_000 * millisecond

func (c *Core) onLeave() {
	if c.leavingAt == 0 {
		c.leavingAt = c.now.At
	}
}

func (c *Core) leaving() bool { return c.leavingAt != 0 }

// finishLeaving ends a leaving maintainer once its last checkpoint is stored, or when it took too long. Crash before: the next
// owner starts from the status that was stored last, and the sink knows how far it is.
func (c *Core) finishLeaving() {
	if !c.leaving() || c.phase == phaseEnded {
		return
	}
	waited := c.now.At.Sub(c.leavingAt)
	switch {
	case c.phase < phaseActive, waited >= 2*leaveWait:
		c.end(OutcomeStopped)
	case c.phase > phaseActive: // a pause or a removal ends by itself
	case c.runsHere() && waited < leaveWait:
	case c.storedAll():
		c.end(OutcomeStopped)
	}
}

// runsHere reports whether a dispatcher of this node may still move the checkpoint.
func (c *Core) runsHere() bool {
	here := false
	c.cover.each(func(cell *cell) bool {
		here = cell.host != nil && cell.host.id == c.cfg.Node && cell.state != cellAbsent
		return !here
	})
	return here
}

func (c *Core) storedAll() bool {
	r := &c.report
	if r.writing || r.stale || r.reading.effect != nil {
		return false
	}
	draft := c.draft()
	return draft.Checkpoint == r.stored.Status.Checkpoint && sameStatus(&draft, &r.stored.Status)
}

// statusPause returns how long a status of the given urgency may wait.
func (c *Core) statusPause(due changefeed.Duration) changefeed.Duration {
	if c.leaving() && !c.storedAll() {
		return 0
	}
	return due
}
