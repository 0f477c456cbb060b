package sim

import (
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

const (
	// pastMax is how many commands are kept to come again.
	pastMax = 200
	// lostMax is how many are kept that did not arrive.
	lostMax = 10
	// burst is how many come at a time.
	burst = 6
	// poisoned is above every epoch that a cluster comes to by itself.
	poisoned = 1 << 40
)

// remember keeps a command, so that it can come again.
func (w *World) remember(env message.Envelope) {
	if !env.Body.Kind().Down() {
		return
	}
	if len(w.past) == pastMax {
		w.past = append(w.past[:0], w.past[1:]...)
	}
	w.past = append(w.past, env)
}

// miss keeps a command that was lost, so that it can come late.
func (w *World) miss(env message.Envelope) {
	if !env.Body.Kind().Down() {
		return
	}
	if len(w.lost) == lostMax {
		w.lost = append(w.lost[:0], w.lost[1:]...)
	}
	w.lost = append(w.lost, env)
}

// echo has some commands of the past arrive again, or late, whoever has sent them.
func (w *World) echo() {
	for range burst {
		if len(w.past) == 0 {
			return
		}
		env := w.past[w.rng.IntN(len(w.past))]
		if len(w.lost) > 0 && w.chance(0.5) {
			env = w.lost[w.rng.IntN(len(w.lost))]
		}
		if to := w.lifeOf(env.To); to != nil {
			w.struck(Echo)
			w.after(w.between(0, w.plan.DelayMax), func() { to.receive(env) })
		}
	}
}

// rogue has a broken node send commands that nobody may send: under epoch 0, under one that no record has, in the place of
// the owner, or for a uid that there never was. Or it tells an owner that it is one no more.
func (w *World) rogue() {
	for range burst {
		to := w.people.someone()
		if len(w.past) == 0 || to == nil {
			return
		}
		env := w.past[w.rng.IntN(len(w.past))]
		env.To = to.id
		switch w.rng.IntN(7) {
		case 0:
			env.Epoch = 0
		case 1:
			env.Epoch = fence.Epoch(poisoned + w.rng.IntN(poisoned))
		case 2:
			env.From, env.Epoch = "nobody", w.epochOf(env.ID)
		case 3:
			w.backward(to)
			continue
		case 4:
			env.UID = changefeed.UID(w.word("uid-"))
		case 5:
			w.depose(env)
			continue
		default:
			env.From, env.Epoch = "nobody", fence.Next(w.epochOf(env.ID), 0, 0)
		}
		w.struck(Rogue)
		w.after(w.between(0, w.plan.DelayMax), func() { to.receive(env) })
	}
}

// depose tells the owner of the time that somebody holds an epoch which no record has.
func (w *World) depose(env message.Envelope) {
	epoch := w.checker.name(env.ID).epoch
	if epoch == nil {
		return
	}
	to := w.lifeOf(epoch.Owner)
	if to == nil {
		return
	}
	held := fence.Epoch(poisoned + w.rng.IntN(poisoned))
	env.UID, env.Epoch, env.From, env.To = epoch.UID, epoch.Epoch, env.To, epoch.Owner
	env.Body = message.Rejected{Offered: epoch.Epoch, Held: held, Rule: fence.RefusedOlder.Rule(), Command: env.Body.Kind()}
	if w.rng.IntN(2) == 0 {
		env.Epoch = held
	}
	w.struck(Rogue)
	w.after(w.between(0, w.plan.DelayMax), func() { to.receive(env) })
}

// backward has a broken owner store a checkpoint below the one that stands, in a status that is right in all else.
func (w *World) backward(l *life) {
	if l.maintainers == nil {
		return
	}
	for _, id := range slices.SortedFunc(maps.Keys(l.maintainers.runners), changefeed.ID.Compare) {
		own := l.maintainers.runners[id].own
		w.spawn(l, func(t *task) {
			t.bound(requestWait)
			_, stored, err := l.store.Status(never{}, id)
			if err != nil || !stored.Exists() || stored.Record.Checkpoint == 0 || own.Record.Epoch.Confirm(stored.Record.Epoch) != nil {
				return
			}
			status := *stored.Record
			status.Checkpoint--
			l.maintainers.writeAll([]epochstore.StatusWrite{{
				ID: id, Last: stored, Status: status, Ownership: epochstore.Seen[record.Epoch]{Record: &own.Record, ModRevision: own.Revision},
			}})
		})
	}
}

// epochOf is the epoch that stands.
func (w *World) epochOf(id changefeed.ID) fence.Epoch {
	if epoch := w.checker.name(id).epoch; epoch != nil {
		return epoch.Epoch
	}
	return 0
}
