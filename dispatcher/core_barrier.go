package dispatcher

import (
	"fencerow/change"
	"fencerow/fence"
	"fencerow/message"
)

// refusedBarrier is the fence of decisions about where dispatchers stop.
const refusedBarrier fence.Refusal = 24

// hold is the barrier that a host obeys: all dispatchers of the changefeed bring everything at or below a position to the
// sink, and nothing above, until they are told to pass. It outlives its owner: the next one goes on from there.
type hold struct {
	number uint64                // of the newest decision of the held epoch
	action message.BarrierAction // of it
	at     change.Position       // where dispatchers stop; 0: nowhere
	order  uint64                // counts what pumps were told, over all epochs
	writer fence.Token           // who was told to record the position
}

// barrier decides on a Barrier of the owner that the gate holds.
func (c *Core) barrier(envelope *message.Envelope, body message.Barrier) {
	h := &c.hold
	if body.Number == 0 || body.Position == 0 || body.Action < message.BarrierStop || body.Action > message.BarrierPass {
		c.refuse(envelope, refusedBarrier)
		return
	}
	if body.Number < h.number { // fence:F24 dispatcher: an older decision
		c.refuse(envelope, refusedBarrier)
		return
	}
	if body.Number == h.number && body.Action < h.action { // fence:F24 dispatcher: an earlier step of this one
		c.refuse(envelope, refusedBarrier)
		return
	}
	if body.Action == message.BarrierWrite && (body.Number != h.number || body.Position != h.at) { // fence:F24 dispatcher: what is not held
		c.refuse(envelope, refusedBarrier)
		return
	}
	h.number, h.action = body.Number, body.Action
	switch body.Action {
	case message.BarrierStop:
		c.holdAt(body.Position)
	case message.BarrierWrite:
		c.record(body.Position)
	case message.BarrierPass:
		c.holdAt(0)
	}
}

// holdWith obeys the barrier that came with a Place, should its own message be late or lost.
func (c *Core) holdWith(body message.Barrier) {
	h := &c.hold
	if body.Number == 0 || body.Position == 0 || body.Number < h.number || body.Number == h.number && h.action == message.BarrierPass {
		return
	}
	if body.Number > h.number {
		h.number, h.action = body.Number, message.BarrierStop
	}
	c.holdAt(body.Position)
}

// holdAt tells every pump where it stops; 0 lets all go on. Nothing is held where nothing runs: what is placed later
// brings its barrier with it.
func (c *Core) holdAt(at change.Position) {
	if len(c.live) == 0 {
		at = 0
	}
	if c.hold.at == at {
		return
	}
	c.hold.at, c.hold.writer = at, fence.Token{}
	c.hold.order++
	c.report.recountHeld(&c.hold)
	for _, d := range c.holders.items {
		c.effects = append(c.effects, HoldPump{Token: d.token, Order: c.hold.order, At: at})
	}
}

// record has one of the dispatchers that stand at the position record it.
func (c *Core) record(at change.Position) {
	for _, d := range c.holders.items {
		if d.state == message.DispatcherRunning && d.progress.Order == c.hold.order && d.progress.Mark == change.At(at) {
			c.hold.writer = d.token
			c.effects = append(c.effects, SyncPump{Token: d.token, At: at})
			return
		}
	}
}

// forgetDecisions takes in that another owner decides: dispatchers stay where they are, and what the one before had asked
// for and was not begun is not begun.
func (c *Core) forgetDecisions() {
	h := &c.hold
	h.number, h.action = 0, 0
	if h.writer != (fence.Token{}) { // fence:F24 dispatcher: a write of the owner before
		c.effects = append(c.effects, HoldPump{Token: h.writer, Order: h.order, At: h.at})
		h.writer = fence.Token{}
	}
}

// held is what the next heartbeat says of the barrier.
func (c *Core) held() message.Held {
	r := &c.report
	out := message.Held{Position: c.hold.at, Highest: r.highest, Synced: r.synced}
	if c.hold.at != 0 && r.obeying == len(r.covered) {
		out.Number = c.hold.number
	}
	return out
}

// toldHeld is what of the barrier the owner waits for: it is told at once when it changes.
type toldHeld struct {
	number   uint64
	position change.Position
	synced   change.Position
	stands   bool
}

func (c *Core) heldNow() toldHeld {
	held := c.held()
	return toldHeld{number: held.Number, position: held.Position, synced: held.Synced, stands: c.report.standing == len(c.report.covered)}
}

// heldDue reports whether the owner is to be told now how far the barrier is.
func (c *Core) heldDue() bool {
	return (c.hold.at != 0 || c.report.heldTold.position != 0) && c.heldNow() != c.report.heldTold
}

// recountHeld counts anew who obeys, and who has come there.
func (r *report) recountHeld(h *hold) {
	r.hold, r.obeying, r.standing = *h, 0, 0
	for i := range r.covered {
		r.countHeld(&r.covered[i], 1)
	}
}

// countHeld counts one in or out.
func (r *report) countHeld(one *covered, n int) {
	if one.order != r.hold.order {
		return
	}
	r.obeying += n
	if r.hold.at != 0 && !one.mark.Before(change.At(r.hold.at)) {
		r.standing += n
	}
}

// barrierOf returns where a dispatcher stops, as its status says.
func (c *Core) barrierOf(d *dispatcher) change.Position {
	if d.state != message.DispatcherStarting && d.state != message.DispatcherRunning {
		return 0
	}
	return c.hold.at
}

// progressOf is what the watermark knows of a dispatcher.
func progressOf(d *dispatcher) covered {
	p := &d.progress
	return covered{mark: p.Mark, resolved: p.Resolved, highest: p.Highest, order: p.Order, token: d.token, d: d}
}
