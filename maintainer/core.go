package maintainer

import (
	"cmp"
	"errors"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
)

// phase is what a maintainer is at. It only ever moves on.
type phase uint8

const (
	phaseNew       phase = iota
	phaseOpening         // reads spec and status, opens sink and source
	phaseRaising         // raises the floor in the sink (F26)
	phaseReading         // reads the status that it carries on
	phaseResolving       // turns start=now into a position, and stores it
	phaseListing         // lists the live nodes
	phaseAsking          // asks each for what runs
	phaseActive          // works on the difference between the cover and what runs
	phaseStopping        // stops everything, and waits for the final marks
	phaseStoring         // stores the final checkpoint
	phaseShutting        // shuts the sink: floor above this epoch, or removed
	phaseClosing         // has the hosts forget a removed changefeed
	phaseReleasing       // stores the final status
	phaseEnded
)

// wish is why a maintainer is to end. A stronger one replaces a weaker one.
type wish uint8

const (
	wishNone     wish = iota
	wishHandOver      // dispatchers run on, and are adopted by the next owner
	wishPause
	wishRemove
	wishFail // an error; stops everything and ends in state retrying or failed
)

// Core runs one changefeed at one epoch. It is a pure state machine: no goroutine, lock, clock or I/O. It never has
// more than one request of a kind under way. What it wants stored is stored before what depends on it is sent.
//
// Invariants: the cover never overlaps and has no gap; a stored checkpoint never decreases; nothing is placed before
// the floor was raised and a status of this epoch with a number of spans is stored; after the final status nothing is
// done any more.
type Core struct {
	cfg Config
	own Ownership

	now Now
	out []Effect
	// listened is until when what has arrived was taken in: nobody was silent for longer than up to then, however long
	// it takes to take in what a million spans' hosts say.
	listened changefeed.Time

	phase phase
	wish  wish
	since changefeed.Time // of the phase
	step  retried         // the request that the phase waits for

	spec    StoredSpec
	fencing Fencing
	serial  serialLog
	whole   changefeed.Span
	start   change.Mark // where a changefeed without a checkpoint starts

	hosts       []*host // by id
	nodes       int64   // store revision of the newest list of nodes
	listedAt    changefeed.Time
	cover       *cover // nil until it is built
	orphans     *orphans
	finals      *finals
	stopping    map[fence.Token]*cell
	waiting     map[*cell]waiting
	faulty      map[*cell]changefeed.Time             // running cells whose dispatchers try again after an error, and since when
	evictions   map[changefeed.NodeID]record.Eviction // whose records are stored, as far as was told
	seq         fence.Seq
	doubt       retried         // about the ownership: the record is being read
	hearsay     bool            // a message spoke of a newer owner
	nextHearsay changefeed.Time // when that may raise a doubt again
	workedAt    changefeed.Time // when all spans that are under way were looked at
	stallSeenAt changefeed.Time // when it was looked at why nothing goes on
	leavingAt   changefeed.Time // since when this node stops; 0: it does not
	nextBalance changefeed.Time
	nextBorders changefeed.Time
	motions     []*motion
	traffic     traffic
	changedAt   changefeed.Time // when nodes came or went last, as far as this node has seen
	nodesNoted  bool
	splitKeys   [][]byte // where the spec wants borders
	mergeKeys   [][]byte // where it wants none
	generation  int64    // of the spec
	stale       int      // stale answers in a row

	report report
	sync   syncing
}

// retried is a request that is made again until it is answered as wanted.
type retried struct {
	effect Effect
	asked  bool // under way
	tries  uint8
	next   changefeed.Time
}

// NewCore returns the core of an ownership. Its first input is Started.
func NewCore(cfg Config, own Ownership) *Core {
	return &Core{
		cfg: cfg, own: own, orphans: newOrphans(), finals: newFinals(),
		stopping: make(map[fence.Token]*cell), waiting: make(map[*cell]waiting), faulty: make(map[*cell]changefeed.Time),
		evictions: make(map[changefeed.NodeID]record.Eviction), traffic: newTraffic(),
		report: report{heads: heads{most: max(cfg.HeadsMax, 2)}},
	}
}

// Step takes in what happened and returns what is to be done, in order.
func (c *Core) Step(now Now, in Input) []Effect {
	if c.phase == phaseEnded {
		return nil
	}
	c.now, c.out = now, nil
	c.take(in)
	c.advance()
	c.storeStatus()
	c.finishLeaving()
	return c.out
}

