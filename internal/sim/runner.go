package sim

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/node/records"
	"fencerow/record"
	"fencerow/sink"
	etcdsink "fencerow/sink/etcd"
)

// opTimeout bounds one request of a maintainer.
const opTimeout = 10 * time.Second

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

	served bool // it reads the log of a serial source
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
			opened := maintainer.Opened{Whole: keySpace, Fencing: maintainer.FencedByNothing, Syncs: strings.HasPrefix(r.spec.Sink, "etcd:"), Serial: serial(r.spec)}
			if claiming(r.spec.Sink) {
				opened.Fencing = maintainer.FencedByClaims
			}
			w.after(0, func() { r.life.run1(func() { r.step(opened) }) })
		case maintainer.ServeLog:
			r.serveLog(effect)
		case maintainer.Acknowledge:
			r.forget(effect.Stored)
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
	case maintainer.SourceDropped:
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
		if resolved.Err == nil && serial(r.spec) {
			resolved.Position, resolved.Err = r.prepare(t)
		}
		return resolved
	case maintainer.DropSource:
		return maintainer.SourceDropped{Err: r.dropSource(t)}
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
