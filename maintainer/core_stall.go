package maintainer

import (
	"fencerow/changefeed"
	"fencerow/record"
)

// silent reports whether a host that something is awaited of has not been heard of for longer than heartbeats may take.
// One that runs nothing of this changefeed does not repeat that, and is as good as any other until it is asked for
// something.
func (c *Core) silent(h *host) bool { return c.silentFor(h) >= c.stallLimit() }

// silentFor returns for how long something has been awaited of a host in vain.
func (c *Core) silentFor(h *host) changefeed.Duration {
	if h.awaited == 0 {
		return 0
	}
	return max(c.listened.Sub(h.awaited), 0)
}

// heardOf takes in that a message of this epoch came from a host.
func (c *Core) heardOf(h *host) {
	h.awaited = 0
	if h.placed > 0 || h.orphans > 0 || (h.asks > 0 && !h.answered) {
		h.awaited = c.now.At
	}
}

// askSilent asks hosts that are not heard of, with growing pauses. One may have nothing to repeat, when the last that it
// told was lost, or be back.
func (c *Core) askSilent() {
	for _, h := range c.hosts {
		over := c.silentFor(h) - 2*c.cfg.Heartbeat
		if over >= 0 && c.now.At.Sub(h.nextList) >= min(over/2, c.cfg.ResendMax) {
			c.listStatuses(h)
		}
	}
}

func (c *Core) stallLimit() changefeed.Duration { return stalledHeartbeats * c.cfg.Heartbeat }

// watchStall decides between running and stalled, and says why the checkpoint stands still.
func (c *Core) watchStall() {
	r := &c.report
	if c.phase > phaseActive {
		return
	}
	stalled := r.stalled
	if c.stallDue() {
		stalled = c.stall()
	}
	if stalled == nil {
		r.stalled = nil
		if c.cover != nil && len(c.cover.unsettled) == 0 {
			r.state = changefeed.StateRunning
		} else if r.state != changefeed.StateRunning {
			r.state = changefeed.StateStarting
		}
		return
	}
	stalled.Since = c.now.Wall
	if r.stalled != nil {
		stalled.Since = r.stalled.Since
	}
	r.stalled, r.state = stalled, changefeed.StateStalled
}

// stallSmall is up to how many spans the reason of a stall is looked for in every step. Of more it is every heartbeat:
// to find the lowest, all may have to be looked at.
const stallSmall = 10_000

func (c *Core) stallDue() bool {
	if c.cover != nil && c.cover.len() > stallSmall && c.now.At.Sub(c.stallSeenAt) < c.cfg.Heartbeat {
		return false
	}
	c.stallSeenAt = c.now.At
	return true
}

// stall returns why nothing goes on, nil if it does.
func (c *Core) stall() *record.Stalled {
	for _, h := range c.hosts {
		if h.gone || !c.silent(h) {
			continue
		}
		if !h.answered && !h.cleared && (c.cover == nil || len(c.cover.unsettled) > 0) {
			return stalledAt("the node does not answer the bootstrap", h, c.firstSpan(nil))
		}
		if h.placed > 0 {
			return stalledAt(silenceReason(h), h, c.firstSpan(h))
		}
	}
	if c.cover == nil {
		return nil
	}
	if stalled := c.barrierStall(); stalled != nil {
		return stalled
	}
	if cell := c.tryingAgain(); cell != nil {
		return stalledAt(c.waitReason(cell), cell.host, cell.span)
	}
	still := c.standstill()
	if still < c.stallLimit()/2 {
		return nil
	}
	low := c.lowest()
	if low == nil {
		return nil
	}
	if low.host != nil {
		c.listStatuses(low.host) // to know which span it is, and whether anything moves
	}
	if still < c.stallLimit() {
		return nil
	}
	return stalledAt(c.waitReason(low), low.host, low.span)
}

