package maintainer

import (
	"bytes"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// Bounds of what is under way between spans.
const (
	// motionsMax bounds the splits and merges of one changefeed that are under way.
	motionsMax = 4
	// stopAtWait is how long dispatchers may take to reach the position of a split or a merge. Then they stop where
	// they are, so that a span that is far behind is split all the same.
	stopAtWait = 2_000 * millisecond
	// joinWait is how long one half of a merge waits, stopped, for the other.
	joinWait = 2 * stopAtWait
	// joinLagMax is how far one of two spans may be behind the other to be joined: what is further waits until it has caught
	// up, since the joined span goes on from the lower one.
	joinLagMax = 5_000 * millisecond
	// levelTriesMax bounds how often the lower half of a merge is brought to where the other one stopped.
	levelTriesMax = 5
)

// motion is a change of borders that is under way: one span that becomes several, or two that become one. Those that
// run are stopped at one position, and what follows is placed when the last of them has stopped. Nothing of it is
// stored: the next owner, should this one end in between, finds what runs and what does not, and goes on from there.
type motion struct {
	cells []*cell  // in order; none is placed while they move
	keys  [][]byte // where the one is cut; nil when two are joined
	at    change.Mark
	since changefeed.Time
	late  bool  // it took too long: they stop where they are
	tries uint8 // to bring both to one mark
}

// motionOf returns the motion that a cell is part of, or nil.
func (c *Core) motionOf(cell *cell) *motion {
	for _, m := range c.motions {
		if slices.Contains(m.cells, cell) {
			return m
		}
	}
	return nil
}

// mayMove reports whether spans may be set in motion at all.
func (c *Core) mayMove() bool {
	return c.phase == phaseActive && c.wish == wishNone && !c.leaving() && c.report.armed && c.doubt.effect == nil && !c.barrierFirst()
}

// rearrange brings the spans that run to the borders that the spec asks for, a few at a time.
func (c *Core) rearrange() {
	if !c.mayMove() || c.now.At < c.nextBorders {
		return
	}
	c.nextBorders = c.now.At.Add(balanceEvery)
	if len(c.motions) > 0 {
		c.nextBorders = c.now.At.Add(balanceEvery / 10) // there may be more, and soon room for it
	}
	for _, key := range c.splitKeys {
		if len(c.motions) >= motionsMax {
			return
		}
		if cell := c.cover.at(key); cell != nil && !bytes.Equal(cell.span.Start, key) {
			if c.split(cell, c.splitKeys) {
				c.emit(Moved{Why: MovedForSplit})
			}
		}
	}
	for _, key := range c.mergeKeys {
		if len(c.motions) >= motionsMax {
			return
		}
		if left, right := c.cover.meeting(key); left != nil && c.join(left, right) {
			c.emit(Moved{Why: MovedForMerge})
		}
	}
}

// movable reports whether a span runs where it can be told to stop, and not too much is moving there.
func (c *Core) movable(cell *cell) bool {
	h := cell.host
	if cell.state != cellRunning || h.gone || c.silent(h) || c.moving(h) >= movesPerHostMax-1 {
		return false
	}
	// Without pieces in the sink a snapshot would begin anew.
	return c.fencing == FencedByClaims || cell.mark != change.Mark{} || h.mark != 0
}

// split has a span cut at those of the keys that lie inside it: it stops, and then its parts are placed.
func (c *Core) split(whole *cell, keys [][]byte) bool {
	if !c.movable(whole) || len(whole.span.SplitAt(keys...)) == 1 {
		return false
	}
	c.begin(&motion{cells: []*cell{whole}, keys: keys})
	return true
}

// join has two neighbours become one span: both stop at one position, and then one dispatcher is placed.
func (c *Core) join(left, right *cell) bool {
	if !c.movable(left) || !c.movable(right) || c.apart(left, right) {
		return false
	}
	c.begin(&motion{cells: []*cell{left, right}})
	return true
}

// apart reports whether one of two spans is far behind the other, from where the joined one would go on. How far they are
// behind the head does not matter: under a load that the sink can't follow that lasts for as long as the load does. Below
// the first head that this owner knew of, time says nothing about how far they are apart.
func (c *Core) apart(left, right *cell) bool {
	r, lower, higher := &c.report, markOf(left).Whole(), markOf(right).Whole()
	if higher < lower {
		lower, higher = higher, lower
	}
	switch {
	case lower == higher:
		return false
	case r.firstHead == 0 || lower < r.firstHead:
		return true
	default:
		return r.heads.lag(lower, c.now.At)-r.heads.lag(higher, c.now.At) >= joinLagMax
	}
}

// begin stops what moves at the highest position that its hosts know of: nothing at or below it is missing then, and
// what one of them has done above it the sink's pieces know, or the marks that they end with.
func (c *Core) begin(m *motion) {
	m.since = c.now.At
	for _, cell := range m.cells {
		m.at = change.Later(m.at, change.Later(markOf(cell), change.At(max(cell.resolved, cell.host.resolved))))
	}
	c.motions = append(c.motions, m)
	for _, cell := range m.cells {
		c.becomeStopping(cell)
		c.resend(cell, c.stopOf(cell))
	}
}

// stopOf returns how a cell is told to stop: at the position of its motion, as long as that may take, else at once.
func (c *Core) stopOf(cell *cell) message.Stop {
	m := c.motionOf(cell)
	if m == nil || m.late {
		return message.Stop{Token: cell.token}
	}
	return message.Stop{Token: cell.token, At: m.at}
}

// hurry has those that still run stop where they are.
func (c *Core) hurry(m *motion) {
	m.late = true
	for _, cell := range m.cells {
		if cell.state == cellStopping {
			cell.tries, cell.next = 0, c.now.At
			c.resend(cell, c.stopOf(cell))
		}
	}
}

// endMotions has whatever moves stop, and lets nothing follow.
func (c *Core) endMotions() {
	for _, m := range c.motions {
		c.hurry(m)
	}
	c.motions = nil
}

// advanceMotions goes on with what has stopped. A motion of which a part was lost is over: what has stopped is placed as
// it was, and what was lost follows when it may.
func (c *Core) advanceMotions() {
	kept := c.motions[:0]
	for _, m := range c.motions {
		if !c.advanceMotion(m) {
			kept = append(kept, m)
		}
	}
	clear(c.motions[len(kept):])
	c.motions = kept
}

// advanceMotion reports whether the motion is over.
func (c *Core) advanceMotion(m *motion) bool {
	waits, stopped := false, false
	for _, cell := range m.cells {
		switch cell.state {
		case cellAbsent:
			stopped = true
		case cellStopping:
			waits = true
		case cellStarting, cellRunning, cellLost:
			return true
		}
	}
	switch {
	case waits:
		if !m.late && c.now.At.Sub(m.since) >= stopAtWait {
			c.hurry(m)
		}
		return stopped && c.now.At.Sub(m.since) >= joinWait
	case len(m.cells) == 1:
		c.cover.cut(m.cells[0], m.keys)
		return true
	default:
		return c.joinStopped(m)
	}
}

// joinStopped joins two spans that have stopped. Where the sink keeps no pieces both must have stopped at one mark, or the
// one that came further would be repeated: the lower one is brought there first.
func (c *Core) joinStopped(m *motion) bool {
	left, right := m.cells[0], m.cells[1]
	if c.fencing == FencedByClaims || left.mark == right.mark {
		c.cover.join(left, right)
		return true
	}
	if m.tries = raise(m.tries); m.tries > levelTriesMax || !c.mayPlace() {
		return true
	}
	lower, higher := left, right
	if right.mark.Before(left.mark) {
		lower, higher = right, left
	}
	hosts := c.candidates()
	if len(hosts) == 0 {
		return true
	}
	m.at, m.since, m.late = higher.mark, c.now.At, false
	c.seq++
	c.becomeStarting(lower, c.leastLoaded(hosts), fence.Mint(c.epoch(), c.seq))
	c.resendPlace(lower)
	c.becomeStopping(lower)
	c.resend(lower, c.stopOf(lower))
	return false
}
