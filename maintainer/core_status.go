package maintainer

import (
	"errors"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// waiting is what a running dispatcher says that it waits for.
type waiting struct {
	on    string
	fault *changefeed.Fault
}

// onStatus takes in what a host says of one dispatcher. It only counts for the placement that is current.
func (c *Core) onStatus(h *host, status *message.Status) {
	cell := c.cellOf(h, status)
	if cell == nil {
		c.emit(Refused{Rule: refusedStatus})
		c.onStray(h, status)
		return
	}
	c.measure(cell, status)
	c.checkSource(status)
	switch status.State {
	case message.DispatcherStarting:
		if cell.state == cellStarting { // heard of: asked again slowly
			cell.next = max(cell.next, c.now.At.Add(c.cfg.ResendMax))
		}
	case message.DispatcherRunning:
		if cell.state == cellStarting {
			c.becomeRunning(cell, status.Age)
		}
	case message.DispatcherStopping:
		if cell.state == cellStarting || cell.state == cellRunning {
			c.becomeStopping(cell)
		}
	case message.DispatcherStopped:
		c.becomeAbsent(cell)
	case message.DispatcherFailed:
		c.onFailed(cell, status)
	}
}

// cellOf returns the cell whose current placement the status is about, or nil.
func (c *Core) cellOf(h *host, status *message.Status) *cell {
	if found := c.stopping[status.Token]; found != nil && found.host == h && status.State == message.DispatcherStopped {
		return found // a host that never heard of the token does not know its span
	}
	cell := c.cover.find(status.Span)
	if cell == nil || cell.host != h || cell.token.Confirm(status.Token) != nil { // fence:F18
		return nil
	}
	return cell
}

// measure takes in numbers. Marks only rise: what is durable stays so, in whatever order statuses arrive.
func (c *Core) measure(cell *cell, status *message.Status) {
	if status.Known {
		cell.mark = change.Later(cell.mark, status.Mark)
	}
	if status.Changes > cell.changes || status.SnapshotRows > cell.rows {
		c.report.movedAt = c.now.At
	}
	if status.Changes > cell.changes {
		c.report.changes += status.Changes - cell.changes
		cell.changes = status.Changes
	}
	if status.Bytes > cell.bytes {
		c.report.bytes += status.Bytes - cell.bytes
		cell.bytes = status.Bytes
	}
	if cell.total = status.SnapshotTotal; status.SnapshotRows > 0 {
		cell.rows = max(cell.rows, status.SnapshotRows)
	} else {
		cell.rows = 0
	}
	c.traffic.measure(cell, status)
	cell.resolved = max(cell.resolved, status.Resolved)
	cell.host.resolved = max(cell.host.resolved, status.Resolved)
	if _, known := c.faulty[cell]; status.Fault == nil {
		delete(c.faulty, cell)
	} else if !known {
		c.faulty[cell] = c.now.At
	}
	if status.WaitingOn != "" || status.Fault != nil {
		c.waiting[cell] = waiting{on: status.WaitingOn, fault: status.Fault}
		return
	}
	delete(c.waiting, cell)
}

// checkSource fails the changefeed if the dispatcher reads another source than the one that the checkpoint belongs to.
func (c *Core) checkSource(status *message.Status) {
	r := &c.report
	if status.SourceID == "" || status.SourceID == r.sourceID {
		return
	}
	if r.sourceID == "" {
		r.sourceID = status.SourceID
		return
	}
	c.fail(&changefeed.Fault{
		Code: changefeed.CodeSourceReplaced, Value: status.SourceID, Detail: "is another source than the checkpoint's",
		Cure: "remove the changefeed and create it anew, if the source was replaced on purpose", Permanent: true,
	})
}

// onFailed takes in that a dispatcher stopped by itself.
func (c *Core) onFailed(cell *cell, status *message.Status) {
	refusals := raise(cell.refusals)
	c.becomeAbsent(cell)
	if c.phase != phaseActive {
		return
	}
	if status.Fault == nil || errors.Is(status.Fault, fence.ErrStale) {
		c.refused(cell, refusals)
		return
	}
	c.fail(status.Fault)
}

// refused places a span again whose token was refused, under a new one, after the record was read: it may be this epoch
// that is over. Bounded, so that a quarrel does not become a storm.
func (c *Core) refused(cell *cell, refusals uint8) {
	c.suspect()
	cell.refusals = refusals
	cell.next = c.now.At.Add(c.delay(refusals))
	if refusals >= refusalsMax {
		c.fail(&changefeed.Fault{
			Code: changefeed.CodeEpochBehindSink, Detail: "placements are refused again and again although the epoch is held",
			Cure: "look for another cluster that writes to the sink",
		})
	}
}

// onRejected takes in that a host refused a command. The record says who is right.
func (c *Core) onRejected(h *host, rejected message.Rejected) {
	if c.epoch().Confirm(rejected.Offered) != nil {
		return
	}
	switch {
	case c.epoch().OlderThan(rejected.Held):
		c.doubtHearsay()
	case rejected.Rule == fence.RefusedToken.Rule():
		c.onTokenRejected(h, rejected)
	case rejected.Rule == refusedBarrier.Rule(): // it came late: a newer decision was obeyed
	case rejected.Command == message.KindBootstrap:
		c.doubtHearsay() // asked again with growing delays in any case
	default:
		// The host does not know this owner, or forgot it: it is asked again. What it runs counts as statuses.
		c.doubtHearsay()
		if h.answered && !h.gone && h.nextAsk <= c.now.At && c.phase <= phaseStopping {
			h.nextAsk = c.now.At.Add(c.delay(h.asks))
			h.asks = raise(h.asks)
			c.bootstrap(h)
		}
	}
}

// onTokenRejected takes in that a host refuses a placement within this epoch. It is stopped there, so that it cannot
// come true later, and then placed under a new token.
func (c *Core) onTokenRejected(h *host, rejected message.Rejected) {
	if rejected.Command != message.KindPlace || c.cover == nil {
		return
	}
	c.listStatuses(h)
	for _, cell := range c.cover.unsettled {
		if cell.state == cellStarting && cell.host == h && cell.token == rejected.Token {
			refusals := raise(cell.refusals)
			c.becomeStopping(cell)
			c.refused(cell, refusals)
			cell.next = c.now.At
			return
		}
	}
}
