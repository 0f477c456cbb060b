package coordinator

import (
	"fencerow/changefeed"
	"fencerow/record"
)

// act is what a rule asks for. The zero value asks for nothing.
type act uint8

const (
	actNothing act = iota
	actBump        // a new epoch with an owner
	actDisown      // a new epoch with owner ""
	actHandoff     // ask the owner to release
	actRemove      // delete the records
)

// verdict is what a rule says of one changefeed.
type verdict struct {
	act     act
	reason  changefeed.Reason
	prefer  changefeed.NodeID // for the new owner, if it can
	planned bool              // the owner released: the status is compared
	blame   bool              // the owner isn't chosen again while another can
	final   bool              // no later rule is asked, although nothing is to be done
	// unanswered: the owner was asked to release, and did not in time.
	unanswered bool
}

// decide does what the difference between what is wanted and what is asks for.
func (c *Core) decide(f *feed) {
	if f.held && c.now < f.holdTill {
		return
	}
	f.held, f.stale, f.decidedAt = false, false, c.now
	if c.reportFaults(f) || f.spec.value == nil || f.spec.mod == f.removed {
		return
	}
	v := c.judge(f)
	if c.resend(f, v) {
		return
	}
	switch v.act {
	case actNothing:
	case actBump:
		c.assign(f, v)
	case actDisown:
		c.bump(f, v, nil)
	case actHandoff:
		c.requestHandoff(f, v)
	case actRemove:
		c.remove(f)
	}
}

// reportFaults reports a changefeed of which a record doesn't parse, once, and says whether it is to be left alone.
func (c *Core) reportFaults(f *feed) bool {
	fault := f.faults()
	if fault != "" && fault != f.reported {
		c.emit(Invalid{ID: f.id, Record: f.faulty(), Fault: fault})
	}
	f.reported = fault
	return fault != ""
}

func (f *feed) faulty() string {
	switch {
	case f.spec.fault != "":
		return "spec"
	case f.epoch.fault != "":
		return "epoch"
	case f.status.fault != "":
		return "status"
	case f.handoff.fault != "":
		return "handoff"
	default:
		return ""
	}
}

func (f *feed) faults() string {
	switch f.faulty() {
	case "spec":
		return f.spec.fault
	case "epoch":
		return f.epoch.fault
	case "status":
		return f.status.fault
	default:
		return f.handoff.fault
	}
}

// judge asks the rules, in the order of what weighs most.
func (c *Core) judge(f *feed) verdict {
	epoch := f.epoch.value
	if epoch == nil || epoch.UID != f.spec.value.UID {
		return judgeNeverOwned(f)
	}
	if epoch.Owner == "" {
		return judgeDisowned(f)
	}
	rules := [...]func(*feed) verdict{
		c.ruleReleased, c.ruleOwnerLost, c.ruleManual, c.ruleFailed, c.ruleSilent, c.ruleHandoffOverdue, c.ruleHandoff, c.ruleUnreachable,
	}
	for _, rule := range rules {
		if v := rule(f); v.act != actNothing || v.final {
			return v
		}
	}
	return verdict{}
}

// judgeNeverOwned is about a uid that had no owner yet, so that nothing of it runs, nor is in a sink.
func judgeNeverOwned(f *feed) verdict {
	switch f.spec.value.Desired {
	case changefeed.DesiredRunning:
		return verdict{act: actBump, reason: changefeed.ReasonCreated}
	case changefeed.DesiredRemoved:
		return verdict{act: actRemove}
	default:
		return verdict{}
	}
}

// judgeDisowned is about an epoch without owner: it was released for pause or removal.
func judgeDisowned(f *feed) verdict {
	switch {
	case f.spec.value.Desired == changefeed.DesiredRunning:
		return verdict{act: actBump, reason: changefeed.ReasonResumed}
	case f.spec.value.Desired != changefeed.DesiredRemoved:
		return verdict{}
	case f.epoch.value.Reason == changefeed.ReasonRemoved:
		return verdict{act: actRemove} // an owner has cleaned up
	default:
		// It is paused: the sink and the source still have to be cleaned up, which is work for an owner.
		return verdict{act: actBump, reason: changefeed.ReasonRemoved}
	}
}

