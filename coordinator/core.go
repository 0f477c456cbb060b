package coordinator

import (
	"maps"
	"math"
	"slices"

	"fencerow/changefeed"
	"fencerow/record"
)

// never is a moment that does not come.
const never = changefeed.Time(math.MaxInt64)

// Core decides. It is a pure state machine for one term: no goroutine, lock, clock or I/O, and no order that depends on
// a map. It is made by NewCore.
type Core struct {
	config  Config
	now     changefeed.Time
	effects []Effect

	listed  bool
	tooOld  bool // what is watched is too old to decide on
	meta    slot[record.Meta]
	nodes   map[changefeed.NodeID]*record.Node
	drains  map[string]struct{}
	loads   map[changefeed.NodeID]int // maintainers by owner, with those that are being assigned
	feeds   map[changefeed.ID]*feed
	due     []*feed                    // to be decided on in this step, or when there is room: first in, first out
	untrim  map[changefeed.ID]struct{} // histories to be trimmed
	wakeAt  changefeed.Time            // the earliest moment at which a feed becomes due by itself
	bumping int                        // bumps in flight
	chores  int                        // handoffs and removals in flight
	trims   int                        // trims in flight
	writes  writeHealth
	expels  int // expulsions in flight
	reach   reach
	// evictions are those that were not acknowledged yet.
	evictions map[evictedFrom]*evicted
	raise     errand // of the feature level
	probe     errand
}

// errand is a write that is not about one changefeed.
type errand struct {
	inFlight bool
	failures int
	retryAt  changefeed.Time
}

// writeHealth is what the core knows of its own writes.
type writeHealth struct {
	failing     bool
	succeeded   bool
	succeededAt changefeed.Time // the last one
	healthyFrom changefeed.Time // since when none failed: silence is counted from here at the earliest
}

// slot is one record as it was observed last.
type slot[T any] struct {
	value    *T
	mod      int64 // mod revision of the value, 0 if there is none
	revision int64 // of the last observation, deletions included
	fault    string
}

// take takes an observation in, and reports whether it was news.
func (s *slot[T]) take(seen Observed[T]) bool {
	if seen.Revision <= s.revision {
		return false
	}
	*s = slot[T]{value: seen.Value, revision: seen.Revision, fault: seen.Fault}
	if seen.Value != nil {
		s.mod = seen.Revision
	}
	return true
}

// feed is what the core knows of one changefeed.
type feed struct {
	id      changefeed.ID
	spec    slot[record.Spec]
	epoch   slot[record.Epoch]
	status  slot[record.Status]
	handoff slot[record.Handoff]

	heardAt   changefeed.Time // when this epoch, or a status of it, was first seen
	askedAt   changefeed.Time // when the handoff was first seen
	reachedAt changefeed.Time // when the owner was last moved for want of links; 0: not in this term
	retryAt   changefeed.Time // when an owner that failed is replaced
	retryFor  string          // the error, epoch and next try that retryAt was counted for
	avoided   []changefeed.NodeID
	reported  string // the fault that was reported last
	decidedAt changefeed.Time
	untrimmed int // bumps since the last trim of this term; it begins at trimEvery

	queued   bool      // in due
	busy     bool      // a write of it is in flight
	doubt    *Decision // a bump whose outcome isn't known
	failures int       // in a row
	holdTill changefeed.Time
	held     bool // until holdTill, by a failed write; a stale one is held only until there is news
	stale    bool
	refused  int   // stale answers since there was news of what a bump compares
	removed  int64 // mod revision of the spec that was removed; its deletion is still to be watched
}

// NewCore returns the core of a term that begins at now.
func NewCore(config Config, now changefeed.Time) (*Core, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Core{
		config: config, now: now, wakeAt: never,
		nodes:     make(map[changefeed.NodeID]*record.Node),
		drains:    make(map[string]struct{}),
		loads:     make(map[changefeed.NodeID]int),
		feeds:     make(map[changefeed.ID]*feed),
		untrim:    make(map[changefeed.ID]struct{}),
		evictions: make(map[evictedFrom]*evicted),
		writes:    writeHealth{healthyFrom: now},
	}, nil
}

