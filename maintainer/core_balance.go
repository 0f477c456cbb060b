package maintainer

import (
	"fencerow/changefeed"
	"fencerow/record"
)

// movesPerHostMax bounds the spans of one changefeed that are in motion away from one node, so that a drain never stops
// much at a time.
const movesPerHostMax = 4

// balanceEvery is how often a changefeed that is spread unevenly is looked at: a move takes about that long.
const balanceEvery = 1_000 * millisecond

// moveAgainAfter is for how long a span that was placed is not moved again to make things even, unless nodes came or went
// since. It is told from how long its dispatcher has been running, so that a new owner knows it too.
const moveAgainAfter = 600_000 * millisecond

// balance moves running spans: all of a node that is being emptied, and one at a time of a node that has more than its
// share, as after others joined. A move is a stop, and then a placement like any other: the next owner, should this one
// end in between, finds a gap and fills it. A span moves only to where there are fewer, so that none goes back and forth.
func (c *Core) balance() {
	if c.wish != wishNone || c.leaving() || !c.report.armed || c.doubt.effect != nil || c.now.At < c.nextBalance || c.barrierFirst() {
		return
	}
	c.noteNodes()
	var rest, emptied []*host
	for _, h := range c.hosts {
		switch {
		case h.gone || !h.answered || h.eviction.pending():
		case h.liveness == record.Alive && !c.silent(h) && !c.cutOff(h):
			rest = append(rest, h)
		case h.liveness != record.Alive && h.placed > 0:
			emptied = append(emptied, h)
		}
	}
	if len(rest) == 0 {
		return // there is nowhere to go
	}
	for _, h := range emptied {
		c.move(h, movesPerHostMax-c.moving(h), MovedForDrain)
	}
	if len(emptied) == 0 && len(c.cover.unsettled) == 0 {
		c.even(rest)
	}
	c.nextBalance = c.now.At.Add(balanceEvery / changefeed.Duration(1+len(emptied)*9))
}

// even moves one span from the node with the most to where there are fewest, if that makes it more even.
func (c *Core) even(hosts []*host) {
	most, least := hosts[0], hosts[0]
	for _, h := range hosts {
		if h.placed > most.placed {
			most = h
		}
		if h.placed < least.placed {
			least = h
		}
	}
	if most.placed-least.placed > 1 {
		c.move(most, 1, MovedForBalance)
	}
}

// abandonSilent gives up what runs on nodes that can't be reached although their leases live, where somebody else can run
// it and the sink has claims: the claim of the next placement shuts the old dispatcher out. Without claims a node that
// may still write is waited for.
func (c *Core) abandonSilent() {
	if c.fencing != FencedByClaims { // fence:F19 without claims it is waited for
		return
	}
	if c.phase != phaseActive || c.doubt.effect != nil {
		return
	}
	for _, h := range c.hosts {
		if h.gone || !h.answered || h.placed == 0 || !c.unreachable(h) || !c.heardElsewhere(h) {
			continue
		}
		c.cover.each(func(cell *cell) bool {
			if cell.host == h {
				c.becomeAbsent(cell)
			}
			return true
		})
	}
}

// silenceMax is after how long a node that does not report is given up under claims: a session's time, so that a node
// that died is seen to be gone instead.
func (c *Core) silenceMax() changefeed.Duration { return max(c.cfg.SessionTTL, 2*c.stallLimit()) }

// heardElsewhere reports whether another node is heard of, so that it is not this one that is cut off from itself.
func (c *Core) heardElsewhere(silent *host) bool {
	for _, h := range c.hosts {
		if h != silent && h.usable() && !c.silent(h) {
			return true
		}
	}
	return false
}

// moving counts the spans that a host has been told to stop.
func (c *Core) moving(h *host) int {
	count := 0
	for _, cell := range c.cover.unsettled {
		if cell.host == h && cell.state == cellStopping {
			count++
		}
	}
	return count
}

// noteNodes notes when nodes came or went, or can be reached again or no more. What happened before this owner began its
// node has told it.
func (c *Core) noteNodes() {
	for _, h := range c.hosts {
		away := h.gone || !h.answered || h.eviction.pending() || h.liveness != record.Alive || c.silent(h) || c.cutOff(h)
		if away != h.away && c.nodesNoted {
			c.changedAt = c.now.At
		}
		h.away = away
	}
	c.nodesNoted = true
}

// mayMoveAgain reports whether a span may be moved for balance: it has not been placed lately, or nodes came or went since.
func (c *Core) mayMoveAgain(cell *cell) bool {
	return c.now.At >= cell.next || (c.changedAt != 0 && cell.next.Add(-moveAgainAfter) < c.changedAt)
}

// move stops some of the spans that run on a host; they are placed elsewhere when they have.
func (c *Core) move(h *host, most int, why Motion) {
	var chosen []*cell
	c.cover.each(func(cell *cell) bool {
		mine := cell.host == h && cell.state == cellRunning && (why != MovedForBalance || c.mayMoveAgain(cell))
		if len(chosen) < most && mine {
			chosen = append(chosen, cell)
		}
		return len(chosen) < most
	})
	for _, cell := range chosen {
		c.becomeStopping(cell)
		c.emit(Moved{Why: why})
	}
}
