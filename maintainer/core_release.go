package maintainer

import (
	"fmt"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// fail ends this epoch with an error: everything that is known to run is stopped, and the status says what is wrong.
func (c *Core) fail(fault *changefeed.Fault) {
	if c.phase >= phaseReleasing || c.wish == wishFail {
		return
	}
	c.wish = wishFail
	r := &c.report
	failure := &record.Error{Code: fault.Code, Message: fault.Text(), Since: c.now.Wall, Tries: 1}
	if r.err != nil {
		failure.Tries = r.err.Tries + 1
		if r.err.Code == failure.Code {
			failure.Since = r.err.Since
		}
	}
	if !fault.Permanent {
		next := c.now.Wall.Add(retryDelay(failure.Tries))
		failure.NextTry = &next
	}
	r.err, r.errorAt = failure, r.checkpoint
	if c.cover != nil && c.phase < phaseStopping {
		c.stopAll()
		return
	}
	c.releaseFailed()
}

// retryDelay doubles with every failure in a row.
func retryDelay(tries int) changefeed.Duration {
	delay := retryDelayMin
	for i := 1; i < tries && delay < retryDelayMax; i++ {
		delay *= 2
	}
	return min(delay, retryDelayMax)
}

func (c *Core) releaseFailed() {
	r := &c.report
	if r.err.NextTry == nil {
		c.release(changefeed.StateFailed)
		return
	}
	next := c.now.Wall.Add(retryDelay(r.err.Tries))
	r.err.NextTry = &next
	c.release(changefeed.StateRetrying)
}

// stopAll stops what runs, to pause, to remove, or after an error.
func (c *Core) stopAll() {
	c.become(phaseStopping)
	c.endMotions()
	c.stopPlaced()
}

func (c *Core) stopPlaced() {
	c.cover.each(func(cell *cell) bool {
		if cell.state == cellStarting || cell.state == cellRunning {
			c.becomeStopping(cell)
		}
		return true
	})
}

// advanceStopping waits for the final marks. A host that does not confirm in time is an error that the status names,
// unless the sink, once removed, shuts it out anyway.
func (c *Core) advanceStopping() {
	if c.adoptAnswers() {
		c.stopPlaced()
	}
	c.work()
	c.progress()
	left := c.unstopped()
	if left != nil && c.now.At.Sub(c.since) < c.cfg.StopWait {
		return
	}
	c.report.spans = 0
	if left != nil {
		c.report.spans = max(1, len(c.cover.unsettled))
	}
	switch {
	case c.wish == wishFail:
		c.releaseFailed()
	case left != nil && (c.wish == wishPause || c.fencing != FencedByClaims):
		c.fail(left)
	default:
		c.report.stalled = nil
		c.report.state = changefeed.StateRunning
		if c.wish == wishRemove {
			c.report.state = changefeed.StateRemoving
		}
		c.become(phaseStoring)
	}
}

// unstopped returns what is not known to have stopped, nil if nothing.
func (c *Core) unstopped() *changefeed.Fault {
	unknown := false
	for _, cell := range c.cover.unsettled {
		if cell.state != cellAbsent {
			return notStopped(cell.host, cell.span)
		}
		unknown = unknown || cell.unknown
	}
	for _, item := range c.orphans.all() {
		return notStopped(item.host, item.span)
	}
	for _, h := range c.hosts {
		if !h.answered && !h.cleared && !h.gone {
			return notStopped(h, c.whole)
		}
	}
	if unknown && !c.rangeIsFree() {
		return &changefeed.Fault{Code: changefeed.CodeTimeout, Detail: "a lost node may still run a part of the changefeed"}
	}
	return nil
}

func notStopped(h *host, span changefeed.Span) *changefeed.Fault {
	return &changefeed.Fault{
		Code: changefeed.CodeTimeout, Field: "node", Value: h.name,
		Detail: fmt.Sprintf("does not confirm that %v has stopped", span), Cure: "look at that node, or stop it",
	}
}

// shut makes the sink refuse this epoch, after the final checkpoint was stored. Crash before: the next owner does it.
func (c *Core) shut() {
	c.become(phaseShutting)
	if c.wish == wishRemove {
		c.ask(RemoveSink{})
		return
	}
	c.ask(Raise{Epoch: fence.Next(c.epoch(), 0, 0), Known: c.knownDurable()}) // fence:F26 a pause leaves no door open
}

func (c *Core) onSinkRemoved(in SinkRemoved) {
	if c.phase != phaseShutting {
		return
	}
	if in.Err != nil {
		c.onSinkError(in.Err)
		return
	}
	if c.serial.is {
		c.ask(DropSource{}) // crash before: the next owner removes from the sink again, and comes here
		return
	}
	c.closeHosts()
}

// closeHosts has the hosts forget the changefeed.
func (c *Core) closeHosts() {
	c.become(phaseClosing)
	for _, h := range c.hosts {
		h.asks, h.nextAsk = 0, c.now.At
	}
}

// advanceClosing tells the hosts that the uid is gone, boundedly: one that does not answer learns it from the records.
func (c *Core) advanceClosing() {
	open := false
	for _, h := range c.hosts {
		if h.closed || h.gone || h.asks >= closeTriesMax {
			continue
		}
		open = true
		if h.nextAsk <= c.now.At {
			c.send(h, message.Close{Removed: true})
			h.nextAsk, h.asks = c.now.At.Add(c.cfg.ResendMin), raise(h.asks)
		}
	}
	if !open {
		c.releaseFor(changefeed.DesiredRemoved)
	}
}

// releaseFor ends the epoch in good order. It says what was done before, since nobody else can tell: what the owner was asked need
// not have reached it.
func (c *Core) releaseFor(done changefeed.Desired) {
	c.report.releasedFor = done
	c.release(changefeed.StateReleased)
}

// release stores the final status of this epoch. Nothing is sent from now on.
func (c *Core) release(state changefeed.State) {
	r := &c.report
	c.become(phaseReleasing)
	r.final, r.state, r.stalled = true, state, nil
	r.nextTry, r.tries = 0, 0
}