// Step takes an input in, and returns what is to be done now.
func (c *Core) Step(now changefeed.Time, in Input) []Effect {
	c.now = max(now, c.now)
	c.effects = nil
	c.take(in)
	if c.listed && !c.tooOld && c.meta.value != nil {
		c.decideDue()
		c.expel()
		c.raiseLevel()
		c.trim()
		c.heal()
	}
	return c.effects
}

func (c *Core) emit(effect Effect) { c.effects = append(c.effects, effect) }

func (c *Core) take(in Input) {
	switch in := in.(type) {
	case SpecSeen:
		c.takeSpec(in)
	case EpochSeen:
		c.takeEpoch(c.feedOf(in.ID), in.Observed)
	case StatusSeen:
		c.takeStatus(in)
	case HandoffSeen:
		c.takeHandoff(c.feedOf(in.ID), in.Observed)
	case NodeSeen:
		c.takeNode(in)
	case DrainSeen:
		delete(c.drains, in.Name)
		if in.Value != nil || in.Fault != "" { // a drain that doesn't parse is one all the same
			c.drains[in.Name] = struct{}{}
		}
		c.seeLinks()
		c.allDue()
	case MetaSeen:
		if c.meta.take(in.Observed) {
			if in.Fault != "" {
				c.emit(Invalid{Record: "meta", Fault: in.Fault})
			}
			c.allDue()
		}
	case EvictionSeen:
		c.takeEviction(in)
	case Listed:
		c.listed = true
		c.allHeard()
		c.allDue()
	case Tick:
		c.takeTick(in)
	default:
		c.takeAnswer(in)
	}
}

// feedOf returns what is known of a changefeed, which is nothing when it is first heard of.
func (c *Core) feedOf(id changefeed.ID) *feed {
	f, found := c.feeds[id]
	if !found {
		f = &feed{id: id, heardAt: c.now, askedAt: c.now, untrimmed: trimEvery}
		c.feeds[id] = f
	}
	return f
}

func (c *Core) takeSpec(in SpecSeen) {
	f := c.feedOf(in.ID)
	if !f.spec.take(in.Observed) {
		return
	}
	f.refused = 0
	c.news(f)
	c.forget(f)
}

func (c *Core) takeEpoch(f *feed, seen Observed[record.Epoch]) {
	before := f.owner()
	if !f.epoch.take(seen) {
		return
	}
	f.refused = 0
	c.moveLoad(before, f.owner())
	f.heardAt, f.retryFor = c.now, ""
	f.noteReason(c.now)
	if f.doubt != nil && seen.Value != nil && seen.Value.Nonce == f.doubt.Nonce {
		// The answer was lost, and the bump was done.
		c.committed(f, *f.doubt, *seen.Value)
	}
	c.news(f)
	c.forget(f)
}

func (c *Core) takeStatus(in StatusSeen) {
	f := c.feedOf(in.ID)
	if !f.status.take(in.Observed) {
		return
	}
	if status := f.current(); status != nil {
		f.heardAt = c.now
		f.countRetry(status, c.now)
		if status.State == changefeed.StateRunning && status.Error == nil {
			f.pardon(f.owner())
		}
	}
	c.news(f)
	c.forget(f)
}

func (c *Core) takeHandoff(f *feed, seen Observed[record.Handoff]) {
	if !f.handoff.take(seen) {
		return
	}
	f.askedAt = c.now
	c.news(f)
	c.forget(f)
}

func (c *Core) takeNode(in NodeSeen) {
	if in.Value == nil && in.Fault == "" {
		delete(c.nodes, in.ID)
		for _, f := range c.feeds {
			f.pardon(in.ID)
		}
	} else if in.Value == nil {
		// It lives, but can't be read: what it owns stays, and nothing is placed there.
		c.nodes[in.ID] = &record.Node{ID: in.ID, Liveness: record.Stopping}
	} else {
		c.nodes[in.ID] = in.Value
	}
	c.seeLinks()
	c.allDue()
}