// tryingAgain returns the first cell whose dispatcher has had an error for long, nil if there is none. Whether others move, or there is
// nothing to write at the moment, says nothing of it.
func (c *Core) tryingAgain() *cell {
	var first *cell
	for cell, since := range c.faulty {
		runs := cell.state == cellRunning || cell.state == cellStarting
		if runs && c.now.At.Sub(since) >= c.stallLimit() && (first == nil || cell.span.Compare(first.span) < 0) {
			first = cell
		}
	}
	return first
}

// silenceReason says what is known of a node that does not report.
func silenceReason(h *host) string {
	switch {
	case h.eviction.pending():
		return "the node can't be reached, and has not acknowledged its eviction"
	case h.cutSaid:
		return "the node can't be reached"
	default:
		return "the node does not report"
	}
}

// standstill returns for how long nothing has moved although something should: a head above the checkpoint is known, or
// a span does not run.
func (c *Core) standstill() changefeed.Duration {
	r := &c.report
	due := r.heads.lag(r.checkpoint, c.now.At)
	if len(c.cover.unsettled) == 0 {
		r.unsettledAt = 0
	} else {
		if r.unsettledAt == 0 {
			r.unsettledAt = c.now.At
		}
		due = max(due, c.now.At.Sub(r.unsettledAt))
	}
	return min(due, c.now.At.Sub(max(r.movedAt, c.since)))
}

// waitReason says in a few words what a span waits for.
func (c *Core) waitReason(low *cell) string {
	switch low.state {
	case cellAbsent:
		if len(c.candidates()) == 0 {
			return "no node can run the span"
		}
		if low.unknown && !c.rangeIsFree() {
			return "a lost node may still run the span"
		}
		if low.next > c.now.At {
			return "its placement was refused, and is tried again"
		}
		return "the span waits for another to stop"
	case cellStarting:
		return "the dispatcher is starting" + c.waitDetail(low)
	case cellStopping:
		return "the dispatcher is stopping" + c.waitDetail(low)
	case cellLost:
		return "the lease of its node has not been gone for long enough"
	case cellRunning:
	}
	if detail := c.waitDetail(low); detail != "" {
		return "the dispatcher waits" + detail
	}
	return "the dispatcher makes no progress"
}

func (c *Core) waitDetail(cell *cell) string {
	found := c.waiting[cell]
	switch {
	case found.fault != nil:
		return ": " + found.fault.Error()
	case found.on != "":
		return ": " + found.on
	default:
		return ""
	}
}

// lowest returns the cell that holds the checkpoint: among those that do not run, else on the host whose watermark is
// the lowest.
func (c *Core) lowest() *cell {
	var low *cell
	for _, cell := range c.cover.unsettled {
		if low == nil || cell.mark.Before(low.mark) || (cell.mark == low.mark && cell.span.Compare(low.span) < 0) {
			low = cell
		}
	}
	if low != nil && low.mark.Whole() <= c.report.checkpoint {
		return low
	}
	var slowest *host
	for _, h := range c.hosts {
		if h.set.Count > 0 && (slowest == nil || h.mark < slowest.mark) {
			slowest = h
		}
	}
	if slowest == nil {
		return low
	}
	low = nil
	c.cover.each(func(cell *cell) bool {
		if cell.host == slowest && cell.state == cellRunning && (low == nil || cell.mark.Before(low.mark)) {
			low = cell
		}
		return true
	})
	return low
}

// firstSpan returns the first span on the host, or, for nil, the first that nobody runs, or everything.
func (c *Core) firstSpan(h *host) changefeed.Span {
	out := c.whole
	if c.cover == nil {
		return out
	}
	c.cover.each(func(cell *cell) bool {
		if cell.host == h {
			out = cell.span
			return false
		}
		return true
	})
	return out
}

func stalledAt(reason string, h *host, span changefeed.Span) *record.Stalled {
	out := &record.Stalled{Reason: reason, Start: changefeed.Key(span.Start), End: changefeed.Key(span.End)}
	if h != nil {
		out.Node = h.id
	}
	return out
}
