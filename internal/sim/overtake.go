package sim

import (
	"slices"

	"fencerow/changefeed"
	"fencerow/record"
)

// overtake has an eviction be overtaken. Each node learns of it late, and meanwhile the changefeed gets another owner, and the node
// that was evicted its links back, so that it is given something newer, or no links, so that it is evicted once more.
func (w *World) overtake(fact EvictionFact) {
	feed, evicted := w.checker.feeds[fact.UID], w.lifeOf(fact.Node)
	if !w.faulty || !w.plan.Enabled[LateEviction] || feed == nil || evicted == nil {
		return
	}
	for _, s := range w.etcd.watches {
		if slices.Equal(s.kinds, []record.Kind{record.KindEviction}) { // and not what the coordinator watches
			s.late = max(s.late, w.now+w.between(0, 2*w.plan.TTL))
		}
	}
	w.say("fault     %v of %s", LateEviction, fact.Node)
	if w.chance(0.5) {
		w.isolate(evicted.node, 2*w.plan.TTL)
	} else {
		w.after(w.between(0, w.plan.TTL/2), func() { w.join(evicted.node) })
	}
	w.overtaken = append(w.overtaken, feed.id)
}

// dispossessions has those get another owner of whom somebody was evicted.
func (w *World) dispossessions() {
	if !w.faulty {
		return
	}
	for _, id := range w.overtaken {
		w.dispossess(id)
	}
	w.overtaken = nil
	w.after(w.between(0, w.plan.TTL/2), w.dispossessions)
}

// dispossess has a changefeed get another owner: people change what its dispatchers obey, or bump it, or the owner dies.
func (w *World) dispossess(id changefeed.ID) {
	switch w.rng.IntN(4) {
	case 0:
		if epoch := w.checker.name(id).epoch; epoch != nil {
			if owner := w.lifeOf(epoch.Owner); owner != nil {
				w.crash(owner.node)
			}
		}
	case 1:
		w.spawn(nil, func(*task) { w.people.report("bump", w.people.bump(id)) })
	default:
		w.spawn(nil, func(*task) {
			w.people.report("option", w.people.update(id, func(s *record.Spec) { w.people.tune(s, "batch_changes") }))
		})
	}
}