func (c *Core) takeTick(tick Tick) {
	wasOld := c.tooOld
	c.tooOld = tick.WatchAge > c.config.WatchAgeMax
	if wasOld && !c.tooOld {
		// Owners may have been heard of while nothing was watched.
		c.writes.healthyFrom = c.now
		c.allDue()
	}
	if c.now < c.wakeAt {
		return
	}
	c.wakeAt = never
	var late []*feed
	for _, f := range c.feeds {
		if wake := c.wake(f); wake <= c.now {
			late = append(late, f)
		} else {
			c.wakeAt = min(c.wakeAt, wake)
		}
	}
	c.queue(late)
}

// news makes a feed due. A write that failed waits for its time all the same; one that was stale is decided afresh.
func (c *Core) news(f *feed) {
	if f.stale {
		f.held, f.stale = false, false
	}
	c.enqueue(f)
}

func (c *Core) enqueue(f *feed) {
	if !f.queued {
		f.queued = true
		c.due = append(c.due, f)
	}
}

// queue makes feeds due that come in no order.
func (c *Core) queue(feeds []*feed) {
	slices.SortFunc(feeds, func(a, b *feed) int { return a.id.Compare(b.id) })
	for _, f := range feeds {
		c.enqueue(f)
	}
}

func (c *Core) allDue() { c.queue(slices.Collect(maps.Values(c.feeds))) }

// allHeard lets the silence of every owner begin now, at the election.
func (c *Core) allHeard() {
	for _, f := range c.feeds {
		f.heardAt, f.askedAt = c.now, c.now
	}
}

// forget drops a feed of which no record is left.
func (c *Core) forget(f *feed) {
	gone := f.spec.value == nil && f.epoch.value == nil && f.status.value == nil && f.handoff.value == nil
	if gone && f.faults() == "" && !f.busy {
		delete(c.feeds, f.id)
		delete(c.untrim, f.id)
	}
}

func (c *Core) moveLoad(from, to changefeed.NodeID) {
	c.load(from, -1)
	c.load(to, 1)
}

func (c *Core) load(node changefeed.NodeID, by int) {
	if node == "" {
		return
	}
	c.loads[node] += by
	if c.loads[node] == 0 {
		delete(c.loads, node)
	}
}

// decideDue decides on what is due, as far as there is room.
func (c *Core) decideDue() {
	next := 0
	for next < len(c.due) && !c.full() {
		f := c.due[next]
		next++
		f.queued = false
		if f.busy || c.feeds[f.id] != f {
			continue // an answer makes it due again; or it is forgotten
		}
		c.decide(f)
		c.wakeAt = min(c.wakeAt, c.wake(f))
	}
	c.due = c.due[next:]
	if len(c.due) == 0 {
		c.due = nil // lets go of what was decided on
	}
}

func (c *Core) full() bool {
	limit := BumpsInFlightMax
	if c.writes.failing {
		limit = troubledInFlightMax
	}
	return c.bumping >= limit || c.chores >= min(limit, choresInFlightMax)
}

// owner returns who owns the changefeed, "" for nobody.
func (f *feed) owner() changefeed.NodeID {
	if f.epoch.value == nil {
		return ""
	}
	return f.epoch.value.Owner
}

// current returns the status if it is of the current epoch, else nil.
func (f *feed) current() *record.Status {
	status, epoch := f.status.value, f.epoch.value
	if status == nil || epoch == nil || status.UID != epoch.UID || epoch.Epoch.Confirm(status.Epoch) != nil {
		return nil
	}
	return status
}

// asked returns the handoff if it is of the current epoch, else nil.
func (f *feed) asked() *record.Handoff {
	handoff, epoch := f.handoff.value, f.epoch.value
	if handoff == nil || epoch == nil || handoff.UID != epoch.UID || epoch.Epoch.Confirm(handoff.Epoch) != nil {
		return nil
	}
	return handoff
}
