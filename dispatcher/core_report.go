package dispatcher

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

const (
	// heartbeatEvery is the pace of heartbeats when nothing changes its state.
	heartbeatEvery = 500 * changefeed.Millisecond
	// heartbeatGap is the shortest time between two: what changes its state in between goes together.
	heartbeatGap = 10 * changefeed.Millisecond
	// emptyBeats is how many heartbeats tell that nothing runs here any more: one, and repetitions, since each may be
	// lost. Then the host is quiet, so that a changefeed costs nothing on the nodes where none of it runs. An owner that
	// still waits for something asks.
	emptyBeats = 3
	// lingerMax is how long a host that runs nothing remembers what the owner's Bootstrap said. A Place that comes later
	// is refused, and the owner sends its Bootstrap again.
	lingerMax = 60 * changefeed.Second
	// progressMax bounds how many dispatchers tell their progress in one heartbeat; the others come in turn. The
	// watermark speaks for all of them anyway. 100 hosts make 25,000 a second for a maintainer.
	progressMax = 128
	// changedMax bounds the states that one heartbeat tells, to keep the message small; the next one follows at once.
	changedMax = 1024
)

// covered is a dispatcher under the watermark, and how far it is: the minimum is found without a look at each of many
// dispatchers.
type covered struct {
	mark     change.Mark
	resolved change.Position
	highest  change.Position
	order    uint64      // of the hold that it obeys
	token    fence.Token // of d, at hand: idle dispatchers have equal marks
	d        *dispatcher
}

// report is what is to be told to the owner, and what was.
type report struct {
	set      message.Digest
	covered  []covered
	stale    bool        // the watermark is to be computed again
	lowest   *dispatcher // of the covered ones, by mark, then token
	mark     change.Position
	resolved change.Position
	highest  change.Position

	hold     hold // that the counts are about
	obeying  int  // covered ones that obey it
	standing int  // those of them that have come there
	synced   change.Position
	heldTold toldHeld

	states   []*dispatcher    // whose state changed, in that order
	ended    []message.Status // of those that are gone
	progress []*dispatcher    // whose progress is to be told, in turn

	number uint64
	next   changefeed.Time // when the next heartbeat is due by its pace
	last   changefeed.Time // when the last was sent
	empty  int             // heartbeats that are still to tell that nothing runs
	retire changefeed.Time // when the terms are forgotten, if nothing runs until then
}

// reset forgets what was to be told: the next owner asks for everything.
func (r *report) reset() {
	for _, d := range r.states {
		d.changed = false
	}
	r.states, r.ended = nil, nil
}

// begin starts the pace of heartbeats for an owner. If nothing runs here the answer to its Bootstrap said so.
func (r *report) begin(now changefeed.Time) {
	r.next, r.empty, r.retire = now, 0, now.Add(lingerMax)
}

// heartbeatDue returns when the next heartbeat is to be sent.
func (c *Core) heartbeatDue() (changefeed.Time, bool) {
	if c.terms == nil {
		return 0, false // nobody owns
	}
	r := &c.report
	if len(r.states) > 0 || len(r.ended) > 0 || c.heldDue() {
		return min(r.next, r.last.Add(heartbeatGap)), true
	}
	return r.next, !c.quiet()
}

// quiet reports whether nothing runs here, and the owner was told so often enough.
func (c *Core) quiet() bool { return len(c.live) == 0 && c.report.empty == 0 }

// retireDue returns when a quiet core, on which nothing of the held epoch ever ran, forgets what it was told to run.
func (c *Core) retireDue() (changefeed.Time, bool) {
	return c.report.retire, c.terms != nil && c.quiet() && len(c.report.ended) == 0 && c.memory.blank()
}

// retire forgets the owner's terms: a Place is refused from now on, until the owner has bootstrapped again. What ran under
// earlier epochs was told with the answer to its Bootstrap.
func (c *Core) retire() { c.terms, c.memory.finals = nil, nil }

// stateChanged has the dispatcher's state told with the next heartbeat, which is due at once.
func (r *report) stateChanged(d *dispatcher) {
	if !d.changed {
		d.changed = true
		r.states = append(r.states, d)
	}
	r.cover(d)
}

