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
// floor for, and an owner of before that removes. The sink refuses each; what it lets through, the checker judges.
func (w *World) intrude() {
	n := w.rng.IntN(w.plan.Feeds)
	name := w.checker.name(w.feedID(n))
	if !w.quiet(name.head) {
		return
	}
	as := sink.Identity{Cluster: clusterID, Changefeed: w.feedID(n), UID: name.head.UID}
	what := w.rng.IntN(3)
	w.spawn(nil, func(*task) {
		var err error
		switch what {
		case 0:
			as.UID = "uid-of-before"
			err = w.intruder(as).Raise(never{}, 1, sink.KnownNothing)
		case 1:
			as.Changefeed.Name += "-never-raised"
			_, err = w.intruder(as).Claim(never{}, sink.Claim{Span: keySpace, Token: fence.Mint(1, 1), From: change.At(1)})
		default:
			err = w.intruder(as).Remove(never{}, 1)
		}
		w.say("intruder  %d at %v: %v", what, as.Changefeed, err)
		var fault *changefeed.Fault
		if errors.As(err, &fault) || errors.Is(err, fence.ErrStale) {
			w.struck(Intruder)
		}
	})
}

// quiet reports whether the head refuses the first epoch whatever happens meanwhile.
func (w *World) quiet(head HeadFact) bool {
	return fence.Epoch(1).OlderThan(head.Floor) && !head.Removed
}

func (w *World) intruder(as sink.Identity) sink.Sink {
	to := &client{world: w, from: atPeople, to: w.target}
	opened, err := etcdsink.New(etcdsink.Config{
		Open: to.open, SourcePrefix: []byte(sourcePrefix), TargetPrefix: []byte(targetPrefix(as.Changefeed)), Identity: as,
	})
	w.fail(err)
	return opened
}
