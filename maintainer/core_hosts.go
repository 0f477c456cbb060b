package maintainer

import (
	"cmp"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// resolveStart finds out where a changefeed without a checkpoint starts, and asks the source once what `now` is.
func (c *Core) resolveStart() {
	spec := &c.spec.Spec
	leaving := c.wish == wishPause || c.wish == wishRemove // it never started, and does not start now
	switch {
	case c.serial.is && c.report.sourceID == "" && !leaving:
		c.become(phaseResolving)
		c.ask(ResolveStart{})
		return
	case spec.StartPosition != nil:
		c.start = change.At(*spec.StartPosition)
	case c.report.start != nil:
		c.start = change.At(*c.report.start)
	case spec.Start == record.StartSnapshot:
	case spec.Start == record.StartNow:
		if leaving {
			break
		}
		c.become(phaseResolving)
		c.ask(ResolveStart{})
		return
	default:
		position, err := change.ParsePosition(spec.Start)
		if err != nil {
			c.fail(&changefeed.Fault{
				Code: changefeed.CodeRecordInvalid, Field: "start", Detail: "is not now, snapshot or a position", Err: err,
				Cure: "remove the changefeed and create it anew", Permanent: true,
			})
			return
		}
		c.start = change.At(position)
	}
	c.list()
}

// onStart takes in what `now` is. It is stored before anything is placed: a later owner must start there too.
func (c *Core) onStart(in StartResolved) {
	if c.phase != phaseResolving || c.resolved() {
		return
	}
	if in.Err != nil {
		c.sourceFailed(in.Err)
		return
	}
	c.step = retried{}
	c.report.sourceID = cmp.Or(c.report.sourceID, in.SourceID)
	switch spec := &c.spec.Spec; {
	case spec.StartPosition != nil:
		c.start = change.At(*spec.StartPosition)
	case c.report.start != nil:
		c.start = change.At(*c.report.start)
	case spec.Start != record.StartSnapshot:
		position := in.Position
		c.report.start, c.start = &position, change.At(position)
	}
}

// advanceResolving stops waiting for the source when the changefeed is to be paused or removed.
func (c *Core) advanceResolving() {
	if (c.wish == wishPause || c.wish == wishRemove) && !c.resolved() {
		c.list()
	}
}

func (c *Core) list() {
	c.serveLog()
	c.become(phaseListing)
	c.ask(ListNodes{})
}

// base is how far everything is done, whatever else is known.
func (c *Core) base() change.Mark { return change.Later(change.At(c.report.checkpoint), c.start) }

// onListed begins the bootstrap: every node that is alive after the bump is asked for what it runs.
func (c *Core) onListed(in NodesListed) {
	if c.phase != phaseListing {
		return
	}
	if in.Err != nil {
		c.later(&c.step)
		return
	}
	c.become(phaseAsking)
	c.listedAt = c.now.At
	c.report.spansBefore = c.report.stored.Status.Spans
	c.onNodes(in.Nodes)
}

// onNodes takes in which nodes there are. A list that is older than what is known changes nothing.
func (c *Core) onNodes(nodes Nodes) {
	if c.phase < phaseAsking || nodes.Revision < c.nodes {
		return
	}
	c.nodes = nodes.Revision
	present := make(map[changefeed.NodeID]bool, len(nodes.Nodes))
	var first []host // those of a start are made together: 10,000 changefeeds on 100 nodes have a million
	if len(c.hosts) == 0 {
		first, c.hosts = make([]host, len(nodes.Nodes)), make([]*host, 0, len(nodes.Nodes))
	}
	for i := range nodes.Nodes {
		node := &nodes.Nodes[i]
		present[node.ID] = true
		at, found := c.find(node.ID)
		if !found {
			h := &host{}
			if len(first) > 0 {
				h, first = &first[0], first[1:]
			}
			*h = host{id: node.ID, name: node.Name, nextAsk: c.now.At, away: true}
			c.hosts = slices.Insert(c.hosts, at, h)
			c.takeEvictions(node.ID)
		}
		h := c.hosts[at]
		h.name, h.liveness = node.Name, node.Liveness
	}
	c.seeLinks(nodes.Nodes)
	for _, h := range c.hosts {
		if !present[h.id] && !h.gone {
			c.loseHost(h)
		}
	}
}

// loseHost takes in that a node's lease is gone. A node id never comes back.
func (c *Core) loseHost(h *host) {
	h.gone, h.goneAt = true, c.now.At // what it answered still says what it may be running
	if c.cover == nil || h.placed == 0 {
		return
	}
	c.cover.each(func(cell *cell) bool {
		if cell.host == h {
			c.becomeLost(cell)
		}
		return true
	})
}

// lostForGood reports whether what a lost node ran may be placed elsewhere.
func (c *Core) lostForGood(h *host) bool {
	if c.fencing == FencedByClaims && c.phase < phaseStopping { // fence:F19 claims shut it out
		return true
	}
	if h.liveness == record.Stopping { // fence:F19 it ended by itself
		return true
	}
	return c.now.At.Sub(h.goneAt) >= c.cfg.SessionTTL // fence:F19 its lease has been gone for one TTL
}

// rangeIsFree reports whether ranges that no answer spoke of may be placed: nobody that is not known can be running
// them any more.
func (c *Core) rangeIsFree() bool {
	if c.report.spansBefore == 0 {
		return true
	}
	for _, h := range c.hosts {
		if h.answered || h.cleared {
			continue
		}
		if h.gone && c.lostForGood(h) {
			continue
		}
		claimed := c.fencing == FencedByClaims && c.phase < phaseStopping
		if h.gone || !claimed || c.listened.Sub(h.askedAt) < c.answerWait(h) { // fence:F19 a node that never answered
			return false
		}
	}
	if c.fencing == FencedByClaims && c.phase < phaseStopping { // fence:F19 claims shut it out
		return true
	}
	return c.now.At.Sub(c.listedAt) >= c.cfg.SessionTTL // fence:F19 a node that was gone before it was listed
}

// answerWait is how long a host may take to answer its Bootstrap before claims shut it out: hardly any time if the
// records say that there is no link to it.
func (c *Core) answerWait(h *host) changefeed.Duration {
	if c.cutOff(h) {
		return c.cfg.Heartbeat
	}
	return c.cfg.AnswerWait
}

// askHosts sends Bootstraps to those who have not answered, with growing delays. Where nothing can be running, since
// nothing was ever placed, only as many are asked as there are spans, and one more, beginning with this node: 10,000 new
// changefeeds on 100 nodes would be a million questions. To stop everything all are asked.
func (c *Core) askHosts() {
	needed := len(c.hosts)
	if c.report.spansBefore == 0 && c.wish == wishNone {
		needed = c.spansWanted() + 1
	}
	own, _ := c.find(c.cfg.Node)
	for i := range c.hosts {
		h := c.hosts[(own+i)%len(c.hosts)]
		if needed <= 0 && h.asks == 0 {
			continue
		}
		if c.preferred(h) {
			needed--
		}
		if h.answered || h.gone || h.nextAsk > c.now.At {
			continue
		}
		if h.asks == 0 {
			h.askedAt, h.awaited = c.now.At, c.now.At
		}
		h.nextAsk = c.now.At.Add(c.delay(h.asks))
		h.asks = raise(h.asks)
		c.bootstrap(h)
	}
}

// spansWanted returns how many spans there are, or will be at once.
func (c *Core) spansWanted() int {
	if c.cover == nil {
		return 1 + len(c.splitKeys)
	}
	return max(c.cover.len(), 1+len(c.splitKeys))
}

// preferred reports whether nothing that is known speaks against giving a span to a host.
func (c *Core) preferred(h *host) bool {
	return !h.gone && !h.removed && !h.eviction.pending() && h.liveness == record.Alive && !c.silent(h) && !c.cutOff(h)
}

func (c *Core) bootstrap(h *host) {
	c.send(h, message.Bootstrap{
		Spec: c.spec.Spec, SpecRevision: c.generation, SourceID: c.report.sourceID,
		Checkpoint: c.report.stored.Status.Checkpoint,
	})
}

// onClosed takes in that nothing of the changefeed runs on a host. One that says so before it answered the Bootstrap was
// told by an earlier owner that the uid is removed: it runs nothing, and is given nothing.
func (c *Core) onClosed(h *host) {
	if c.phase == phaseClosing {
		h.closed = true
		return
	}
	if !h.answered {
		h.answered, h.removed = true, true
	}
}

// advanceAsking builds the cover when all answered, or when those who did not have been waited for: what they may run
// is a gap then.
func (c *Core) advanceAsking() {
	c.askHosts()
	if c.waitsForAnswers() {
		c.watchStall()
		return
	}
	c.buildCover()
	if c.phase != phaseAsking {
		return // an answer was an error
	}
	if c.wish == wishPause || c.wish == wishRemove {
		c.stopAll()
		return
	}
	c.become(phaseActive)
	c.advanceActive()
}

// waitsForAnswers reports whether somebody who was asked may still answer in time, and is waited for.
func (c *Core) waitsForAnswers() bool {
	answered, waits := 0, false
	for _, h := range c.hosts {
		if h.answered {
			answered++
		}
		waits = waits || (h.asks > 0 && !h.answered && !h.gone && c.listened.Sub(c.since) < c.answerWait(h))
	}
	enough := c.report.spansBefore == 0 && answered >= c.spansWanted()
	return waits && !enough
}

// told is what one host said of one dispatcher.
type told struct {
	host   *host
	token  fence.Token
	status *message.Status
}

// buildCover makes the cover from the answers: per range the highest token wins.
func (c *Core) buildCover() {
	c.cover = newCover(c.whole, c.base())
	c.adoptAnswers()
}

// adoptAnswers takes in the answers to Bootstraps that were not taken in yet, also of nodes that joined or answered
// late: what lies over ranges that nobody runs is adopted, all else is stopped.
func (c *Core) adoptAnswers() (some bool) {
	count := 0
	for _, h := range c.hosts {
		count += len(h.reply)
	}
	if count == 0 {
		return false
	}
	all := make([]told, 0, count)
	for _, h := range c.hosts {
		for i := range h.reply {
			all = append(all, told{host: h, token: h.reply[i].Token, status: &h.reply[i]})
		}
		h.reply = nil
	}
	slices.SortStableFunc(all, func(a, b told) int { return b.token.Compare(a.token) })
	for _, item := range all {
		c.adoptOne(item.host, item.status)
	}
	return true
}

func (c *Core) adoptOne(h *host, status *message.Status) {
	switch status.State {
	case message.DispatcherStopped, message.DispatcherFailed:
		if status.Known {
			c.finals.add(status.Span, status.Mark, status.Token)
		}
		return
	case message.DispatcherStopping:
		c.condemn(h, status)
		return
	case message.DispatcherStarting, message.DispatcherRunning:
	default:
		return
	}
	if status.SpecRevision != c.generation || !status.Span.Valid() || !c.whole.Encloses(status.Span) {
		c.condemn(h, status)
		return
	}
	if status.Token.OlderThan(c.finals.newest(status.Span)) { // a higher token ran there, and stopped
		c.condemn(h, status)
		return
	}
	cell := c.cover.carve(status.Span)
	if cell == nil { // overlaps a higher token
		c.condemn(h, status)
		return
	}
	cell.mark = change.Later(cell.mark, c.base())
	c.sync.found = max(c.sync.found, status.Barrier)
	c.becomeStarting(cell, h, status.Token)
	cell.next = c.now.At.Add(c.cfg.ResendMax)
	cell.changes, cell.bytes = status.Changes, status.Bytes // those were counted by former owners
	if h.gone {
		c.measure(cell, status)
		c.becomeLost(cell)
		return
	}
	c.onStatus(h, status)
}