// ruleReleased: the owner released, which is final for its epoch.
func (c *Core) ruleReleased(f *feed) verdict {
	status := f.current()
	if status == nil || status.State != changefeed.StateReleased {
		return verdict{}
	}
	v := verdict{act: actBump, planned: true, reason: changefeed.ReasonReleased}
	handoff := f.asked()
	switch desired := f.spec.value.Desired; {
	case desired != changefeed.DesiredRunning:
		v.reason = reasonOf(desired)
		if f.releasedFor() == desired {
			v.act = actDisown
		}
	case f.releasedFor() != changefeed.DesiredRunning:
		v.reason = changefeed.ReasonResumed
	case handoff != nil:
		v.reason, v.prefer = handoff.Reason, handoff.To
	case f.changed():
		v.reason, v.prefer = c.changeReason(f), c.moveTo(f)
	}
	return v
}

// releasedFor returns what the owner that released has done before: stopped everything and shut the sink to pause, cleaned up to
// remove, or neither. It says so itself: what it was asked need not have reached it. Of an owner of a version that did not say
// so, it is what the one handoff of its epoch asked; without one, what the spec of its epoch wants.
func (f *feed) releasedFor() changefeed.Desired {
	if done := f.current().ReleasedFor; done != "" {
		return done
	}
	reason := f.epoch.value.Reason
	if handoff := f.asked(); handoff != nil {
		reason = handoff.Reason
	} else if !f.changed() {
		return f.spec.value.Desired
	}
	switch reason {
	case changefeed.ReasonPaused:
		return changefeed.DesiredPaused
	case changefeed.ReasonRemoved:
		return changefeed.DesiredRemoved
	default:
		return changefeed.DesiredRunning
	}
}

func reasonOf(desired changefeed.Desired) changefeed.Reason {
	if desired == changefeed.DesiredRemoved {
		return changefeed.ReasonRemoved
	}
	return changefeed.ReasonPaused
}

// ruleOwnerLost: the owner's node is gone.
func (c *Core) ruleOwnerLost(f *feed) verdict {
	if _, lives := c.nodes[f.owner()]; lives {
		return verdict{}
	}
	return verdict{act: actBump, reason: changefeed.ReasonOwnerLost}
}

// ruleManual: a bump was asked for by hand.
func (c *Core) ruleManual(f *feed) verdict {
	if f.spec.value.Bump == "" || !f.changed() {
		return verdict{}
	}
	return verdict{act: actBump, reason: changefeed.ReasonManual, prefer: f.owner()}
}

// ruleFailed: the owner has stopped with an error. It is replaced when its backoff is over, or when users changed
// something; what time can't heal waits for users alone.
func (c *Core) ruleFailed(f *feed) verdict {
	status := f.current()
	if status == nil || status.State != changefeed.StateFailed && status.State != changefeed.StateRetrying {
		return verdict{}
	}
	switch {
	case f.changed():
		return verdict{act: actBump, reason: c.changeReason(f), prefer: c.moveTo(f)}
	case c.leaving(f.owner()) && c.choose(f, "") != nil:
		return verdict{act: actBump, reason: changefeed.ReasonDrained}
	case status.State == changefeed.StateRetrying && c.now >= f.retryAt:
		return verdict{act: actBump, reason: changefeed.ReasonOwnerFailed, blame: true}
	case status.State == changefeed.StateFailed && f.epoch.value.Epoch.OlderThan(c.meta.value.EpochFloor):
		return verdict{act: actBump, reason: changefeed.ReasonManual}
	default:
		return verdict{final: true}
	}
}

// ruleSilent: the owner wrote no status for longer than its limit, while our own writes succeeded.
func (c *Core) ruleSilent(f *feed) verdict {
	if c.now < c.silentAt(f) {
		return verdict{}
	}
	if !c.provedWrites() {
		c.sendProbe()
		return verdict{}
	}
	return verdict{act: actBump, reason: changefeed.ReasonOwnerSilent, blame: true}
}

// silentAt is when the owner's silence is too long.
func (c *Core) silentAt(f *feed) changefeed.Time {
	return max(f.heardAt, c.writes.healthyFrom).Add(c.config.SilenceLimit)
}

// provedWrites reports whether a write of ours succeeded lately, and none has failed since.
func (c *Core) provedWrites() bool {
	return !c.writes.failing && c.writes.succeeded && c.now.Sub(c.writes.succeededAt) < c.config.SilenceLimit/silenceFactor
}

