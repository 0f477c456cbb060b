package coordinator

import (
	"errors"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

func (c *Core) takeAnswer(in Input) {
	switch in := in.(type) {
	case BumpAnswered:
		c.bumpAnswered(in)
	case HandoffAnswered:
		c.handoffAnswered(in)
	case RemoveAnswered:
		c.removeAnswered(in)
	case TrimAnswered:
		c.trims--
		c.wrote(in.Err)
	case LevelAnswered:
		c.wrote(in.Err)
		c.raise.answered(c.now, in.Err)
	case ExpelAnswered:
		c.expelAnswered(in)
	case ProbeAnswered:
		c.wrote(in.Err)
		c.probe.answered(c.now, in.Err)
		c.allDue() // the silent ones wait for it
	}
}

func (c *Core) bumpAnswered(in BumpAnswered) {
	c.bumping--
	f := c.feeds[in.ID]
	c.wrote(in.Outcome.Err)
	if f == nil {
		return
	}
	f.busy = false
	if f.doubt == nil || f.doubt.Nonce != in.Nonce {
		// The record was seen before the answer came.
		c.news(f)
		return
	}
	decision := *f.doubt
	err := in.Outcome.Err
	switch {
	case err == nil:
		c.handOver(f, decision, in.Outcome)
		return
	case errors.Is(err, fence.ErrUnknown):
		// The same decision is sent again, unless the record says by then that it was done.
	default:
		c.load(decision.Owner, -1)
		f.doubt = nil
	}
	c.hold(f, err)
}

// handOver takes in what a bump wrote, without waiting for it to be watched.
func (c *Core) handOver(f *feed, decision Decision, outcome Outcome) {
	written := outcome.Record
	before := f.owner()
	c.committed(f, decision, written)
	if f.epoch.take(Observed[record.Epoch]{Value: &written, Revision: outcome.Revision}) {
		c.moveLoad(before, f.owner())
		f.heardAt, f.retryFor = c.now, ""
		f.noteReason(c.now)
	}
	f.handoff.take(Observed[record.Handoff]{Revision: outcome.Revision})
	c.news(f)
}

// committed is called once for each decision that was done, however it was learned.
func (c *Core) committed(f *feed, decision Decision, written record.Epoch) {
	c.load(decision.Owner, -1) // the record counts from here on
	f.doubt, f.failures, f.refused, f.held, f.stale = nil, 0, 0, false, false
	c.emit(Bumped{ID: f.id, Record: written})
	if decision.Previous == nil {
		return
	}
	if f.untrimmed++; f.untrimmed >= trimEvery {
		f.untrimmed = 0
		c.untrim[f.id] = struct{}{}
	}
}

func (c *Core) handoffAnswered(in HandoffAnswered) {
	c.chores--
	c.wrote(in.Err)
	f := c.feeds[in.Handoff.ID]
	if f == nil {
		return
	}
	f.busy = false
	if in.Err != nil {
		c.hold(f, in.Err)
		return
	}
	f.failures = 0
	// Asked is asked, also before it is watched. Its revision isn't known, so that what is watched replaces it.
	f.handoff.value = &record.Handoff{
		UID: in.Handoff.UID, Epoch: in.Handoff.Epoch, To: in.Handoff.To, ToName: in.Handoff.ToName, Reason: in.Handoff.Reason,
	}
	f.askedAt = c.now
	c.enqueue(f)
}

func (c *Core) removeAnswered(in RemoveAnswered) {
	c.chores--
	c.wrote(in.Err)
	f := c.feeds[in.Removal.ID]
	if f == nil {
		return
	}
	f.busy = false
	if in.Err != nil {
		c.hold(f, in.Err)
	} else {
		// The name is free since then: what is known of it by now may be of its next changefeed.
		f.failures, f.removed = 0, in.Removal.SpecRevision
		c.news(f)
	}
	c.forget(f)
}

// hold keeps a feed from being decided on for a while. After a stale answer any news ends it, since the news is
// probably what made it stale.
func (c *Core) hold(f *feed, err error) {
	f.stale = errors.Is(err, fence.ErrStale)
	delay := backoff(failedBackoffMin, failedBackoffMax, f.failures)
	if f.stale {
		delay = backoff(staleBackoffMin, staleBackoffMax, f.failures)
		if f.refused++; f.refused == refusedMax {
			c.emit(Distrust{ID: f.id})
		}
	}
	f.failures++
	f.held, f.holdTill = true, c.now.Add(delay)
	c.wakeAt = min(c.wakeAt, f.holdTill)
}

// wrote notes how a write of this term went. A refusal by a compare is a write that the store was able to judge, yet it
// proves nothing about the store's room; an unknown outcome is none that succeeded.
func (c *Core) wrote(err error) {
	switch {
	case err == nil:
		c.writes.succeeded, c.writes.succeededAt = true, c.now
		if c.writes.failing {
			// While our writes failed, so did those of the owners: their silence is counted afresh.
			c.writes.failing, c.writes.healthyFrom = false, c.now
			c.emit(WritesFailing{})
		}
	case errors.Is(err, fence.ErrStale):
	case !c.writes.failing:
		c.writes.failing = true
		c.emit(WritesFailing{Err: err})
	}
}

func (e *errand) ready(now changefeed.Time) bool { return !e.inFlight && now >= e.retryAt }

func (e *errand) answered(now changefeed.Time, err error) {
	e.inFlight = false
	if err == nil {
		*e = errand{}
		return
	}
	e.retryAt = now.Add(backoff(failedBackoffMin, failedBackoffMax, e.failures))
	e.failures++
}

func backoff(low, high changefeed.Duration, failures int) changefeed.Duration {
	for ; failures > 0 && low < high; failures-- {
		low *= 2
	}
	return min(low, high)
}
