package sim

import (
	"time"

	"fencerow/kv"
)

// damaged is what a hand has left of a record: it does not parse.
const damaged = `{"uid":`

// damage has a spec overwritten by hand with something that can't be read, and brings it back after a while.
func (w *World) damage(d time.Duration) {
	key := w.plan.Keys.Spec(w.feedID(w.rng.IntN(w.plan.Feeds)))
	stored, err := w.etcd.machine.Range(kv.Range{Key: key})
	w.fail(err)
	if len(stored.Pairs) == 0 || string(stored.Pairs[0].Value) == damaged {
		return
	}
	good := stored.Pairs[0].Value
	w.struck(Damage)
	w.say("etcd      %s can't be read any more", key)
	w.byHand(kv.Put(key, []byte(damaged)))
	w.etcd.unseen()
	w.after(d, func() {
		stored, err := w.etcd.machine.Range(kv.Range{Key: key})
		w.fail(err)
		if len(stored.Pairs) > 0 && string(stored.Pairs[0].Value) == damaged {
			w.say("etcd      %s is brought back", key)
			w.byHand(kv.Put(key, good))
			w.etcd.committed(actor{})
		}
	})
}

// byHand puts a record as nobody of ours does.
func (w *World) byHand(op kv.Op) {
	_, err := w.etcd.machine.Apply(kv.Txn{Then: []kv.Op{op}})
	w.fail(err)
}

// unseen has watchers learn of what was committed, and not the checker, which has nothing to read in it.
func (s *server) unseen() {
	_, _ = s.all.Next(0)
	for _, stream := range s.watches {
		stream.nudge()
	}
}