// progressed has the dispatcher's progress taken into the watermark, and told in its turn if the watermark does not say
// it: what was written, or read of a snapshot, or what it waits for. So a source that moves on elsewhere costs nothing.
func (r *report) progressed(d *dispatcher, before *Progress) {
	r.synced = max(r.synced, d.progress.Synced)
	r.cover(d)
	if d.covered == 0 {
		r.enqueue(d)
		return
	}
	one := &r.covered[d.covered-1]
	r.countHeld(one, -1)
	*one = progressOf(d)
	r.countHeld(one, 1)
	r.stale = true
	now := &d.progress
	if now.Changes != before.Changes || now.SnapshotRows != before.SnapshotRows || now.WaitingOn != before.WaitingOn ||
		now.Fault != before.Fault {
		r.enqueue(d)
	}
}

// cover puts a dispatcher that runs and knows its mark under the watermark.
func (r *report) cover(d *dispatcher) {
	if d.covered != 0 || d.state != message.DispatcherRunning || !d.progress.Known {
		return
	}
	r.covered = append(r.covered, progressOf(d))
	r.countHeld(&r.covered[len(r.covered)-1], 1)
	d.covered, r.stale = len(r.covered), true
	r.set.Add(d.span, d.token)
}

// uncover takes a dispatcher out from under the watermark.
func (r *report) uncover(d *dispatcher) {
	if d.covered == 0 {
		return
	}
	last := len(r.covered) - 1
	r.countHeld(&r.covered[d.covered-1], -1)
	r.covered[d.covered-1] = r.covered[last]
	r.covered[d.covered-1].d.covered = d.covered
	r.covered[last] = covered{}
	r.covered = r.covered[:last]
	d.covered, r.stale = 0, true
	r.set.Remove(d.span, d.token)
}

func (r *report) enqueue(d *dispatcher) {
	if !d.queued {
		d.queued = true
		r.progress = append(r.progress, d)
	}
}

// dequeue forgets a dispatcher that is gone.
func (r *report) dequeue(d *dispatcher) {
	r.uncover(d)
	d.changed, d.queued = false, false // the lists skip it
	if r.lowest == d {
		r.lowest = nil
	}
}

// watermark returns the minimum over the covered dispatchers. It looks at all of them only if one has moved.
func (r *report) watermark() (mark, resolved change.Position) {
	if !r.stale {
		return r.mark, r.resolved
	}
	r.stale, r.lowest, r.mark, r.resolved, r.highest = false, nil, 0, 0, 0
	var lowest *covered
	for i := range r.covered {
		one := &r.covered[i]
		if lowest == nil || lower(one, lowest) {
			lowest = one
		}
		r.highest = max(r.highest, one.highest)
		if i == 0 || one.resolved < r.resolved {
			r.resolved = one.resolved
		}
	}
	if lowest != nil {
		r.lowest, r.mark = lowest.d, lowest.mark.Whole()
	}
	return r.mark, r.resolved
}

// lower compares marks, then tokens, so that the order in which dispatchers were covered decides nothing.
func lower(a, b *covered) bool {
	if c := a.mark.Compare(b.mark); c != 0 {
		return c < 0
	}
	return a.token.OlderThan(b.token)
}

// tell sends one status to the owner at once, as the answer to what it asked. Without an owner that has bootstrapped
// here it is told with the BootstrapReply.
func (c *Core) tell(status message.Status) {
	switch {
	case c.ended || c.gate.Held().Owner == "" || (c.terms == nil && c.closer == nil):
	case status.State == message.DispatcherStopped || status.State == message.DispatcherFailed:
		c.report.ended = append(c.report.ended, status)
	default:
		c.send(message.Statuses{Statuses: []message.Status{status}})
	}
}

