package maintainer

import (
	"cmp"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/record"
)

// Bounds of barriers.
const (
	// syncIntervalMin is the shortest time between two sync points: each holds all dispatchers for some round trips.
	syncIntervalMin = 1_000 * millisecond
	// recordWait is how long all dispatchers may stand while the sink does not say that the position is recorded. Then they
	// go on, and the next barrier is another one.
	recordWait = 10_000 * millisecond
	// barrierLate is after how long a barrier that waits is told as a stall, and holds up what moves spans no longer.
	barrierLate = 5_000 * millisecond
)

// syncing is what a maintainer knows of sync points, and of the barrier that makes one: all dispatchers bring everything up to
// a position to the sink, and nothing above; one of them records the position; all go on. Nothing of it is stored: whether a
// position was recorded the sink's key says, and where dispatchers stand they say themselves.
type syncing struct {
	every changefeed.Duration // 0: none are asked for
	last  change.Position     // the newest that the sink holds, as of when it was asked
	known bool                // it was asked
	read  retried             // asking it
	due   changefeed.Time     // when the next barrier begins
	count uint64              // recorded under this epoch
	took  changefeed.Duration // the last of these, since it began

	found   change.Position // where dispatchers of an earlier epoch stand, at the bootstrap
	at      change.Position // where dispatchers are to stand; 0: there is no barrier
	number  uint64          // of the newest decision about it
	began   changefeed.Time
	stood   changefeed.Time // since when all stand; 0: they don't
	written bool            // a write was asked for since the sink was asked
	tries   uint8           // of writes
	next    changefeed.Time // when the sink, or a write, is asked for again
}

// Sync points.
type (
	// ReadSync asks the sink for its newest sync point.
	ReadSync struct{}
	// SyncRead answers ReadSync.
	SyncRead struct {
		Position change.Position
		Err      error
	}
)

func (ReadSync) effect() {}
func (SyncRead) input()  {}

// standing is what a host said last of the barrier.
type standing struct {
	holds   change.Position // where its dispatchers stop
	obeys   uint64          // the decision that exactly the cells that run there obey; 0: none
	highest change.Position // no dispatcher of them has written above it
	next    changefeed.Time // when it is told again
	tries   uint8
}

// advanceBarrier goes on with the barrier that there is, or begins one.
func (c *Core) advanceBarrier() {
	s := &c.sync
	if c.doubt.effect != nil {
		return // somebody else may decide
	}
	c.askAgain(&s.read)
	if s.every > 0 && !s.known && s.read.effect == nil {
		c.readSync(0)
	}
	if s.every == 0 || !s.known && c.now.At.Sub(c.since) >= recordWait {
		s.found = 0 // nobody is held for a sink that this node can't ask
	}
	switch {
	case s.at != 0:
		c.driveBarrier()
	case s.known:
		c.beginBarrier()
	}
	c.tellBarrier()
}

// readSync asks the sink, now or later.
func (c *Core) readSync(pause changefeed.Duration) {
	c.sync.read = retried{effect: ReadSync{}, next: c.now.At.Add(pause)}
	c.askAgain(&c.sync.read)
}

// onSyncRead takes in which sync point is the newest. Whether a barrier's action was done, by this owner or one before, it
// alone says.
func (c *Core) onSyncRead(in SyncRead) {
	s := &c.sync
	if !s.read.asked {
		return
	}
	if in.Err != nil {
		c.later(&s.read)
		return
	}
	s.read = retried{}
	s.known, s.last = true, max(s.last, in.Position)
	if s.at != 0 && s.last >= s.at { // fence:F24 maintainer: the sink's key says that it is done
		s.count, s.took = s.count+1, c.now.At.Sub(s.began)
		c.endBarrier()
	}
}

// beginBarrier holds all dispatchers when a sync point is due, or goes on where they are held since an earlier epoch.
func (c *Core) beginBarrier() {
	s := &c.sync
	found := s.found
	s.found = 0
	if s.every == 0 || c.phase != phaseActive || c.wish != wishNone || c.leaving() {
		return
	}
	if found <= s.last { // fence:F24 maintainer: what is recorded already is not done again
		found = 0
	}
	if found != 0 {
		s.began = c.now.At
		c.hold(found)
		return
	}
	if c.now.At < s.due || len(c.cover.unsettled) > 0 || c.orphans.len() > 0 || len(c.motions) > 0 {
		return
	}
	var highest change.Position
	for _, h := range c.hosts {
		if h.set.Count == 0 {
			continue
		}
		if h.mark == 0 {
			return // a snapshot is being read: its pages have positions of their own
		}
		highest = max(highest, h.mark, h.barrier.highest)
	}
	if highest > s.last {
		s.began = c.now.At
		c.hold(highest)
	}
}

// hold decides that all dispatchers stop at a position. It is above what most of them have written, or will have when they
// hear of it; those stay where they are, and say so, and then the position is raised to the highest: none goes back.
func (c *Core) hold(at change.Position) {
	s := &c.sync
	s.number++
	s.at, s.found, s.stood, s.written, s.tries = at, 0, 0, false, 0
	for _, h := range c.hosts {
		h.barrier.next, h.barrier.tries = 0, 0
	}
}

