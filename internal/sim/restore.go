package sim

import (
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
)

// restoresMax bounds the restores of a run: it is not what operators do every minute.
const restoresMax = 2

// restore takes a backup of the records; the next time it brings etcd back from it, under its own or another cluster id,
// with or without a jump of revisions, and takes the next backup. Connections end, and what was on its way is lost.
func (w *World) restore() {
	if w.restores == restoresMax {
		return
	}
	if w.backup == nil {
		w.backup = w.etcd.machine.Clone(0, 0)
		w.say("etcd      a backup at %d", w.backup.Revision())
		return
	}
	id, bump := w.etcd.machine.ClusterID(), int64(0)
	if w.chance(0.5) {
		id++
	}
	if w.chance(0.3) {
		bump = 100_000
	}
	lost := w.etcd.machine.Revision() - w.backup.Revision()
	w.say("etcd      restored: %d revisions are lost, cluster %d, revisions jump by %d", lost, id, bump)
	if lost > 0 {
		w.struck(Restore)
	}
	w.etcd.machine, w.backup = w.backup.Clone(id, bump), nil
	w.etcd.lives++
	w.restores++
	w.etcd.machine.Advance(w.now)
	w.etcd.watchAll()
	for _, s := range append([]*stream(nil), w.etcd.watches...) {
		s.close()
	}
	w.see(RestoreFact{})
	stored, err := w.etcd.machine.Range(kv.Range{Key: w.plan.Keys.Prefix(), End: kv.PrefixEnd(w.plan.Keys.Prefix())})
	w.fail(err)
	var events []kv.Event
	for _, pair := range stored.Pairs {
		events = append(events, kv.Event{Pair: pair})
	}
	w.fail(w.observer.Records("", events))
}

// watchAll has the checker see every event from now on.
func (s *server) watchAll() {
	s.all = s.machine.Watch(kv.WatchRequest{Key: "\x00", End: kv.RangeEndInfinite, From: s.machine.Revision() + 1})
}

// repair is what an operator does about changefeeds that have failed: the floor of epochs is raised above what a sink knows,
// what can't go on is removed by force, and the others are tried again.
func (p *people) repair() {
	w := p.world
	for n := range w.plan.Feeds {
		id := w.feedID(n)
		view, err := p.store.Changefeed(never{}, id)
		if err != nil || view.Status.Record == nil || view.Status.Record.State != changefeed.StateFailed || view.Status.Record.Error == nil {
			continue
		}
		switch code := view.Status.Record.Error.Code; code {
		case changefeed.CodeEpochBehindSink:
			p.report("raise the floor", p.store.RaiseFloor(never{}, w.highestInSinks()))
		case changefeed.CodeSinkInUse, changefeed.CodeSinkLost, changefeed.CodeSinkBehind:
			w.see(ForceFact{ID: id})
			p.report("remove by force "+id.String(), p.store.ForceRemove(never{}, id))
		default:
			p.report("try again "+id.String(), p.bump(id))
		}
	}
}

// highestInSinks is what an operator reads from the sinks.
func (w *World) highestInSinks() fence.Epoch {
	var out fence.Epoch
	see := func(epoch fence.Epoch) {
		if out.OlderThan(epoch) {
			out = epoch
		}
	}
	for _, name := range w.checker.names { // a maximum does not depend on the order
		see(name.head.Floor)
	}
	for _, feed := range w.checker.feeds {
		for _, claim := range feed.claimed {
			see(claim.Token.Epoch())
		}
	}
	return out
}
