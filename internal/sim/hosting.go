package sim

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/message"
	"fencerow/node/records"
	"fencerow/record"
	"fencerow/sink"
	etcdsink "fencerow/sink/etcd"
)

// opTimeout bounds one request of a maintainer.
const opTimeout = 10 * time.Second

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

type statusRequest struct {
	write  epochstore.StatusWrite
	result epochstore.StatusResult
	task   *task
	wait   uint64
	done   bool
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

// writeStatus stores a status together with those that come while a write is under way.
func (m *maintainers) writeStatus(own maintainer.Ownership, previous int64, status record.Status) (int64, error) {
	last, err := m.last(own.ID, previous)
	if err != nil {
		return 0, err
	}
	t := m.life.world.current
	ownership := own.Record
	request := &statusRequest{task: t, write: epochstore.StatusWrite{
		ID: own.ID, Last: last, Status: status,
		Ownership: epochstore.Seen[record.Epoch]{Record: &ownership, ModRevision: own.Revision},
	}}
	m.waiting = append(m.waiting, request)
	m.store()
	if !t.cancelled {
		request.wait = t.begin()
		m.life.world.after(t.clocked(t.deadline.Sub(m.life.clock.read())), func() { t.wake(request.wait, wokenByTime) })
		t.park()
	}
	if !request.done {
		return 0, fmt.Errorf("%w: status of %v", fence.ErrUnknown, own.ID)
	}
	m.remember(own.ID, request.result.Status)
	return request.result.Status.ModRevision, request.result.Err
}

func (m *maintainers) store() {
	if m.writing {
		return
	}
	m.writing = true
	m.life.world.spawn(m.life, func(t *task) {
		for len(m.waiting) > 0 {
			batch := m.waiting
			m.waiting = nil
			writes := make([]epochstore.StatusWrite, len(batch))
			for i, request := range batch {
				writes[i] = request.write
			}
			t.deadline = 0
			for i, result := range m.writeAll(writes) {
				batch[i].result, batch[i].done = result, true
				batch[i].task.wake(batch[i].wait, wokenByAnswer)
			}
		}
		m.writing = false
	})
}

// writeAll drives the transactions of some statuses, one after another.
func (m *maintainers) writeAll(writes []epochstore.StatusWrite) []epochstore.StatusResult {
	plan := epochstore.StatusExchanges(m.life.world.plan.Keys, writes)
	for _, exchange := range plan.Exchanges {
		for {
			txn, more := exchange.Next()
			if !more {
				break
			}
			exchange.Answer(m.life.kv.Txn(never{}, txn))
		}
	}
	return plan.Results(m.life.world.plan.Keys)
}

func (m *maintainers) last(id changefeed.ID, previous int64) (epochstore.Seen[record.Status], error) {
	if previous == 0 {
		return epochstore.Seen[record.Status]{}, nil
	}
	if known, found := m.known[id]; found && known.ModRevision == previous {
		return known, nil
	}
	_, stored, err := m.life.store.Status(never{}, id)
	if err != nil {
		return stored, err
	}
	m.remember(id, stored)
	if stored.ModRevision != previous {
		return stored, epochstore.ErrConflict
	}
	return stored, nil
}

func (m *maintainers) remember(id changefeed.ID, stored epochstore.Seen[record.Status]) {
	if stored.Exists() {
		m.known[id] = stored
	} else {
		delete(m.known, id)
	}
}

// runner drives one maintainer.
type runner struct {
	host  *maintainers
	life  *life
	own   maintainer.Ownership
	core  *maintainer.Core
	ops   []*task
	going int
	spec  record.Spec
	ended bool
}

func (r *runner) news() {
	if r.host.nodes != nil {
		r.step(maintainer.NodesWatched{Nodes: *r.host.nodes})
	}
	if handoff, found := r.host.handoffs[r.own.ID]; found {
		r.step(maintainer.HandoffRequested{Handoff: handoff})
	}
	evicted := r.host.evicted[r.own.Record.UID]
	for _, node := range slices.Sorted(maps.Keys(evicted)) {
		r.step(maintainer.EvictionSeen{Node: node, Eviction: evicted[node]})
	}
}

func (r *runner) tick() {
	r.life.timer(r.core.Pause(), func() {
		if !r.ended {
			r.step(maintainer.Ticked{})
			r.tick()
		}
	})
}

func (r *runner) step(in maintainer.Input) {
	if r.ended {
		return
	}
	if !r.life.session.Alive() {
		r.end(maintainer.OutcomeStopped)
		return
	}
	w := r.life.world
	w.given(toMaintainer)
	now := maintainer.Now{At: r.life.clock.read().Add(time.Second), Wall: w.wall()}
	for _, effect := range r.core.Step(now, in) {
		switch effect := effect.(type) {
		case maintainer.Send:
			w.post(r.life, effect.Envelope)
		case maintainer.Open:
			r.spec = effect.Spec
			opened := maintainer.Opened{Whole: keySpace, Fencing: maintainer.FencedByNothing, Syncs: strings.HasPrefix(r.spec.Sink, "etcd:")}
			if claiming(r.spec.Sink) {
				opened.Fencing = maintainer.FencedByClaims
			}
			w.after(0, func() { r.life.run1(func() { r.step(opened) }) })
		case maintainer.Refused:
			w.census.Fences[effect.Rule]++
		case maintainer.Moved:
			w.census.Motions[effect.Why]++
		case maintainer.End:
			r.end(effect.Outcome)
			return
		default:
			r.request(effect)
		}
	}
}

// request makes a request under the session's deadline.
func (r *runner) request(effect maintainer.Effect) {
	limit := min(opTimeout, r.life.session.Remaining())
	r.going++
	t := r.life.world.spawn(r.life, func(t *task) {
		t.bound(limit)
		in := r.perform(t, effect)
		r.life.world.say("answer    to %s of %v: %T %v", r.life.id, r.own.ID, in, inputError(in))
		r.step(in)
	})
	t.done = func() {
		r.going--
		r.finished()
	}
	var running []*task
	for _, t := range r.ops {
		if !t.finished {
			running = append(running, t)
		}
	}
	r.ops = append(running, t)
}

func inputError(in maintainer.Input) error {
	switch in := in.(type) {
	case maintainer.RecordsRead:
		return in.Err
	case maintainer.Raised:
		return in.Err
	case maintainer.StartResolved:
		return in.Err
	case maintainer.NodesListed:
		return in.Err
	case maintainer.SinkRemoved:
		return in.Err
	case maintainer.StatusWritten:
		return in.Err
	case maintainer.StatusRead:
		return in.Err
	case maintainer.EpochRead:
		return in.Err
	case maintainer.EvictionPut:
		return in.Err
	case maintainer.EvictionDropped:
		return in.Err
	case maintainer.SyncRead:
		return in.Err
	}
	return nil
}

func (r *runner) perform(t *task, effect maintainer.Effect) maintainer.Input {
	reads, id := records.Maintaining{Store: r.life.store}, r.own.ID
	switch effect := effect.(type) {
	case maintainer.ReadRecords:
		return r.readRecords(reads)
	case maintainer.Raise:
		err := r.openSink().Raise(never{}, effect.Epoch, effect.Known)
		r.life.world.shutOut(err, 26)
		return maintainer.Raised{Epoch: effect.Epoch, Err: err}
	case maintainer.RemoveSink:
		return maintainer.SinkRemoved{Err: r.openSink().Remove(never{}, r.own.Record.Epoch)}
	case maintainer.ResolveStart:
		var resolved maintainer.StartResolved
		unknown := error(nil)
		resolved.Err = r.life.world.source.ask(t, func() {
			resolved.Position = r.life.world.source.head
			resolved.SourceID, unknown = r.life.world.source.identity("")
		})
		resolved.Err = cmp.Or(resolved.Err, unknown)
		return resolved
	case maintainer.ListNodes:
		nodes, err := reads.ListNodes(never{})
		return maintainer.NodesListed{Nodes: nodes, Err: err}
	case maintainer.WriteStatus:
		revision, err := r.host.writeStatus(r.own, effect.Previous, effect.Status)
		return maintainer.StatusWritten{Revision: revision, Err: err}
	case maintainer.ReadStatus:
		stored, err := reads.ReadStatus(never{}, id)
		return maintainer.StatusRead{Stored: stored, Err: err}
	case maintainer.ReadEpoch:
		own, err := reads.ReadEpoch(never{}, id)
		return maintainer.EpochRead{Ownership: own, Err: err}
	case maintainer.Evict:
		err := r.evicting().Evict(never{}, r.own, effect.Node, effect.Token)
		return maintainer.EvictionPut{Node: effect.Node, Err: err}
	case maintainer.DropEviction:
		return maintainer.EvictionDropped{Node: effect.Node, Err: r.evicting().DropEviction(never{}, r.own, effect.Node)}
	case maintainer.ReadSync:
		return r.readSync()
	}
	return nil
}

func (r *runner) readSync() maintainer.Input {
	keeper, ok := r.openSink().(sink.Syncing)
	if !ok {
		r.life.world.fail(fmt.Errorf("sim: %v was asked for sync points, and has a sink that keeps none", r.own.ID))
		return nil
	}
	position, err := keeper.LastSync(never{})
	return maintainer.SyncRead{Position: position, Err: err}
}

func (r *runner) readRecords(reads records.Maintaining) maintainer.Input {
	status, err := reads.ReadStatus(never{}, r.own.ID)
	if err != nil {
		return maintainer.RecordsRead{Err: fmt.Errorf("read status: %v", err)} //nolint:errorlint // no fault of the spec
	}
	spec, err := reads.ReadSpec(never{}, r.own.ID)
	return maintainer.RecordsRead{Status: status, Spec: spec, Err: err}
}

func (r *runner) evicting() records.Evicting { return records.Evicting{Store: r.life.store} }

func (r *runner) openSink() sink.Sink { return r.life.openSink(r.spec) }

// openSink connects a process to the sink of a spec. Each user has a connection of its own.
func (l *life) openSink(spec record.Spec) sink.Sink {
	if strings.HasPrefix(spec.Sink, rowsScheme) {
		return &rowSink{world: l.world, life: l, as: sink.Identity{Cluster: clusterID, Changefeed: spec.ID(), UID: spec.UID}}
	}
	if !strings.HasPrefix(spec.Sink, "etcd:") {
		return &plainSink{life: l, uid: spec.UID}
	}
	to := &client{world: l.world, life: l, from: l.node.index, to: l.world.target}
	opened, err := etcdsink.New(etcdsink.Config{
		Open: to.open, SourcePrefix: []byte(sourcePrefix), TargetPrefix: []byte(targetPrefix(spec.ID())),
		Identity: sink.Identity{Cluster: clusterID, Changefeed: spec.ID(), UID: spec.UID},
	})
	if err != nil {
		l.world.fail(err)
	}
	return opened
}

// shutOut counts a refusal of the sink.
func (w *World) shutOut(err error, number int) {
	if errors.Is(err, fence.ErrStale) {
		w.census.Fences[number]++
	}
}

// end stops the maintainer. It has ended when its requests have.
func (r *runner) end(outcome maintainer.Outcome) {
	if r.ended {
		return
	}
	r.ended = true
	r.life.world.census.Outcomes[outcome]++
	r.life.world.say("owner     %s of %v at epoch %d no more: %v", r.life.id, r.own.ID, r.own.Record.Epoch, outcome)
	for _, t := range r.ops {
		t.cancel()
	}
	r.life.world.after(0, func() { r.life.run1(r.finished) })
}

// finished tells the host that nothing of the maintainer has an effect any more.
func (r *runner) finished() {
	if !r.ended || r.going > 0 || r.host.runners[r.own.ID] != r {
		return
	}
	delete(r.host.runners, r.own.ID)
	r.host.input(maintainer.MaintainerEnded{ID: r.own.ID, Epoch: r.own.Record.Epoch})
}