// heartbeat sends what is due.
func (c *Core) heartbeat(now changefeed.Time) {
	due, owned := c.heartbeatDue()
	if !owned {
		c.tellEnded()
		return
	}
	if now < due {
		return
	}
	r := &c.report
	checkpoint, resolved := r.watermark()
	// The number rises over the life of the host, also when this core is forgotten and made again, since it is never
	// below the host's own clock.
	r.number = max(r.number+1, uint64(max(now, 0)))
	c.send(message.Heartbeat{
		Number: r.number, Set: r.set, Checkpoint: checkpoint, Resolved: resolved, Changed: c.changedStatuses(now),
		Held: c.held(),
	})
	r.heldTold = c.heldNow()
	r.last, r.next, r.retire = now, now.Add(heartbeatEvery), now.Add(lingerMax)
	if len(c.live) > 0 {
		r.empty = emptyBeats
	} else {
		r.empty = max(r.empty-1, 0)
	}
}

// tellEnded tells an owner that has closed, and so gets no heartbeats, how what it stopped has ended.
func (c *Core) tellEnded() {
	if len(c.report.ended) > 0 {
		c.send(message.Statuses{Statuses: c.report.ended})
		c.report.ended = nil
	}
}

// changedStatuses takes what the next heartbeat tells: ends, changed states, and some progress, each dispatcher once.
// The dispatcher that holds the watermark is always among them, so that the owner knows what it waits for.
func (c *Core) changedStatuses(now changefeed.Time) []message.Status {
	r := &c.report
	n := min(len(r.ended), changedMax)
	told := append([]message.Status(nil), r.ended[:n]...)
	r.ended = append([]message.Status(nil), r.ended[n:]...)

	included := make(map[*dispatcher]struct{})
	include := func(d *dispatcher) {
		if _, found := included[d]; !found && c.ours(d) {
			included[d] = struct{}{}
			told = append(told, c.status(now, d))
		}
	}
	taken := 0
	for ; taken < len(r.states) && len(told) < changedMax; taken++ {
		if d := r.states[taken]; d.changed {
			d.changed = false
			d.queued = d.queued && d.state != message.DispatcherRunning // its progress is told with this
			include(d)
		}
	}
	r.states = append([]*dispatcher(nil), r.states[taken:]...)

	taken = 0
	var again []*dispatcher
	for ; taken < len(r.progress) && taken < progressMax; taken++ {
		d := r.progress[taken]
		if !d.queued {
			continue
		}
		d.queued = false
		include(d)
		if d.state != message.DispatcherRunning { // what it waits for is told again
			d.queued = true
			again = append(again, d)
		}
	}
	r.progress = append(append([]*dispatcher(nil), r.progress[taken:]...), again...)
	if r.lowest != nil {
		include(r.lowest)
	}
	return told
}

// ours reports whether a dispatcher is of the held uid. One of a former uid may still have a write in flight; what it did
// means nothing to the owner of another changefeed.
func (c *Core) ours(d *dispatcher) bool { return string(d.uid) == c.gate.Held().UID }

// statuses returns everything that the host knows of this changefeed's dispatchers: what lives, and what is gone.
func (c *Core) statuses(now changefeed.Time) []message.Status {
	out := make([]message.Status, 0, len(c.live)+len(c.memory.finals))
	for _, d := range c.holders.items {
		if c.ours(d) {
			out = append(out, c.status(now, d))
		}
	}
	for _, d := range c.waiting.items {
		out = append(out, c.status(now, d))
	}
	return append(out, c.memory.finals...)
}

// status says what a dispatcher does.
func (c *Core) status(now changefeed.Time, d *dispatcher) message.Status {
	p := &d.progress
	status := message.Status{
		Span: d.span, Token: d.token, SpecRevision: d.specRevision, State: d.state,
		Mark: p.Mark, Known: p.Known, Resolved: p.Resolved, Fault: p.Fault, SourceID: p.SourceID,
		SnapshotRows: p.SnapshotRows, SnapshotTotal: p.SnapshotTotal, Changes: p.Changes, Bytes: p.Bytes,
		WaitingOn: p.WaitingOn, Barrier: c.barrierOf(d), Age: now.Sub(d.since).Truncate(changefeed.Second),
	}
	if p.RateAt != 0 && now.Sub(p.RateAt) < 2*rateWindow { // else it has written nothing since
		status.Rate = p.Rate
	}
	if p.WaitingOn != "" {
		status.WaitingFor = max(now.Sub(p.WaitingSince), 0)
	}
	return status
}