func (c *Core) sendProbe() {
	if c.probe.ready(c.now) {
		c.probe.inFlight = true
		c.emit(Probe{})
	}
}

// ruleHandoffOverdue: the owner was asked to release, and didn't in time.
func (c *Core) ruleHandoffOverdue(f *feed) verdict {
	handoff := f.asked()
	if handoff == nil {
		return verdict{}
	}
	if c.now < f.askedAt.Add(c.config.HandoffLimit) {
		return verdict{final: true}
	}
	v := verdict{act: actBump, reason: handoff.Reason, prefer: handoff.To, blame: true, unanswered: true}
	if desired := f.spec.value.Desired; desired != changefeed.DesiredRunning {
		v.reason, v.prefer = reasonOf(desired), ""
	}
	return v
}

// ruleHandoff: the owner is to release.
func (c *Core) ruleHandoff(f *feed) verdict {
	switch {
	case f.changed():
		return verdict{act: actHandoff, reason: c.changeReason(f), prefer: c.moveTo(f)}
	case f.spec.value.Desired != changefeed.DesiredRunning:
		return verdict{} // this owner was installed to pause or to remove: it releases by itself
	case c.leaving(f.owner()) && c.choose(f, "") != nil:
		return verdict{act: actHandoff, reason: changefeed.ReasonDrained}
	default:
		return verdict{}
	}
}

// changed reports whether the spec is another than the one that the epoch runs.
func (f *feed) changed() bool { return f.spec.mod != f.epoch.value.SpecRevision }

// changeReason says what a changed spec asks for.
func (c *Core) changeReason(f *feed) changefeed.Reason {
	spec := f.spec.value
	switch {
	case spec.Desired != changefeed.DesiredRunning:
		return reasonOf(spec.Desired)
	case spec.Bump != "":
		return changefeed.ReasonManual
	case c.moveTo(f) != f.owner():
		return changefeed.ReasonMoved
	case f.epoch.value.Reason == changefeed.ReasonPaused:
		return changefeed.ReasonResumed
	default:
		return changefeed.ReasonUpdated
	}
}

// moveTo returns where a changed spec wants the owner: elsewhere, if that node can be one, or where it is.
func (c *Core) moveTo(f *feed) changefeed.NodeID {
	if f.spec.value.Desired != changefeed.DesiredRunning {
		return ""
	}
	if move := f.spec.value.Move; move != nil && c.eligible(move.To) {
		return move.To
	}
	return f.owner()
}

// countRetry counts how long an owner that is retrying is to be left alone: next try − at, on our own clock, from when
// this try was first seen.
func (f *feed) countRetry(status *record.Status, now changefeed.Time) {
	if status.State != changefeed.StateRetrying {
		f.retryFor = ""
		return
	}
	delay, key := changefeed.Duration(ownerRetryUnsaid), "unsaid"
	if status.Error != nil && status.Error.NextTry != nil {
		delay = min(max(status.Error.NextTry.Sub(status.At), ownerRetryMin), ownerRetryMax)
		key = status.Error.NextTry.UTC().String()
	}
	if f.retryFor == key {
		return
	}
	f.retryFor, f.retryAt = key, now.Add(delay)
}

// wake returns when the feed becomes due by the passing of time alone.
func (c *Core) wake(f *feed) changefeed.Time {
	switch {
	case f.busy, f.queued:
		return never
	case f.held:
		return f.holdTill
	}
	if f.spec.value == nil || f.owner() == "" || f.faults() != "" {
		return never
	}
	if status := f.current(); status != nil {
		switch status.State {
		case changefeed.StateRetrying:
			return f.recheck(f.retryAt)
		case changefeed.StateFailed, changefeed.StateReleased:
			return never
		default: // the owner is at work, and may fall silent
		}
	}
	at := c.silentAt(f)
	if f.asked() != nil {
		at = min(at, f.askedAt.Add(c.config.HandoffLimit))
	}
	if moveAt, behind := c.unreachableAt(f); behind {
		at = min(at, moveAt)
	}
	return f.recheck(at)
}

// recheck returns at, or, if the feed was decided on since then and nothing could be done, a while after that.
func (f *feed) recheck(at changefeed.Time) changefeed.Time {
	if at > f.decidedAt {
		return at
	}
	return f.decidedAt.Add(recheckAfter)
}
