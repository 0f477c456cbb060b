package dispatcher

import (
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// stopGrace is how long a write may go on that was in flight when its dispatcher was asked to stop at once. Then it is
// cancelled: a sink that hangs must not keep its span for ever.
const stopGrace = 5 * changefeed.Second

// dispatcher is what a core knows of one placement that has not ended.
type dispatcher struct {
	uid          changefeed.UID
	span         changefeed.Span
	token        fence.Token
	specRevision int64
	from         change.Mark
	floor        change.Position
	terms        *terms // until it is started

	since     changefeed.Time // when it was placed
	state     message.DispatcherState
	progress  Progress
	atOnce    bool // stopping without a position
	cancelled bool
	graceEnds changefeed.Time // when a stop at once becomes a cancel; 0 when it does not

	covered int  // 1 + its place under the watermark; 0: it is not covered
	queued  bool // in the queue of those whose progress is to be told
	changed bool // its state is to be told
}

// place decides on a Place within the held epoch (F16).
func (c *Core) place(now changefeed.Time, envelope *message.Envelope, body message.Place) {
	token := body.Token(envelope.Epoch)
	if d := c.live[token]; d != nil && d.span.Equal(body.Span) {
		c.tell(c.status(now, d))
		return
	}
	// Without this owner's Bootstrap it is not known what to run.
	if c.terms == nil { // fence:F12
		c.refuse(envelope, fence.RefusedUnconfirmed)
		return
	}
	if body.Seq == 0 || !body.Span.Valid() || c.live[token] != nil {
		c.refuse(envelope, fence.RefusedToken)
		return
	}
	lower := append(c.holders.overlapping(body.Span), c.waiting.overlapping(body.Span)...)
	if c.memory.buried(body.Seq) || !c.void.OlderThan(token) || c.higherAmong(lower, token, body.Span) { // fence:F16
		c.refusePlace(envelope, token, body.Span)
		return
	}
	c.replace(now, lower)
	if c.quiet() {
		c.report.next = now.Add(heartbeatEvery)
	}
	d := &dispatcher{
		uid: envelope.UID, span: body.Span, token: token, from: body.From, floor: body.Floor,
		specRevision: c.terms.specRevision, terms: c.terms, since: now, state: message.DispatcherStarting,
	}
	c.live[token] = d
	c.waiting.add(d)
	c.holdWith(body.Barrier)
	c.tell(c.status(now, d))
}

// higherAmong reports whether a higher token holds, waits for or held a part of the span.
func (c *Core) higherAmong(overlapping []*dispatcher, token fence.Token, span changefeed.Span) bool {
	return c.memory.overlapsHigher(token.Seq(), span) ||
		slices.ContainsFunc(overlapping, func(d *dispatcher) bool { return token.OlderThan(d.token) })
}

// refusePlace refuses a superseded token, and tells what became of it, since a refusal names no token.
func (c *Core) refusePlace(envelope *message.Envelope, token fence.Token, span changefeed.Span) {
	c.refuse(envelope, fence.RefusedToken)
	final, found := c.memory.final(token)
	if !found {
		final = message.Status{Span: span, Token: token, State: message.DispatcherStopped}
	}
	c.tell(final)
}

// replace revokes lower tokens that are in the way of a new placement, which waits until the last of them has ended.
func (c *Core) replace(now changefeed.Time, lower []*dispatcher) {
	for _, d := range lower {
		if d.state == message.DispatcherStarting && d.terms != nil {
			c.drop(d)
			continue
		}
		c.cancel(now, d)
	}
}

// startWaiting starts the placements that nothing is in the way of any more.
func (c *Core) startWaiting() {
	for _, d := range slices.Clone(c.waiting.items) {
		if len(c.holders.overlapping(d.span)) > 0 {
			continue
		}
		c.waiting.remove(d)
		c.holders.add(d)
		terms := d.terms
		d.terms = nil
		c.effects = append(c.effects, StartPump{
			UID: d.uid, Token: d.token, Span: d.span, From: d.from, Floor: d.floor,
			Spec: terms.spec, SpecRevision: terms.specRevision, SourceID: terms.sourceID,
			Order: c.hold.order, Hold: c.hold.at,
		})
		c.report.enqueue(d)
	}
}

// stop obeys a Stop. A token that was never heard of is remembered, so that its Place, should it come later, is
// refused.
func (c *Core) stop(now changefeed.Time, body message.Stop) {
	d := c.live[body.Token]
	switch {
	case d == nil:
		final, found := c.memory.stopFinal(body.Token)
		if !found {
			final = message.Status{Token: body.Token, State: message.DispatcherStopped}
			if body.Token.Epoch() == c.gate.Held().Epoch {
				c.memory.buryUnknown(body.Token.Seq())
			}
		}
		c.tell(final)
	case d.terms != nil: // not started: it ends here and now
		c.drop(d)
	default:
		c.stopHolder(now, d, body)
		c.tell(c.status(now, d))
	}
}

// stopHolder asks a pump to stop. A stop at once is not taken back by a stop at a position that was delayed.
func (c *Core) stopHolder(now changefeed.Time, d *dispatcher, body message.Stop) {
	if d.cancelled || d.atOnce {
		return
	}
	d.atOnce = body.At == change.Mark{}
	if d.atOnce {
		d.graceEnds = now.Add(stopGrace)
	}
	c.becomeStopping(d)
	c.effects = append(c.effects, StopPump{Token: d.token, At: body.At})
}

// cancel revokes a pump's token.
func (c *Core) cancel(_ changefeed.Time, d *dispatcher) {
	if d.cancelled {
		return
	}
	d.cancelled, d.graceEnds = true, 0
	c.becomeStopping(d)
	c.effects = append(c.effects, CancelPump{Token: d.token})
}

// cancelAll revokes whatever runs, and drops whatever waits.
func (c *Core) cancelAll(now changefeed.Time) {
	for len(c.waiting.items) > 0 {
		c.drop(c.waiting.items[0])
	}
	for _, d := range c.holders.items {
		c.cancel(now, d)
	}
}

// drop ends a placement whose pump was never started.
func (c *Core) drop(d *dispatcher) {
	c.waiting.remove(d)
	c.bury(d, message.Status{
		Span: d.span, Token: d.token, SpecRevision: d.specRevision, State: message.DispatcherStopped,
	})
}

// dispatcherEnded takes in that a pump has no effect any more.
func (c *Core) dispatcherEnded(now changefeed.Time, in DispatcherEnded) {
	d := c.live[in.Token]
	if d == nil || d.terms != nil {
		return
	}
	c.holders.remove(d)
	d.progress = in.Progress
	d.progress.WaitingOn, d.progress.WaitingSince = "", 0
	d.progress.Fault = in.Fault
	if (in.Fault != nil || in.Fenced) && d.state != message.DispatcherStopping {
		c.becomeEnded(d, message.DispatcherFailed)
	} else {
		c.becomeEnded(d, message.DispatcherStopped)
	}
	c.bury(d, c.status(now, d))
}

// bury moves a dispatcher from what lives to what is remembered, and has its end told.
func (c *Core) bury(d *dispatcher, final message.Status) {
	delete(c.live, d.token)
	c.report.dequeue(d)
	if len(c.live) == 0 {
		c.holdAt(0)
	}
	if d.token.Epoch() == c.gate.Held().Epoch {
		c.memory.bury(d.token.Seq(), d.span)
	}
	if c.ours(d) && !c.deleted {
		c.memory.keepFinal(final)
	}
	if c.ours(d) {
		c.tell(final)
	}
}

func (c *Core) becomeStopping(d *dispatcher) {
	d.state = message.DispatcherStopping
	c.report.uncover(d)
	c.report.stateChanged(d)
}

func (c *Core) becomeEnded(d *dispatcher, state message.DispatcherState) {
	d.state = state
	d.graceEnds = 0
	c.report.uncover(d)
}

func (c *Core) becomeRunning(d *dispatcher) {
	d.state = message.DispatcherRunning
	c.report.stateChanged(d)
}

// reported takes in what a running pump says of itself.
func (c *Core) reported(in Reported) {
	d := c.live[in.Token]
	if d == nil || d.terms != nil {
		return
	}
	before := d.progress
	d.progress = in.Progress
	if d.state == message.DispatcherStarting && in.Progress.Claimed {
		c.becomeRunning(d)
	}
	if (before.Fault == nil) != (in.Progress.Fault == nil) || before.SourceID != in.Progress.SourceID {
		c.report.stateChanged(d)
	}
	c.report.progressed(d, &before)
}

// evict voids every token up to the eviction's: those that run are revoked, and those that come later are refused.
func (c *Core) evict(now changefeed.Time, in Evicted) {
	if c.void.OlderThan(in.Token) {
		c.void = in.Token
	}
	if !in.Acknowledged && (c.evicted == nil || c.evicted.Token.OlderThan(in.Token)) {
		c.evicted = &in
	}
	for _, d := range slices.Concat(c.waiting.items, c.holders.items) {
		if !c.void.OlderThan(d.token) { // fence:F16
			c.revoke(now, d)
		}
	}
}

// revoke ends a dispatcher, whether it has begun or not.
func (c *Core) revoke(now changefeed.Time, d *dispatcher) {
	if d.terms != nil { // it waits
		c.drop(d)
		return
	}
	c.cancel(now, d)
}

// acknowledge says that an eviction is done, when every pump of a void token has ended.
func (c *Core) acknowledge() {
	if c.evicted == nil {
		return
	}
	for _, d := range c.holders.items {
		if !c.evicted.Token.OlderThan(d.token) {
			return
		}
	}
	c.effects = append(c.effects, AcknowledgeEviction{
		UID: c.evicted.UID, Token: c.evicted.Token, Finals: c.finalsUpTo(c.evicted),
	})
	c.evicted = nil
}

// finalsUpTo returns how far those came that an eviction voids, also if they had stopped before: who evicts hears
// nothing else of this host.
func (c *Core) finalsUpTo(eviction *Evicted) []message.Status {
	if string(eviction.UID) != c.gate.Held().UID {
		return nil
	}
	var out []message.Status
	for i := range c.memory.finals {
		if final := &c.memory.finals[i]; !eviction.Token.OlderThan(final.Token) {
			out = append(out, *final)
		}
	}
	return out
}

// tick does what is due by time; the heartbeat is sent by Step.
func (c *Core) tick(now changefeed.Time) {
	if at, quiet := c.retireDue(); quiet && now >= at {
		c.retire()
	}
	for _, d := range c.holders.items {
		if d.graceEnds != 0 && now >= d.graceEnds {
			c.cancel(now, d)
		}
	}
}