func (c *Core) take(in Input) {
	switch in := in.(type) {
	case Started:
		c.changedAt = in.NodesChangedAt
		c.become(phaseOpening)
		c.ask(ReadRecords{})
	case Ticked:
		c.listened = cmp.Or(in.Listened, c.now.At)
	case HandoffRequested:
		c.onHandoff(in.Handoff)
	case NodeLeaves:
		c.onLeave()
	case NodesWatched:
		c.onNodes(in.Nodes)
	case Received:
		c.receive(in.Envelope)
	case RecordsRead:
		c.onRecords(in)
	case Opened:
		c.onOpened(in)
	case Raised:
		c.onRaised(in)
	case StartResolved:
		c.onStart(in)
	case NodesListed:
		c.onListed(in)
	case SinkRemoved:
		c.onSinkRemoved(in)
	case SourceDropped:
		c.onSourceDropped(in)
	case StatusWritten:
		c.onWritten(in)
	case StatusRead:
		c.onStatusRead(in)
	case EpochRead:
		c.onEpoch(in)
	case EvictionSeen:
		c.onEviction(in)
	case EvictionPut:
		c.onEvictionPut(in)
	case EvictionDropped:
		c.onEvictionDropped(in)
	case SyncRead:
		c.onSyncRead(in)
	}
}

// advance does what follows from the state and the time.
func (c *Core) advance() {
	c.askAgain(&c.step)
	c.weighHearsay()
	c.askAgain(&c.doubt)
	switch c.phase {
	case phaseNew, phaseOpening, phaseRaising, phaseReading, phaseListing, phaseEnded:
	case phaseResolving:
		c.advanceResolving()
	case phaseAsking:
		c.advanceAsking()
	case phaseActive:
		c.advanceActive()
	case phaseStopping:
		c.advanceStopping()
	case phaseStoring, phaseShutting, phaseReleasing: // their writes and answers move them on
	case phaseClosing:
		c.advanceClosing()
	}
	if c.wish == wishHandOver && c.report.known && c.phase < phaseReleasing {
		c.releaseFor(changefeed.DesiredRunning)
	}
}

func (c *Core) become(next phase) {
	c.phase, c.since, c.step = next, c.now.At, retried{}
}

// end is the last thing that a core does.
func (c *Core) end(outcome Outcome) {
	if c.phase != phaseEnded {
		c.become(phaseEnded)
		c.emit(End{Outcome: outcome})
	}
}

func (c *Core) emit(effect Effect) { c.out = append(c.out, effect) }

// ask makes the request that the phase waits for.
func (c *Core) ask(effect Effect) {
	c.step = retried{effect: effect, asked: true}
	c.emit(effect)
}

// askAgain repeats a request whose delay is over.
func (c *Core) askAgain(r *retried) {
	if r.effect == nil || r.asked || c.now.At < r.next {
		return
	}
	r.asked = true
	c.emit(r.effect)
}

// later schedules a request again after its answer was an error. It reports how often it was tried.
func (c *Core) later(r *retried) int {
	r.asked = false
	r.next = c.now.At.Add(c.delay(r.tries))
	r.tries = raise(r.tries)
	return int(r.tries)
}

// delay returns how long to wait after so many tries.
func (c *Core) delay(tries uint8) changefeed.Duration {
	delay := c.cfg.ResendMin
	for range tries {
		if delay *= 2; delay >= c.cfg.ResendMax {
			return c.cfg.ResendMax
		}
	}
	return delay
}

// raise counts a try, without wrapping.
func raise(tries uint8) uint8 {
	if tries == 255 {
		return tries
	}
	return tries + 1
}

func (c *Core) epoch() fence.Epoch { return c.own.Record.Epoch }

// send sends a command under this epoch.
func (c *Core) send(h *host, body message.Body) {
	c.emit(Send{Envelope: message.Envelope{
		ID: c.own.ID, UID: c.own.Record.UID, Epoch: c.epoch(), From: c.cfg.Node, To: h.id, Body: body,
	}})
}

// onHandoff takes in what the coordinator asks for. What asks more replaces what asks less, until it can't any more.
func (c *Core) onHandoff(handoff record.Handoff) {
	if handoff.UID != c.own.Record.UID || handoff.Epoch.Compare(c.epoch()) != 0 {
		return
	}
	asked := wishHandOver
	switch handoff.Reason { //nolint:exhaustive // every other reason hands over
	case changefeed.ReasonPaused:
		asked = wishPause
	case changefeed.ReasonRemoved:
		asked = wishRemove
	}
	if asked > c.wish && c.phase <= phaseStopping {
		c.wish = asked
	}
}

