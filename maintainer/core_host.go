package maintainer

import (
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/fence"
)

// HostCore decides which maintainers run on this node, from the epoch records that a watch delivers in order. It is a
// pure state machine. Level-triggered: per changefeed it keeps the newest record and what runs, and works on the
// difference, so that a slow stop of one changefeed holds up no other.
type HostCore struct {
	node  changefeed.NodeID
	feeds map[changefeed.ID]*hosted
	ended bool // the session ended: nothing starts here again
}

// hosted is what is known of one changefeed. At most one maintainer of it exists on this node.
type hosted struct {
	newest   Ownership   // highest epoch seen
	deleted  bool        // the record is gone
	running  Ownership   // the maintainer that was started and has not ended; Revision 0: none
	stopping bool        // it was told to stop
	started  fence.Epoch // the highest epoch that was ever started here
}

// HostInput is what a host core is told. One of the types below.
type HostInput interface{ hostInput() }

// The inputs of a host core.
type (
	// RecordsListed are all epoch records there are; those not among them are gone.
	RecordsListed struct{ Records []Ownership }
	// RecordObserved is an epoch record that was written.
	RecordObserved struct{ Record Ownership }
	// RecordDeleted says that the changefeed's epoch record is gone.
	RecordDeleted struct{ ID changefeed.ID }
	// MaintainerEnded says that a maintainer has fully stopped: nothing of it has an effect any more.
	MaintainerEnded struct { //nolint:revive // a maintainer ended, not the package
		ID    changefeed.ID
		Epoch fence.Epoch
	}
	// SessionEnded says that the node may own nothing any more.
	SessionEnded struct{}
)

func (RecordsListed) hostInput()   {}
func (RecordObserved) hostInput()  {}
func (RecordDeleted) hostInput()   {}
func (MaintainerEnded) hostInput() {}
func (SessionEnded) hostInput()    {}

// HostEffect is what a host core wants done. One of the types below.
type HostEffect interface{ hostEffect() }

// The effects of a host core.
type (
	// StartMaintainer starts the maintainer of an ownership.
	StartMaintainer struct{ Ownership Ownership }
	// StopMaintainer tells it to stop; MaintainerEnded follows when it has.
	StopMaintainer struct {
		ID    changefeed.ID
		Epoch fence.Epoch
	}
)

func (StartMaintainer) hostEffect() {}
func (StopMaintainer) hostEffect()  {}

// NewHostCore returns the core of a node that runs nothing.
func NewHostCore(node changefeed.NodeID) *HostCore {
	return &HostCore{node: node, feeds: make(map[changefeed.ID]*hosted)}
}

// Step takes in what happened and returns what is to be done, in order.
func (h *HostCore) Step(in HostInput) []HostEffect {
	switch in := in.(type) {
	case RecordsListed:
		return h.listed(in.Records)
	case RecordObserved:
		h.observe(in.Record)
		return h.reconcile(in.Record.ID)
	case RecordDeleted:
		if feed := h.feeds[in.ID]; feed != nil {
			feed.deleted = true
		}
		return h.reconcile(in.ID)
	case MaintainerEnded:
		if feed := h.feeds[in.ID]; feed != nil && feed.running.Record.Epoch.Compare(in.Epoch) == 0 {
			feed.running, feed.stopping = Ownership{}, false
		}
		return h.reconcile(in.ID)
	case SessionEnded:
		h.ended = true
		return h.reconcileAll()
	}
	return nil
}

// Running returns how many maintainers run or are stopping.
func (h *HostCore) Running() int {
	count := 0
	for _, feed := range h.feeds {
		if feed.running.Revision != 0 {
			count++
		}
	}
	return count
}

func (h *HostCore) listed(records []Ownership) []HostEffect {
	present := make(map[changefeed.ID]bool, len(records))
	for _, own := range records {
		present[own.ID] = true
		h.observe(own)
	}
	for id, feed := range h.feeds {
		if !present[id] {
			feed.deleted = true
		}
	}
	return h.reconcileAll()
}

// observe keeps the newest record. Epochs of a name are never reused, also over removal and re-creation, so an older
// one that arrives late changes nothing.
func (h *HostCore) observe(own Ownership) {
	feed := h.feeds[own.ID]
	if feed == nil {
		feed = &hosted{}
		h.feeds[own.ID] = feed
	}
	if own.Record.Epoch.OlderThan(feed.newest.Record.Epoch) {
		return
	}
	feed.newest, feed.deleted = own, false
}

func (h *HostCore) reconcileAll() []HostEffect {
	var out []HostEffect
	for _, id := range slices.SortedFunc(maps.Keys(h.feeds), changefeed.ID.Compare) {
		out = append(out, h.reconcile(id)...)
	}
	return out
}

// reconcile stops what is no longer wanted, else starts what is.
func (h *HostCore) reconcile(id changefeed.ID) []HostEffect {
	feed := h.feeds[id]
	if feed == nil {
		return nil
	}
	if feed.running.Revision != 0 {
		if h.superseded(feed) && !feed.stopping {
			feed.stopping = true
			return []HostEffect{StopMaintainer{ID: id, Epoch: feed.running.Record.Epoch}}
		}
		return nil // fence:F6 not before an older one has fully stopped
	}
	if feed.deleted {
		delete(h.feeds, id)
		return nil
	}
	if !h.mayStart(feed) {
		return nil
	}
	feed.running, feed.started = feed.newest, feed.newest.Record.Epoch
	return []HostEffect{StartMaintainer{Ownership: feed.newest}}
}

// superseded reports whether the running maintainer must stop.
func (h *HostCore) superseded(feed *hosted) bool {
	if h.ended {
		return true
	}
	running, newest := feed.running.Record, feed.newest.Record
	return feed.deleted || running.Epoch.OlderThan(newest.Epoch) || newest.UID != running.UID || newest.Owner != running.Owner // fence:F8
}

func (h *HostCore) mayStart(feed *hosted) bool {
	if h.ended || feed.newest.Record.Epoch.Compare(0) == 0 || feed.newest.Revision == 0 {
		return false
	}
	if feed.newest.Record.Owner != h.node { // fence:F7
		return false
	}
	return feed.started.OlderThan(feed.newest.Record.Epoch) // fence:F6 at most once per node id
}