// endBarrier lets all go on.
func (c *Core) endBarrier() {
	s := &c.sync
	s.at, s.found, s.stood, s.read = 0, 0, 0, retried{}
	s.due = max(s.began.Add(s.every), c.now.At)
	for _, h := range c.hosts {
		h.barrier.next, h.barrier.tries = 0, 0
	}
}

// driveBarrier raises the position to where the furthest stands, and has it recorded when all stand there. A dispatcher that
// was lost meanwhile is placed again, and holds there too.
func (c *Core) driveBarrier() {
	s := &c.sync
	if !c.allObey() {
		s.stood = 0
		return
	}
	highest, stands := s.at, true
	for _, h := range c.hosts {
		if h.set.Count > 0 {
			highest = max(highest, h.barrier.highest)
			stands = stands && h.mark >= s.at
		}
	}
	switch {
	case highest > s.at:
		c.hold(highest)
	case !stands:
		s.stood = 0
	default:
		s.stood = cmp.Or(s.stood, c.now.At)
		c.record()
	}
}

// allObey reports whether everything runs and has heard of the newest decision.
func (c *Core) allObey() bool {
	if len(c.cover.unsettled) > 0 {
		return false
	}
	for _, h := range c.hosts {
		if h.set.Count > 0 && h.barrier.obeys != c.sync.number { // fence:F24 maintainer: what was said of another barrier
			return false
		}
	}
	return true
}

// record has one dispatcher after another record the position, and the sink asked whether it is, boundedly.
func (c *Core) record() {
	s := &c.sync
	if c.now.At.Sub(s.stood) >= recordWait {
		c.endBarrier()
		s.known = false // a write may be on its way
		return
	}
	if c.now.At < s.next && s.written || s.read.effect != nil {
		return
	}
	if s.written {
		s.written = false
		c.readSync(0)
		return
	}
	var able []*host
	for _, h := range c.hosts {
		if h.set.Count > 0 && h.usable() && !c.silent(h) {
			able = append(able, h)
		}
	}
	if len(able) == 0 {
		return
	}
	s.written, s.next = true, c.now.At.Add(c.delay(s.tries))
	c.send(able[int(s.tries)%len(able)], message.Barrier{Number: s.number, Position: s.at, Action: message.BarrierWrite})
	s.tries = raise(s.tries)
}

// onHeld takes in what a host says of the barrier. Of which decision its dispatchers obey it only counts if it speaks of
// exactly what runs there.
func (c *Core) onHeld(h *host, held message.Held) {
	h.barrier.obeys, h.barrier.highest = held.Number, held.Highest
	s := &c.sync
	if s.written && held.Synced == s.at && s.read.effect == nil { // a hint: the sink tells
		s.written = false
		c.readSync(0)
	}
}

// tellBarrier tells hosts that hold otherwise than they should, again and again.
func (c *Core) tellBarrier() {
	s := &c.sync
	for _, h := range c.hosts {
		if h.gone || !h.answered || h.barrier.next > c.now.At {
			continue
		}
		var body message.Barrier
		switch b := &h.barrier; {
		case s.at != 0 && h.placed > 0 && b.obeys != s.number:
			body = c.barrier()
		case s.at == 0 && b.holds != 0 && s.found == 0:
			s.number = max(s.number, 1)
			body = message.Barrier{Number: s.number, Position: b.holds, Action: message.BarrierPass}
		default:
			b.tries = 0
			continue
		}
		h.barrier.next = c.now.At.Add(c.delay(h.barrier.tries))
		h.barrier.tries = raise(h.barrier.tries)
		c.send(h, body)
	}
}

// barrier is the one in force, as a Place brings it; the zero value when there is none.
func (c *Core) barrier() message.Barrier {
	s := &c.sync
	if s.at == 0 {
		return message.Barrier{}
	}
	return message.Barrier{Number: s.number, Position: s.at, Action: message.BarrierStop}
}

// barrierFirst reports whether what moves spans for convenience waits for the barrier. One that takes long is not waited for:
// what is stopped meanwhile is placed again, and holds at the barrier.
func (c *Core) barrierFirst() bool { return c.sync.at != 0 && !c.barrierIsLate() }

func (c *Core) barrierIsLate() bool {
	return c.sync.at != 0 && c.now.At.Sub(c.sync.began) >= barrierLate
}

// barrierStall says whom a barrier waits for that takes long; nil if there is none.
func (c *Core) barrierStall() *record.Stalled {
	s := &c.sync
	if !c.barrierIsLate() {
		return nil
	}
	if s.stood != 0 {
		return stalledAt(fmt.Sprintf("all wait until sync point %d is recorded in the sink", s.at), nil, c.whole)
	}
	low := c.lowest()
	if low == nil {
		return nil
	}
	if low.host != nil {
		c.listStatuses(low.host)
	}
	reason := fmt.Sprintf("the dispatcher has come to %d", markOf(low).Whole())
	if low.state != cellRunning || c.waitDetail(low) != "" {
		reason = c.waitReason(low)
	}
	return stalledAt(fmt.Sprintf("all wait for this span at sync point %d: %s", s.at, reason), low.host, low.span)
}

// barrierPause returns how long to wait, so that a barrier begins when it is due.
func (c *Core) barrierPause(most changefeed.Duration) changefeed.Duration {
	if s := &c.sync; s.every > 0 && s.due > c.now.At {
		return max(min(most, s.due.Sub(c.now.At)), millisecond)
	}
	return most
}
