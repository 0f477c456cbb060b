package sim

import (
	"maps"
	"slices"
	"time"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/message"
	"fencerow/node/records"
	"fencerow/record"
)

// maintainers drives the maintainers of one life.
type maintainers struct {
	life     *life
	core     *maintainer.HostCore
	config   maintainer.Config
	runners  map[changefeed.ID]*runner
	nodes    *maintainer.Nodes
	changed  changefeed.Time // when nodes came or went last
	handoffs map[changefeed.ID]record.Handoff
	known    map[changefeed.ID]epochstore.Seen[record.Status]
	waiting  []*statusRequest
	writing  bool
	evicted  map[changefeed.UID]map[changefeed.NodeID]record.Eviction
}

func newMaintainers(l *life) *maintainers {
	config := maintainer.DefaultConfig(l.id)
	config.SessionTTL = l.session.TTL()
	config.StatusInterval, config.StatusRefresh = l.world.plan.StatusInterval, l.world.plan.StatusRefresh
	config.HeadsMax = l.world.plan.HeadsMax
	return &maintainers{
		life: l, core: maintainer.NewHostCore(l.id), config: config, runners: map[changefeed.ID]*runner{},
		handoffs: map[changefeed.ID]record.Handoff{}, known: map[changefeed.ID]epochstore.Seen[record.Status]{},
		evicted: map[changefeed.UID]map[changefeed.NodeID]record.Eviction{},
	}
}

func (m *maintainers) listed(update epochstore.Update) {
	var owned []maintainer.Ownership
	for _, change := range update.Changes {
		if own, ok := records.Ownership(change); ok {
			owned = append(owned, own)
		}
	}
	m.input(maintainer.RecordsListed{Records: owned})
}

func (m *maintainers) observed(change epochstore.Change) {
	if change.Deleted {
		delete(m.handoffs, change.Ref.ID)
		delete(m.known, change.Ref.ID)
		m.input(maintainer.RecordDeleted{ID: change.Ref.ID})
		return
	}
	if own, ok := records.Ownership(change); ok {
		if own.Record.Owner != m.life.id {
			delete(m.known, own.ID)
		}
		m.input(maintainer.RecordObserved{Record: own})
	}
}

// leave has every maintainer store its last checkpoint and end.
func (m *maintainers) leave() {
	for _, id := range slices.SortedFunc(maps.Keys(m.runners), changefeed.ID.Compare) {
		if r := m.runners[id]; r != nil {
			r.step(maintainer.NodeLeaves{})
		}
	}
}

// look shows people what there is, as the API does.
func (m *maintainers) look() {
	now := m.life.clock.read().Add(time.Second)
	for _, id := range slices.SortedFunc(maps.Keys(m.runners), changefeed.ID.Compare) {
		r := m.runners[id]
		view, spans := r.core.View(now), r.core.Spans(now)
		lowest := view.Checkpoint
		for i := range spans {
			lowest = min(lowest, spans[i].Checkpoint)
		}
		m.life.world.say("shown     %v at epoch %d: %s at %d, lag %v, %d spans from %d", id, view.Epoch, view.State, view.Checkpoint, view.Lag,
			len(spans), lowest)
	}
}

func (m *maintainers) sessionEnded() { m.input(maintainer.SessionEnded{}) }

func (m *maintainers) input(in maintainer.HostInput) {
	m.life.world.given(toMaintainer)
	for _, effect := range m.core.Step(in) {
		switch effect := effect.(type) {
		case maintainer.StartMaintainer:
			m.start(effect.Ownership)
		case maintainer.StopMaintainer:
			if r := m.runners[effect.ID]; r != nil && r.own.Record.Epoch.Confirm(effect.Epoch) == nil {
				r.end(maintainer.OutcomeStopped)
			}
		}
	}
}

func (m *maintainers) start(own maintainer.Ownership) {
	r := &runner{host: m, life: m.life, own: own, core: maintainer.NewCore(m.config, own)}
	m.runners[own.ID] = r
	m.life.world.say("owner     %s of %v at epoch %d (%s)", m.life.id, own.ID, own.Record.Epoch, own.Record.Reason)
	r.step(maintainer.Started{NodesChangedAt: m.changed})
	r.news()
	r.tick()
}

func (m *maintainers) nodesChanged(known map[changefeed.NodeID]record.Node, revision int64) {
	list := maintainer.Nodes{Revision: revision}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		list.Nodes = append(list.Nodes, known[id])
	}
	if m.nodes != nil && revision < m.nodes.Revision {
		return
	}
	if m.nodes == nil || !list.SameAs(m.nodes) {
		m.changed = m.life.clock.read().Add(time.Second)
	}
	m.nodes = &list
	for _, id := range slices.SortedFunc(maps.Keys(m.runners), changefeed.ID.Compare) {
		m.runners[id].step(maintainer.NodesWatched{Nodes: list})
	}
}

func (m *maintainers) handoff(id changefeed.ID, handoff record.Handoff) {
	m.handoffs[id] = handoff
	if r := m.runners[id]; r != nil {
		r.step(maintainer.HandoffRequested{Handoff: handoff})
	}
}

func (m *maintainers) deliver(env message.Envelope) {
	if r := m.runners[env.ID]; r != nil {
		r.step(maintainer.Received{Envelope: env})
	}
}
