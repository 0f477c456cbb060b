package maintainer

import (
	"cmp"
	"errors"
	"slices"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// advanceActive works on the difference between what is wanted and what runs.
func (c *Core) advanceActive() {
	if c.wish == wishPause || c.wish == wishRemove {
		c.stopAll()
		c.advanceStopping()
		return
	}
	c.adoptAnswers()
	if c.phase == phaseActive && c.tooSoon() {
		return
	}
	if c.phase == phaseActive {
		c.work()
	}
	if c.phase != phaseActive {
		return
	}
	c.rearrange()
	c.followTraffic()
	c.balance()
	c.advanceMotions()
	c.place()
	c.progress()
	c.advanceBarrier()
	c.poll()
	c.watchStall()
}

// When more spans than workSmall are under way they are not all looked at with every message, but every workPause:
// else 10,000 spans of a lost node would be looked at 10,000 times.
const (
	workSmall = 256
	workPause = 10 * millisecond
)

// tooSoon reports whether the many spans that are under way were looked at a moment ago.
func (c *Core) tooSoon() bool {
	if len(c.cover.unsettled) > workSmall && c.now.At.Sub(c.workedAt) < workPause {
		return true
	}
	c.workedAt = c.now.At
	return false
}

// work asks again for what was asked and not confirmed, and gives up what lost nodes ran.
func (c *Core) work() {
	c.askHosts()
	c.stopOrphans()
	c.askSilent()
	c.abandonSilent()
	c.evict()
	c.hosts = slices.DeleteFunc(c.hosts, func(h *host) bool {
		return h.gone && h.placed == 0 && c.now.At.Sub(h.goneAt) >= c.cfg.SessionTTL
	})
	c.dropEvictionsOfGone()
	for _, cell := range slices.Clone(c.cover.unsettled) {
		switch cell.state {
		case cellLost:
			if c.lostForGood(cell.host) {
				c.becomeAbsent(cell)
			}
		case cellStopping:
			c.resend(cell, c.stopOf(cell))
		case cellStarting:
			if c.phase == phaseActive && c.doubt.effect == nil && !cell.host.eviction.pending() {
				c.resendPlace(cell)
			}
		case cellAbsent, cellRunning:
		}
	}
}

func (c *Core) resend(cell *cell, body message.Body) {
	if cell.next > c.now.At {
		return
	}
	cell.next = c.now.At.Add(c.delay(cell.tries))
	cell.tries = raise(cell.tries)
	c.send(cell.host, body)
}

// resendPlace asks again under the same token, if it is one of this epoch; an adopted one is only asked about.
func (c *Core) resendPlace(cell *cell) {
	if cell.next > c.now.At {
		return
	}
	if c.epoch().Confirm(cell.token.Epoch()) != nil {
		cell.next = c.now.At.Add(c.cfg.ResendMax)
		c.listStatuses(cell.host)
		return
	}
	c.resend(cell, message.Place{
		Seq: cell.token.Seq(), Span: cell.span, From: cell.mark, Floor: c.report.stored.Status.Checkpoint,
		Barrier: c.barrier(),
	})
}

// place gives every absent span that may run to the least loaded host.
func (c *Core) place() {
	c.cutGaps()
	if !c.mayPlace() {
		return
	}
	var absent []*cell
	for _, cell := range c.cover.unsettled {
		if cell.state == cellAbsent && cell.next <= c.now.At && c.motionOf(cell) == nil {
			absent = append(absent, cell)
		}
	}
	if len(absent) == 0 {
		return
	}
	hosts := c.candidates()
	if len(hosts) == 0 {
		return
	}
	slices.SortFunc(absent, func(a, b *cell) int { return a.span.Compare(b.span) })
	blocked, free := c.blocked(), c.rangeIsFree()
	placed := 0
	for _, cell := range absent {
		if placed >= placeBurstMax {
			return
		}
		if (cell.unknown && !free) || overlapsAny(blocked, cell.span) {
			continue
		}
		cell.mark = c.finals.low(cell.span, cell.mark)
		c.seq++
		placed++
		c.becomeStarting(cell, c.leastLoaded(hosts), fence.Mint(c.epoch(), c.seq))
		c.resendPlace(cell)
	}
}

// mayPlace reports whether anything may be placed now.
func (c *Core) mayPlace() bool { return c.report.armed && c.doubt.effect == nil && !c.leaving() }

// leastLoaded returns the host with the fewest spans of this changefeed, this node if it is one of them: as changefeeds are
// spread over the nodes, so are the spans of those that have but one.
func (c *Core) leastLoaded(hosts []*host) *host {
	elsewhere := func(h *host) int {
		if h.id == c.cfg.Node {
			return 0
		}
		return 1
	}
	return slices.MinFunc(hosts, func(a, b *host) int {
		return cmp.Or(cmp.Compare(a.placed, b.placed), elsewhere(a)-elsewhere(b), cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
	})
}

// candidates returns the hosts that may be given spans: bootstrapped, heard of, and not being emptied if another can.
func (c *Core) candidates() []*host {
	var usable, preferred []*host
	for _, h := range c.hosts {
		if !h.usable() {
			continue
		}
		usable = append(usable, h)
		if h.liveness != record.Draining && !c.silent(h) && !c.cutOff(h) {
			preferred = append(preferred, h)
		}
	}
	if len(preferred) > 0 {
		return preferred
	}
	return usable
}

// cutGaps brings ranges that nobody runs to the wanted borders. One whose placement was refused keeps its delay first.
func (c *Core) cutGaps() {
	if len(c.splitKeys) == 0 || len(c.cover.unsettled) == 0 {
		return
	}
	for _, cell := range slices.Clone(c.cover.unsettled) {
		if cell.state == cellAbsent && cell.refusals == 0 && c.motionOf(cell) == nil {
			c.cover.cut(cell, c.splitKeys)
		}
	}
}

// receive takes in a message of a host.
func (c *Core) receive(env message.Envelope) {
	if env.UID != c.own.Record.UID || c.phase < phaseAsking || c.phase >= phaseReleasing {
		return
	}
	if err := c.epoch().Confirm(env.Epoch); err != nil { // fence:F17
		c.emit(Refused{Rule: refusedEpoch})
		if errors.Is(err, fence.ErrDeposed) {
			c.doubtHearsay()
		}
		return
	}
	h := c.host(env.From)
	if h == nil {
		return
	}
	switch body := env.Body.(type) {
	case message.BootstrapReply:
		c.onAnswer(h, body)
	case message.Statuses:
		c.onStatuses(h, body)
	case message.Heartbeat:
		c.onHeartbeat(h, body)
	case message.Closed:
		c.onClosed(h)
	case message.Rejected:
		c.onRejected(h, body)
	}
	c.heardOf(h)
}

// onAnswer takes in the answer to a Bootstrap. A second one counts as statuses only.
func (c *Core) onAnswer(h *host, reply message.BootstrapReply) {
	if h.gone {
		return
	}
	if h.answered {
		c.onStatuses(h, message.Statuses{Statuses: reply.Dispatchers})
		return
	}
	h.answered, h.asks, h.reply = true, 0, reply.Dispatchers
}

func (c *Core) onStatuses(h *host, body message.Statuses) {
	if c.cover == nil || len(h.reply) > 0 {
		return // what it said first was not taken in yet
	}
	for i := range body.Statuses {
		c.onStatus(h, &body.Statuses[i])
	}
	if body.Full {
		c.recount(h, body.Statuses)
	}
}

// onHeartbeat takes in what changed, and then the watermark, if it speaks of exactly what runs there.
func (c *Core) onHeartbeat(h *host, beat message.Heartbeat) {
	if beat.Number <= h.number || c.cover == nil || len(h.reply) > 0 {
		return
	}
	h.number, h.barrier.holds = beat.Number, beat.Held.Position
	for i := range beat.Changed {
		c.onStatus(h, &beat.Changed[i])
	}
	if h.gone {
		return
	}
	if beat.Set != h.set { // fence:F18 watermark
		c.emit(Refused{Rule: refusedStatus})
		c.listStatuses(h)
		return
	}
	if h.set.Count > 0 {
		h.mark = max(h.mark, beat.Checkpoint)
		h.resolved = max(h.resolved, beat.Resolved)
		c.onHeld(h, beat.Held)
	}
}

// listStatuses asks a host for everything that it runs, paced.
func (c *Core) listStatuses(h *host) {
	if h.nextList > c.now.At || h.gone || !h.answered {
		return
	}
	h.nextList = c.now.At.Add(2 * c.cfg.Heartbeat)
	c.send(h, message.ListStatuses{})
}

// poll asks for everything now and then, so that people see how far each span is. The more there is, the rarer.
func (c *Core) poll() {
	pause := pollMin * changefeed.Duration(1+c.cover.len()/pollSpans)
	for _, h := range c.hosts {
		if h.placed > 0 && !h.gone && c.now.At.Sub(h.nextList) >= pause {
			c.listStatuses(h)
		}
	}
}

// recount takes the host's watermark from its cells' own marks, when all of them were told. One that is missing twice
// in a row is not running there, whatever became of the message that said so; once may be an older list that came late.
// All cells are looked at only if one is missing.
func (c *Core) recount(h *host, statuses []message.Status) {
	present, lowest := uint64(0), h.mark
	for i := range statuses {
		cell := c.cellOf(h, &statuses[i])
		if cell == nil || cell.state != cellRunning {
			continue
		}
		cell.tries = 0
		if whole := cell.mark.Whole(); present == 0 || whole < lowest {
			lowest = whole
		}
		present++
	}
	if present == h.set.Count {
		h.mark = max(h.mark, lowest)
		return
	}
	c.recountAll(h, statuses)
}

func (c *Core) recountAll(h *host, statuses []message.Status) {
	told := make(map[fence.Token]bool, len(statuses))
	for i := range statuses {
		told[statuses[i].Token] = true
	}
	first := true
	lowest := h.mark
	var missing []*cell
	c.cover.each(func(cell *cell) bool {
		if cell.host != h || cell.state != cellRunning {
			return true
		}
		if told[cell.token] {
			cell.tries = 0
		} else if cell.tries++; cell.tries >= missingMax {
			missing = append(missing, cell)
		}
		if whole := cell.mark.Whole(); first || whole < lowest {
			lowest, first = whole, false
		}
		return true
	})
	h.mark = max(h.mark, lowest)
	for _, cell := range missing {
		c.becomeStopping(cell)
	}
}
