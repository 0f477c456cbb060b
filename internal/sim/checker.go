package sim

import (
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// Violation is an invariant that a history breaks. The numbers are those of the design's list.
type Violation struct {
	Invariant int
	Detail    string
}

// Error says which invariant, and how.
func (v *Violation) Error() string { return fmt.Sprintf("invariant %d: %s", v.Invariant, v.Detail) }

func violated(invariant int, format string, args ...any) error {
	return &Violation{Invariant: invariant, Detail: fmt.Sprintf(format, args...)}
}

// Checker judges a history, fact by fact. It knows nothing of what any process thinks.
type Checker struct {
	space      changefeed.Span
	candidates map[string]int64
	names      map[changefeed.ID]*named
	feeds      map[changefeed.UID]*feed
	source     []SourceFact
	byKey      map[string][]int // indexes into source
	gone       map[changefeed.NodeID]bool
	known      map[knownKey]fence.Claimant
	running    map[runKey]StartFact
	evicted    map[evictedKey]fence.Token // acknowledged: everything up to it is void there
	restoring  bool                       // the records of a backup are being told
	err        error
}

type evictedKey struct {
	node changefeed.NodeID
	uid  changefeed.UID
}

type knownKey struct {
	node changefeed.NodeID
	id   changefeed.ID
}

type runKey struct {
	node  changefeed.NodeID
	uid   changefeed.UID
	token fence.Token
}

// named is what is known of one name.
type named struct {
	spec     *record.Spec
	specAt   int64
	epoch    *record.Epoch
	highest  fence.Epoch
	status   *record.Status
	head     HeadFact
	forced   bool          // its records may be deleted under an owner
	previous *record.Epoch // that the last transaction replaced
}

// feed is what is known of one creation of a name.
type feed struct {
	uid        changefeed.UID
	id         changefeed.ID
	claims     bool // the sink has them
	start      change.Position
	started    bool            // start is known
	forced     bool            // removed by force: what the source keeps stays there
	reopened   bool            // the records were restored since
	later      change.Position // where it started once more, after that
	checkpoint change.Position
	claimed    []ClaimFact
	marks      []SpanMark
	applied    map[int]bool   // changes of the source that are in the sink, by index
	last       map[string]int // of each key: how many of its changes are done
	frontier   int            // every change below this index that counts is applied
	begun      []BeginFact
	begins     map[fence.Token]int
	placed     map[fence.Token]*placement
	synced     change.Position // the newest sync point
}

// NewChecker returns a checker that has seen nothing. Space is what the source holds.
func NewChecker(space changefeed.Span) *Checker {
	return &Checker{
		space:      space,
		candidates: map[string]int64{}, names: map[changefeed.ID]*named{}, feeds: map[changefeed.UID]*feed{},
		byKey: map[string][]int{}, gone: map[changefeed.NodeID]bool{}, known: map[knownKey]fence.Claimant{},
		running: map[runKey]StartFact{}, evicted: map[evictedKey]fence.Token{},
	}
}

// Err returns the first violation.
func (c *Checker) Err() error { return c.err }

// See judges a fact. After a violation it judges no more.
func (c *Checker) See(fact Fact) error {
	if c.err == nil {
		c.err = c.judge(fact)
	}
	return c.err
}

func (c *Checker) judge(fact Fact) error {
	if c.restoring {
		c.restored(fact)
		return nil
	}
	switch fact := fact.(type) {
	case EpochFact:
		return c.epoch(fact)
	case LegacyFact:
		c.name(fact.ID).epoch = fact.Put
	case StatusFact:
		return c.status(fact)
	case SpecFact:
		return c.spec(fact)
	case HandoffFact:
		return c.handoff(fact)
	case HistoryFact:
		return c.history(fact)
	case EvictionFact:
		return c.eviction(fact)
	case CandidateFact:
		c.candidate(fact)
	case NodeFact:
		c.gone[fact.Node] = fact.Gone
	case CommitFact:
		for _, name := range c.names { // the order does not matter
			name.previous = nil
		}
	case RestoreFact:
		c.restore()
	case ForceFact:
		name := c.name(fact.ID)
		name.forced = true
		if name.spec != nil {
			c.feeds[name.spec.UID].forced = true
		}
	case SentFact:
		return c.sent(fact.Envelope)
	case KnownFact:
		c.knows(fact)
	case StartFact:
		return c.start(fact)
	case EndFact:
		delete(c.running, runKey{fact.Node, fact.UID, fact.Token})
	default:
		return c.judgeData(fact)
	}
	return nil
}

func (c *Checker) name(id changefeed.ID) *named {
	name := c.names[id]
	if name == nil {
		name = &named{}
		c.names[id] = name
	}
	return name
}

func (c *Checker) candidate(fact CandidateFact) {
	if fact.Revision == 0 {
		delete(c.candidates, fact.Key)
		return
	}
	c.candidates[fact.Key] = fact.Revision
}

// term is the create revision of the coordinator's election key; 0 if there is no coordinator.
func (c *Checker) term() int64 {
	lowest := int64(0)
	for _, revision := range c.candidates { // a minimum does not depend on the order
		if lowest == 0 || revision < lowest {
			lowest = revision
		}
	}
	return lowest
}

// spec keeps what is wanted. A spec's uid never changes while the record stands.
func (c *Checker) spec(fact SpecFact) error {
	name := c.name(fact.ID)
	if fact.Put == nil {
		if epoch := name.epoch; epoch != nil && epoch.Owner != "" && epoch.UID == name.spec.UID && !name.forced {
			return violated(2, "the spec of %v was deleted while %s owns epoch %d", fact.ID, epoch.Owner, epoch.Epoch)
		}
		name.spec, name.specAt, name.forced = nil, 0, false
		return nil
	}
	if name.spec != nil && name.spec.UID != fact.Put.UID {
		return violated(2, "the spec of %v changed its uid from %s to %s", fact.ID, name.spec.UID, fact.Put.UID)
	}
	name.spec, name.specAt = fact.Put, fact.Revision
	feed := c.feeds[fact.Put.UID]
	if feed == nil {
		feed = newFeed(fact.ID, fact.Put)
		c.feeds[fact.Put.UID] = feed
	}
	return nil
}

// epoch: an epoch is handed out once and only grows, by the coordinator of the current term, for the spec that stands.
func (c *Checker) epoch(fact EpochFact) error {
	name := c.name(fact.ID)
	if fact.Put == nil {
		if name.epoch != nil && name.epoch.Owner != "" && !name.forced {
			return violated(2, "the epoch record of %v was deleted while %s owns it", fact.ID, name.epoch.Owner)
		}
		name.previous, name.epoch = name.epoch, nil
		return nil
	}
	put := fact.Put
	if !name.highest.OlderThan(put.Epoch) {
		return violated(1, "epoch %d of %v was handed out although %d was before", put.Epoch, fact.ID, name.highest)
	}
	if put.Term != c.term() {
		return violated(2, "epoch %d of %v was handed out by term %d, the coordinator's term is %d", put.Epoch, fact.ID, put.Term, c.term())
	}
	if name.spec == nil || name.spec.UID != put.UID {
		return violated(2, "epoch %d of %v is of uid %s, which has no spec", put.Epoch, fact.ID, put.UID)
	}
	if name.specAt != put.SpecRevision {
		return violated(2, "epoch %d of %v is of spec revision %d, the spec stands at %d", put.Epoch, fact.ID, put.SpecRevision, name.specAt)
	}
	if err := c.disowned(name, put); err != nil {
		return err
	}
	name.previous, name.epoch, name.highest = name.epoch, put, put.Epoch
	return nil
}

// disowned: when nobody owns a changefeed any more, its sink admits none of those who did.
func (c *Checker) disowned(name *named, put *record.Epoch) error {
	feed, last := c.feeds[put.UID], name.epoch
	if put.Owner != "" || last == nil || feed == nil || !feed.claims || feed.reopened || name.head.UID != put.UID {
		return nil
	}
	switch {
	case put.Reason == changefeed.ReasonRemoved && !name.head.Removed:
		return violated(10, "%v, uid %s, counts as cleaned up, and its sink was not told that it is removed", feed.id, put.UID)
	case put.Reason == changefeed.ReasonPaused && !last.Epoch.OlderThan(name.head.Floor):
		return violated(10, "%v is paused, and its sink still admits epoch %d: the floor is %d", feed.id, last.Epoch, name.head.Floor)
	}
	return nil
}

// status: only the owner writes it, under the epoch that stands, and no checkpoint goes back.
func (c *Checker) status(fact StatusFact) error {
	name := c.name(fact.ID)
	if fact.Put == nil {
		name.status = nil
		return nil
	}
	put, epoch := fact.Put, name.epoch
	switch {
	case epoch == nil:
		return violated(2, "a status of %v, epoch %d, was stored without an epoch record", fact.ID, put.Epoch)
	case epoch.UID != put.UID || epoch.Epoch.Confirm(put.Epoch) != nil:
		return violated(2, "a status of %v, uid %s, epoch %d, was stored under epoch %d of uid %s", fact.ID, put.UID, put.Epoch, epoch.Epoch, epoch.UID)
	case epoch.Owner != fact.By:
		return violated(2, "a status of %v, epoch %d, was stored by %s, the owner is %s", fact.ID, put.Epoch, fact.By, epoch.Owner)
	}
	if last := name.status; last != nil && last.UID == put.UID && last.Epoch.Confirm(put.Epoch) == nil && final(last.State) {
		return violated(2, "a status of %v followed the final one of epoch %d", fact.ID, put.Epoch)
	}
	name.status = put
	feed := c.feeds[put.UID]
	if feed == nil {
		return violated(2, "a status of %v is of uid %s, which was never wanted", fact.ID, put.UID)
	}
	if put.StartPosition != nil {
		feed.begin(*put.StartPosition, c.source)
	}
	if put.Checkpoint < feed.checkpoint {
		return violated(7, "the checkpoint of %v went back from %d to %d", fact.ID, feed.checkpoint, put.Checkpoint)
	}
	feed.checkpoint = put.Checkpoint
	if err := c.covered(feed, put.Checkpoint); err != nil {
		return err
	}
	return c.forgotten(feed, put)
}

func final(state changefeed.State) bool { return state == changefeed.StateReleased }

// handoff: asked by the coordinator, of the owner that there is.
func (c *Checker) handoff(fact HandoffFact) error {
	if fact.Put == nil {
		return nil
	}
	epoch := c.name(fact.ID).epoch
	if epoch == nil || epoch.UID != fact.Put.UID || epoch.Epoch.Confirm(fact.Put.Epoch) != nil || epoch.Owner == "" {
		return violated(2, "a handoff of %v asks epoch %d to end, which does not stand", fact.ID, fact.Put.Epoch)
	}
	return nil
}

// history: what is told of an ownership is what it was, and is told in the transaction that ends it.
func (c *Checker) history(fact HistoryFact) error {
	if fact.Put == nil {
		return nil
	}
	name := c.name(fact.ID)
	was := name.previous
	if was == nil || was.Epoch.Confirm(fact.Put.Epoch.Epoch) != nil || was.UID != fact.Put.UID || was.Owner != fact.Put.Owner {
		return violated(2, "the history of %v tells of epoch %d, which this transaction did not end", fact.ID, fact.Put.Epoch.Epoch)
	}
	return nil
}

// eviction: only the owner evicts, under the epoch that stands; only the node itself acknowledges, and when it has done so
// nothing of what is void runs there.
func (c *Checker) eviction(fact EvictionFact) error {
	if fact.Put == nil {
		return nil
	}
	void := fence.Mint(fact.Put.Epoch, fact.Put.Seq)
	if fact.Put.AcknowledgedAt == nil {
		feed := c.feeds[fact.UID]
		if feed == nil {
			return violated(2, "an eviction of uid %s, which was never wanted", fact.UID)
		}
		epoch := c.name(feed.id).epoch
		if epoch == nil || epoch.UID != fact.UID || epoch.Owner != fact.By || epoch.Epoch.Confirm(fact.Put.Epoch) != nil {
			return violated(2, "%s evicted %v of %v from %s, and does not own it", fact.By, void, feed.id, fact.Node)
		}
		return nil
	}
	if fact.By != fact.Node {
		return violated(2, "%s acknowledged the eviction of %s", fact.By, fact.Node)
	}
	for key, started := range c.running { // any one is enough
		if key.node == fact.Node && key.uid == fact.UID && !void.OlderThan(started.Token) {
			return violated(3, "%s acknowledged that %v is void, and runs %v", fact.Node, void, started.Token)
		}
	}
	key := evictedKey{fact.Node, fact.UID}
	if c.evicted[key].OlderThan(void) {
		c.evicted[key] = void
	}
	return nil
}

// knows keeps the newest epoch that a host was told of.
func (c *Checker) knows(fact KnownFact) {
	key := knownKey{fact.Node, fact.ID}
	if held := c.known[key]; held.Epoch.OlderThan(fact.Epoch) {
		c.known[key] = fence.Claimant{UID: string(fact.UID), Epoch: fact.Epoch}
	}
}

// start: a host that was told of a newer owner obeys no older one, and never runs two dispatchers of one range.
func (c *Checker) start(fact StartFact) error {
	held := c.known[knownKey{fact.Node, fact.ID}]
	if fact.Token.Epoch().OlderThan(held.Epoch) {
		return violated(3, "%s started %v of %v although it was told of epoch %d", fact.Node, fact.Token, fact.ID, held.Epoch)
	}
	if void, found := c.evicted[evictedKey{fact.Node, fact.UID}]; found && !void.OlderThan(fact.Token) {
		return violated(3, "%s started %v of %v although it has acknowledged that %v is void", fact.Node, fact.Token, fact.ID, void)
	}
	if feed := c.feeds[fact.UID]; feed == nil || !feed.reopened && feed.placed[fact.Token] == nil {
		return violated(3, "%s started %v of %v, uid %s, which no owner has placed", fact.Node, fact.Token, fact.ID, fact.UID)
	}
	for _, other := range c.running { // any one is enough
		if other.Node == fact.Node && other.UID == fact.UID && other.Span.Overlaps(fact.Span) {
			return violated(6, "%s started %v of %v over %v while %v runs there over %v", fact.Node, fact.Token, fact.ID, fact.Span,
				other.Token, other.Span)
		}
	}
	c.running[runKey{fact.Node, fact.UID, fact.Token}] = fact
	return nil
}

// Crashed forgets what ran in a process that is gone.
func (c *Checker) Crashed(node changefeed.NodeID) {
	for key := range c.running {
		if key.node == node {
			delete(c.running, key)
		}
	}
}
