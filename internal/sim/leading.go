package sim

import (
	"errors"
	"fmt"
	"time"

	"fencerow/changefeed"
	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/node/records"
	"fencerow/record"
)

const (
	campaignEvery = 300 * time.Millisecond
	coordTick     = 200 * time.Millisecond
	termLook      = time.Second
	batchMax      = 32
)

// term drives a coordinator's core for one term of one life.
type term struct {
	life   *life
	writes records.Leading
	core   *coordinator.Core
	watch  *stream
	tasks  []*task
	over   bool
}

// campaign stands for election for as long as the life lasts.
func (l *life) campaign(t *task) {
	for l.session.Alive() && !l.leaving {
		t.bound(requestWait)
		lead, err := l.store.TryCampaign(never{}, l.session, l.id)
		if err != nil || lead == nil {
			t.sleep(campaignEvery)
			continue
		}
		l.coordinate(t, lead)
		t.bound(requestWait)
		if l.session.Alive() {
			_ = lead.Resign(never{})
		}
		t.sleep(campaignEvery)
	}
}

// coordinate runs one term.
func (l *life) coordinate(t *task, lead *epochstore.Lead) {
	w := l.world
	core, err := coordinator.NewCore(coordinator.Config{
		Term: lead.Term(), SessionTTL: l.session.TTL(), SilenceLimit: w.plan.SilenceLimit,
		Nonce: func() string { return w.word("nonce-") },
	}, l.clock.read())
	if err != nil {
		w.fail(err)
		return
	}
	w.say("term      %d of %s begins", lead.Term(), l.id)
	r := &term{life: l, writes: records.NewLeading(lead, l.store), core: core}
	l.leads = r
	r.watch = l.watch(r.take, func() bool { return !r.over }, records.CoordinatorKinds()...)
	r.tick()
	for !r.over && l.session.Alive() && !l.leaving {
		t.sleep(termLook)
		t.bound(requestWait)
		if err := lead.Check(never{}); errors.Is(err, epochstore.ErrTermOver) {
			break
		}
	}
	r.end()
	l.leads = nil
	w.say("term      %d of %s ends", lead.Term(), l.id)
}

// end ends the term: what it asked for may still be done, but nobody hears of it.
func (r *term) end() {
	r.over = true
	for _, t := range r.tasks {
		t.cancel()
	}
	r.tasks = nil
}

func (r *term) tick() {
	if r.over {
		return
	}
	r.inputs()
	r.life.timer(coordTick, r.tick)
}

// inputs gives the core inputs and a tick, and does what it decides together.
func (r *term) inputs(inputs ...coordinator.Input) {
	if r.over {
		return
	}
	var effects []coordinator.Effect
	for _, in := range append(inputs, coordinator.Tick{WatchAge: r.watch.age()}) {
		r.life.world.given(toCoordinator)
		effects = append(effects, r.core.Step(r.life.clock.read(), in)...)
	}
	r.do(effects)
}

func (r *term) take(update epochstore.Update) {
	if inputs := records.CoordinatorInputs(update); len(inputs) > 0 {
		r.inputs(inputs...)
	}
}

func (r *term) do(effects []coordinator.Effect) {
	var bumps []coordinator.Decision
	var handoffs []coordinator.Handoff
	for _, effect := range effects {
		switch effect := effect.(type) {
		case coordinator.Bump:
			bumps = append(bumps, effect.Decision)
		case coordinator.RequestHandoff:
			handoffs = append(handoffs, effect.Handoff)
		case coordinator.Remove:
			r.write(func() []coordinator.Input {
				return []coordinator.Input{coordinator.RemoveAnswered{Removal: effect.Removal, Err: r.writes.Remove(never{}, effect.Removal)}}
			})
		case coordinator.TrimHistory:
			r.write(func() []coordinator.Input {
				return []coordinator.Input{coordinator.TrimAnswered{ID: effect.ID, Err: r.writes.TrimHistory(never{}, effect.ID)}}
			})
		case coordinator.RaiseLevel:
			r.write(func() []coordinator.Input {
				return []coordinator.Input{coordinator.LevelAnswered{Err: r.writes.RaiseLevel(never{}, effect.Level)}}
			})
		case coordinator.Expel:
			r.write(func() []coordinator.Input {
				return []coordinator.Input{coordinator.ExpelAnswered{Expulsion: effect.Expulsion, Err: r.writes.Expel(never{}, effect.Expulsion)}}
			})
		case coordinator.Probe:
			r.write(func() []coordinator.Input {
				return []coordinator.Input{coordinator.ProbeAnswered{Err: r.writes.Probe(never{})}}
			})
		case coordinator.Distrust:
			r.life.world.say("term      of %s distrusts what it watches of %v", r.life.id, effect.ID)
			r.end()
			return
		case coordinator.Bumped, coordinator.Invalid, coordinator.WritesFailing:
		}
	}
	for len(bumps) > 0 {
		batch := bumps[:min(batchMax, len(bumps))]
		bumps = bumps[len(batch):]
		r.write(func() []coordinator.Input { return r.bump(batch) })
	}
	for len(handoffs) > 0 {
		batch := handoffs[:min(batchMax, len(handoffs))]
		handoffs = handoffs[len(batch):]
		r.write(func() []coordinator.Input { return r.requestHandoffs(batch) })
	}
}