// onRecords takes in the spec and the status, in phase opening to know what there is, in phase reading to carry on.
func (c *Core) onRecords(in RecordsRead) {
	if c.phase != phaseOpening && c.phase != phaseReading {
		return
	}
	c.step.asked = false
	if in.Err != nil {
		var fault *changefeed.Fault
		if errors.As(in.Err, &fault) && fault.Permanent { // of the spec; the status was read
			if !c.report.known {
				c.report.adopt(in.Status)
			}
			c.fail(fault)
			return
		}
		c.later(&c.step)
		return
	}
	c.spec, c.generation = in.Spec, generation(&in.Spec.Spec)
	c.traffic.rules = trafficRulesOf(in.Spec.Spec.Options)
	c.splitKeys = keysOf(in.Spec.Spec.Options, SplitKeys)
	c.mergeKeys = without(keysOf(in.Spec.Spec.Options, MergeKeys), c.splitKeys) // or it would go back and forth
	if !c.report.writing && in.Status.Revision >= c.report.stored.Revision {
		c.report.adopt(in.Status) // else it is this core's own write that is stored, or will be
	}
	if in.Spec.Revision != c.own.Record.SpecRevision || in.Spec.Spec.UID != c.own.Record.UID {
		c.wish = wishHandOver // another spec is another epoch's: nothing of this one may run
		return
	}
	switch in.Spec.Spec.Desired {
	case changefeed.DesiredPaused:
		c.wish = max(c.wish, wishPause)
	case changefeed.DesiredRemoved:
		c.wish = max(c.wish, wishRemove)
	case changefeed.DesiredRunning:
	}
	if c.phase == phaseOpening {
		c.ask(Open{Spec: in.Spec.Spec})
		return
	}
	c.resolveStart()
}

func (c *Core) onOpened(in Opened) {
	if c.phase != phaseOpening {
		return
	}
	if in.Err != nil {
		c.fail(changefeed.AsFault(in.Err, changefeed.CodeRequestInvalid))
		return
	}
	c.whole, c.fencing, c.serial.is = in.Whole, in.Fencing, in.Serial
	if in.Syncs {
		c.sync.every = syncInterval(c.spec.Spec.Options)
	}
	c.become(phaseRaising)
	c.ask(Raise{Epoch: c.epoch(), Known: c.knownDurable()}) // fence:F26 before anything is adopted or placed
}

// knownDurable says whether the sink must have a head already: a checkpoint is only stored after it was made.
func (c *Core) knownDurable() sink.Known {
	if c.report.stored.Status.Checkpoint > 0 {
		return sink.KnownCheckpoint
	}
	return sink.KnownNothing
}

// onRaised goes on when the sink's floor is up; at the start, or, above this epoch, at a pause.
func (c *Core) onRaised(in Raised) {
	if c.phase != phaseRaising && c.phase != phaseShutting {
		return
	}
	removed := c.wish == wishRemove && errors.Is(in.Err, sink.ErrRemoved) // by an owner that ended before its release
	if in.Err != nil && !removed {
		c.onSinkError(in.Err)
		return
	}
	if c.phase == phaseShutting {
		c.releaseFor(changefeed.DesiredPaused)
		return
	}
	c.become(phaseReading)
	c.ask(ReadRecords{})
}

// onSinkError retries a step at the sink boundedly. A floor above this epoch means a newer owner, or records that went
// back in time.
func (c *Core) onSinkError(err error) {
	fault := changefeed.AsFault(err, changefeed.CodeSinkUnreachable)
	switch {
	case errors.Is(err, fence.ErrStale):
		c.suspect()
		if c.later(&c.step) >= triesMax {
			c.fail(behindSink(err))
		}
	case fault.Permanent:
		c.fail(fault)
	default:
		if c.later(&c.step) >= triesMax {
			c.fail(fault)
		}
	}
}

func behindSink(err error) *changefeed.Fault {
	if errors.Is(err, sink.ErrRemoved) { // no floor opens what was removed
		return &changefeed.Fault{
			Code: changefeed.CodeSinkLost, Detail: "the sink says that this changefeed was removed, the records say that it is wanted", Err: err,
			Cure: "if the records were restored from a backup, remove it with --force and create it anew", Permanent: true,
		}
	}
	return &changefeed.Fault{
		Code: changefeed.CodeEpochBehindSink, Detail: "the sink knows a newer owner than the records do", Err: err,
		Cure: "raise the floor with cdc-node epoch bump NAME --above, if the records were restored from a backup", Permanent: true,
	}
}

// host returns the node of this id, or nil.
func (c *Core) host(id changefeed.NodeID) *host {
	at, found := c.find(id)
	if !found {
		return nil
	}
	return c.hosts[at]
}

// find returns where the node of this id is, or would be. Hosts are kept in the order of their ids, so that no map decides
// an order.
func (c *Core) find(id changefeed.NodeID) (int, bool) {
	return slices.BinarySearchFunc(c.hosts, id, func(h *host, id changefeed.NodeID) int { return cmp.Compare(h.id, id) })
}
