package dispatcher

import (
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// CoreConfig is what a core is told when it is made.
type CoreConfig struct {
	ID   changefeed.ID
	Node changefeed.NodeID // of this host
	// Legacy says that the cluster's feature level is still that of an upgrade from a version without epochs (F14).
	Legacy bool
	// Memory bounds what is remembered of dispatchers that are gone.
	Memory MemoryBounds
}

// Core decides for one changefeed name on one host: what is admitted, what runs, and what the owner is told. It is a
// pure state machine without goroutine, lock, clock or I/O.
//
// Invariants, after every Step: the spans of pumps that were started and have not ended never overlap; a token that
// was stopped, evicted or replaced is never started; nothing runs for a changefeed of another uid than the gate's.
type Core struct {
	config CoreConfig
	gate   fence.Gate
	listed bool
	leaves bool // nothing is admitted any more
	ended  bool // the session is over

	noticed fence.Claimant // what the gate held when its last raise was acted upon
	deleted bool           // the record of the held uid is gone

	terms  *terms  // of the Bootstrap at the held epoch; nil until one was admitted
	asking *ask    // the Bootstrap whose epoch is being read
	next   *ask    // the newest Bootstrap that came meanwhile
	closer *closer // who asked to close, at the held epoch
	asked  uint64  // requests of reads so far

	live    map[fence.Token]*dispatcher
	holders spanSet // those whose pump was started and has not ended
	waiting spanSet // those that wait for an overlapping lower token's pump to end

	memory  memory
	hold    hold
	void    fence.Token // every token at or below it is void on this host
	evicted *Evicted    // the eviction that is not acknowledged yet

	report  report
	effects []Effect
}

// terms are what a Bootstrap brought.
type terms struct {
	spec         record.Spec
	specRevision int64
	sourceID     string
}

// ask is a Bootstrap that waits for the records to confirm it.
type ask struct {
	request  uint64
	envelope message.Envelope
}

// closer is the owner that asked to close. It is answered when nothing runs any more.
type closer struct {
	claimant fence.Claimant
	answered bool
}

// NewCore returns a core that holds nothing and admits nothing before [Listed].
func NewCore(config CoreConfig) *Core {
	core := &Core{config: config, live: make(map[fence.Token]*dispatcher), memory: memory{bounds: config.Memory.withDefaults()}}
	if config.Legacy {
		core.gate = fence.NewLegacyGate()
	}
	return core
}

// Step takes an input in and returns what is to be done, in order. The core keeps nothing of it: an answer to a Bootstrap
// may be large.
func (c *Core) Step(now changefeed.Time, input Input) []Effect {
	c.step(now, input)
	effects := c.effects
	c.effects = nil
	return effects
}

func (c *Core) step(now changefeed.Time, input Input) {
	if c.ended {
		c.afterSession(now, input)
		return
	}
	switch in := input.(type) {
	case Listed:
		c.listed = true
	case Upgraded:
		c.gate.EndLegacy()
	case Deliver:
		c.deliver(now, in.Envelope)
	case Observed:
		c.gate.Observe(in.Record.Claimant())
	case RecordDeleted:
		c.recordDeleted(now, in.Record)
	case RecordAnswer:
		c.recordAnswer(now, in)
	case Evicted:
		c.evict(now, in)
	case Reported:
		c.reported(in)
	case DispatcherEnded:
		c.dispatcherEnded(now, in)
	case Leaving:
		c.leave(now)
	case SessionEnded:
		c.sessionEnded(now)
	case Tick:
		c.tick(now)
	}
	c.settle(now)
	if _, reported := input.(Reported); !reported { // what many report goes together, at the tick that Due asks for
		c.heartbeat(now)
	}
	c.answerClose()
}

// settle does what follows from the new state, whatever the input was.
func (c *Core) settle(now changefeed.Time) {
	c.noticeRaise(now)
	c.retryAsk(now)
	c.startWaiting()
	c.acknowledge()
}

// Due returns when the core wants its next [Tick]; false if it has nothing to wait for.
func (c *Core) Due() (changefeed.Time, bool) {
	if c.ended {
		return 0, false
	}
	due, found := c.heartbeatDue()
	if at, quiet := c.retireDue(); quiet && !found {
		due, found = at, true
	}
	for _, d := range c.holders.items {
		if d.state != message.DispatcherStopping || d.cancelled || d.graceEnds == 0 {
			continue
		}
		if !found || d.graceEnds < due {
			due, found = d.graceEnds, true
		}
	}
	return due, found
}

// Idle reports whether the core holds nothing that a new core, told the records, would not find out by itself. Then it
// may be forgotten.
func (c *Core) Idle() bool {
	held := c.gate.Held()
	switch {
	case len(c.live) > 0 || c.asking != nil || c.evicted != nil || c.terms != nil:
		return false
	case c.deleted:
		return true // a new core asks the records, which no longer have this uid
	case c.gate.Removed():
		return false
	case !c.void.IsZero() && !c.void.Epoch().OlderThan(held.Epoch):
		return false
	case held.Owner == "":
		return true
	default:
		return c.closer == nil && c.memory.empty()
	}
}

// Running returns how many pumps were started and have not ended.
func (c *Core) Running() int { return len(c.holders.items) }

// noticeRaise does what follows when the gate holds another claimant than before: a watched record does that at once,
// bootstrap or not. What runs goes on, and obeys nobody until the new owner adopts it by a Bootstrap.
func (c *Core) noticeRaise(now changefeed.Time) {
	before, held := c.noticed, c.gate.Held()
	if held == before {
		return
	}
	c.noticed = held
	c.terms, c.closer, c.deleted = nil, nil, false
	for len(c.waiting.items) > 0 { // admitted under the older epoch, without an effect so far
		c.drop(c.waiting.items[0])
	}
	c.memory.forgetEpoch()
	c.report.reset()
	c.forgetDecisions()
	if held.Owner == "" || held.UID != before.UID { // fence:F13
		c.cancelAll(now)
		c.memory.finals = nil
		c.report.synced = 0
	}
}

// recordDeleted takes in that the changefeed's record is gone.
func (c *Core) recordDeleted(now changefeed.Time, last record.Epoch) {
	c.gate.Observe(last.Claimant())
	c.noticeRaise(now)
	if c.gate.Held().UID == string(last.UID) { // fence:F13
		c.gate.Remove()
		c.deleted = true
		c.terms = nil
		c.memory.finals = nil
		c.cancelAll(now)
	}
}

// leave lets what is in flight finish. Nobody is told: who waits for an answer sees the node's record go.
func (c *Core) leave(now changefeed.Time) {
	c.leaves = true
	c.terms, c.asking, c.next, c.closer = nil, nil, nil, nil
	c.report.reset()
	for len(c.waiting.items) > 0 {
		c.drop(c.waiting.items[0])
	}
	for _, d := range c.holders.items {
		c.stopHolder(now, d, message.Stop{Token: d.token})
	}
}

// sessionEnded stops everything for good. Nobody is told: the node comes back under another id.
func (c *Core) sessionEnded(now changefeed.Time) {
	c.ended = true
	c.terms, c.asking, c.next, c.closer, c.evicted = nil, nil, nil, nil, nil
	c.report.reset()
	c.cancelAll(now)
}

// afterSession only takes in that pumps end.
func (c *Core) afterSession(_ changefeed.Time, input Input) {
	if in, ok := input.(DispatcherEnded); ok {
		if d := c.live[in.Token]; d != nil {
			delete(c.live, in.Token)
			c.holders.remove(d)
		}
	}
}