// write does a write in a task of its own, and gives the core the answers.
func (r *term) write(do func() []coordinator.Input) {
	t := r.life.world.spawn(r.life, func(t *task) {
		t.bound(requestWait)
		for _, answer := range do() {
			if errors.Is(errorOf(answer), fence.ErrDeposed) {
				r.end()
				return
			}
			r.inputs(answer)
		}
	})
	r.tasks = append(r.tasks, t)
	if len(r.tasks) > 64 {
		var running []*task
		for _, t := range r.tasks {
			if !t.finished {
				running = append(running, t)
			}
		}
		r.tasks = running
	}
}

func errorOf(answer coordinator.Input) error {
	switch answer := answer.(type) {
	case coordinator.BumpAnswered:
		return answer.Outcome.Err
	case coordinator.HandoffAnswered:
		return answer.Err
	case coordinator.RemoveAnswered:
		return answer.Err
	case coordinator.TrimAnswered:
		return answer.Err
	case coordinator.LevelAnswered:
		return answer.Err
	case coordinator.ExpelAnswered:
		return answer.Err
	case coordinator.ProbeAnswered:
		return answer.Err
	default:
		return nil
	}
}

func (r *term) bump(decisions []coordinator.Decision) []coordinator.Input {
	answers := make([]coordinator.Input, len(decisions))
	for i, outcome := range r.writes.Bump(never{}, decisions) {
		answers[i] = coordinator.BumpAnswered{ID: decisions[i].ID, Nonce: decisions[i].Nonce, Outcome: outcome}
	}
	return answers
}

func (r *term) requestHandoffs(handoffs []coordinator.Handoff) []coordinator.Input {
	answers := make([]coordinator.Input, len(handoffs))
	for i, err := range r.writes.RequestHandoffs(never{}, handoffs) {
		answers[i] = coordinator.HandoffAnswered{Handoff: handoffs[i], Err: err}
	}
	return answers
}

// takeEpochs tells both hosts who owns what.
func (l *life) takeEpochs(update epochstore.Update) {
	if update.Snapshot && update.Revision < l.record.Revision {
		l.world.fail(fmt.Errorf("sim: listed at %d, before %s joined at %d", update.Revision, l.id, l.record.Revision))
		return
	}
	if update.Snapshot {
		for _, change := range update.Changes {
			l.tellKnown(change)
		}
		l.hosts.listed(update)
		l.maintainers.listed(update)
		return
	}
	for _, change := range update.Changes {
		l.tellKnown(change)
		l.hosts.observed(change)
		l.maintainers.observed(change)
	}
}

func (l *life) tellKnown(change epochstore.Change) {
	if epoch, ok := change.Record.(*record.Epoch); ok && !change.Deleted {
		l.world.see(KnownFact{Node: l.id, ID: change.Ref.ID, UID: epoch.UID, Epoch: epoch.Epoch})
	}
}

// takeNodes returns what tells the maintainers which nodes there are.
func (l *life) takeNodes() func(epochstore.Update) {
	known := map[changefeed.NodeID]record.Node{}
	return func(update epochstore.Update) {
		for _, change := range update.Changes {
			if node, ok := change.Record.(*record.Node); ok && !change.Deleted {
				known[node.ID] = *node
			} else {
				delete(known, change.Ref.Node)
			}
		}
		if len(update.Changes) > 0 || update.Snapshot {
			l.seePeers(known)
			l.maintainers.nodesChanged(known, update.Revision)
		}
	}
}

func (l *life) takeHandoffs(update epochstore.Update) {
	for _, change := range update.Changes {
		if handoff, ok := change.Record.(*record.Handoff); ok && !change.Deleted {
			l.maintainers.handoff(change.Ref.ID, *handoff)
		} else if change.Deleted {
			delete(l.maintainers.handoffs, change.Ref.ID)
		}
	}
}
