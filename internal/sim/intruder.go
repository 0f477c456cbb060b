package sim

import (
	"errors"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	etcdsink "fencerow/sink/etcd"
)

// intrude has somebody try the sink whose time is over or never was: a creation of before, one that nobody has raised a
// floor for, an owner of before that removes, and another cluster. The sink refuses each; what it lets through, the checker
// judges.
func (w *World) intrude() {
	n := w.rng.IntN(w.plan.Feeds)
	name := w.checker.name(w.feedID(n))
	if !fence.Epoch(1).OlderThan(name.head.Floor) {
		return
	}
	as := sink.Identity{Cluster: clusterID, Changefeed: w.feedID(n), UID: name.head.UID}
	what := w.rng.IntN(5)
	w.spawn(nil, func(*task) {
		err := w.trespass(what, as, w.plan.Rows[n])
		w.say("intruder  %d at %v: %v", what, as.Changefeed, err)
		var fault *changefeed.Fault
		if errors.As(err, &fault) || errors.Is(err, fence.ErrStale) {
			w.struck(Intruder)
		}
	})
}

// trespass does what its sender may not do. Below the first floor everything is refused, whatever happens meanwhile.
func (w *World) trespass(what int, as sink.Identity, rows bool) error {
	claim := sink.Claim{Span: keySpace, Token: fence.Mint(1, 1), From: change.At(1)}
	switch what {
	case 0:
		as.UID = "uid-of-before"
	case 1:
		as.Changefeed.Name += "-never-raised"
	case 2:
		return w.intruder(as, rows).Remove(never{}, 1)
	case 3:
		if rows { // in an etcd each cluster has a place of its own
			as.Cluster = "another-cluster"
		}
	default:
		return w.intruder(as, rows).Raise(never{}, 1, sink.KnownNothing)
	}
	_, err := w.intruder(as, rows).Claim(never{}, claim)
	return err
}

func (w *World) intruder(as sink.Identity, rows bool) sink.Sink {
	if rows {
		return &rowSink{world: w, as: as}
	}
	to := &client{world: w, from: atPeople, to: w.target}
	opened, err := etcdsink.New(etcdsink.Config{
		Open: to.open, SourcePrefix: []byte(sourcePrefix), TargetPrefix: []byte(targetPrefix(as.Changefeed)), Identity: as,
	})
	w.fail(err)
	return opened
}
