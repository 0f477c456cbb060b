package sim

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/node/records"
	"fencerow/record"
)

// A source with one log, as a PostgreSQL is: it keeps its log for a changefeed from a moment on, until it is told what it may forget,
// and ends with its owner's connection whoever read it before. It can't compare an epoch; so who changes what it keeps sits in a seat
// that is this changefeed's alone, and has the record confirmed while it sits (source/postgres, sit).

const serialScheme = "postgres:"

func serial(spec record.Spec) bool { return strings.HasPrefix(spec.Source, serialScheme) }

// kept is what the source keeps for one changefeed.
type kept struct {
	there     bool
	forgotten change.Position // at or below it nothing is kept
	seat      uint64          // of who sits there; 0: nobody
	sitter    *runner
	hub       *runner // that reads the log for all dispatchers
}

var (
	errSeatTaken = errors.New("sim: an older owner sits there")
	errEnded     = errors.New("sim: the connection was ended by another owner")
	errNoHub     = errors.New("sim: nobody reads the log")
)

func (s *log) of(uid changefeed.UID) *kept {
	if s.kept[uid] == nil {
		s.kept[uid] = &kept{}
	}
	return s.kept[uid]
}

// sit takes the seat of a changefeed. Whoever sits there has its connection ended, if that may be done; a newer owner never has.
func (s *log) sit(r *runner, oust bool) (seat uint64, err error) {
	k := s.of(r.own.Record.UID)
	if k.seat != 0 && !k.sitter.life.dead {
		switch {
		case r.own.Record.Epoch.OlderThan(k.sitter.own.Record.Epoch):
			return 0, fence.ErrStale
		case !oust:
			return 0, errSeatTaken
		}
	}
	s.seats++
	k.seat, k.sitter = s.seats, r
	return k.seat, nil
}

// alter changes what the source keeps for a changefeed.
func (r *runner) alter(t *task, do func(*kept)) error {
	source := r.life.world.source
	var seat uint64
	var refused error
	sit := func(oust bool) error {
		if err := source.ask(t, func() { seat, refused = source.sit(r, oust) }); err != nil {
			return err
		}
		return refused
	}
	err := sit(false)
	if errors.Is(err, errSeatTaken) {
		if err = r.confirm(); err == nil {
			err = sit(true)
		}
	}
	if err == nil {
		err = r.confirm()
	}
	if err != nil {
		return err
	}
	if err := source.ask(t, func() {
		k := source.of(r.own.Record.UID)
		if k.seat != seat {
			refused = errEnded
			return
		}
		do(k)
		k.seat = 0
	}); err != nil {
		return err
	}
	return refused
}

// confirm returns nil if the record, read now, still is the ownership.
func (r *runner) confirm() error {
	now, err := records.Maintaining{Store: r.life.store}.ReadEpoch(never{}, r.own.ID)
	if err == nil && now.Revision != r.own.Revision {
		err = fence.ErrStale
	}
	return err
}

// prepare has the source keep its log from now on, unless it does.
func (r *runner) prepare(t *task) (position change.Position, err error) {
	source := r.life.world.source
	err = r.alter(t, func(k *kept) {
		if !k.there {
			k.there, k.forgotten = true, source.head
			r.life.world.say("source    keeps its log above %d for %s of %v", source.head, r.own.Record.UID, r.own.ID)
		}
		position = k.forgotten
	})
	return position, err
}

// dropSource has the source keep nothing.
func (r *runner) dropSource(t *task) error {
	r.served = false
	return r.alter(t, func(k *kept) {
		k.there = false
		r.life.world.say("source    keeps nothing for %s of %v", r.own.Record.UID, r.own.ID)
	})
}

// serveLog has the runner read the log for all dispatchers, as soon as the source can be asked and no newer owner does.
func (r *runner) serveLog(effect maintainer.ServeLog) {
	r.served = true
	r.forget(effect.Stored)
	source := r.life.world.source
	r.life.world.spawn(r.life, func(t *task) {
		for r.served && !r.ended {
			followed := false
			err := source.ask(t, func() {
				k := source.of(r.own.Record.UID)
				if k.hub == nil || k.hub == r || k.hub.own.Record.Epoch.OlderThan(r.own.Record.Epoch) {
					k.hub, followed = r, true
				}
			})
			if err == nil && followed {
				return
			}
			t.sleep(readEvery)
		}
	})
}

// forget lets the source forget what a stored checkpoint covers. The message may come late, or never.
func (r *runner) forget(upTo change.Position) {
	w, uid := r.life.world, r.own.Record.UID
	w.transmit(r.life.node.index, atSource, r.life, func() {
		if k := w.source.of(uid); k.there && upTo > k.forgotten {
			k.forgotten = upTo
			w.see(ForgetFact{UID: uid, UpTo: upTo})
		}
	})
}

// readable returns why a dispatcher of a node can't be given what is above a position. It asks who reads the log, over the nodes' links.
func (s *log) readable(by *life, uid changefeed.UID, above change.Position) error {
	k := s.of(uid)
	if k.hub == nil || k.hub.ended || !k.hub.served || k.hub.life.dead || k.hub.life.pausedTo > s.world.now || s.world.apart(by, k.hub.life) {
		return errNoHub
	}
	if !k.there || above < k.forgotten {
		return &changefeed.Fault{Code: changefeed.CodeSourceSlotLost, Permanent: true, Detail: "the source has forgotten what is above " + above.String()}
	}
	return nil
}

// apart reports whether two nodes have no connection now.
func (w *World) apart(a, b *life) bool {
	return a.node != b.node && (w.link(a.node.index, b.node.index).cut(w) || w.link(b.node.index, a.node.index).cut(w))
}

// keptForNobody holds what the source still keeps against the changefeeds that there are. It would keep it for ever.
func (w *World) keptForNobody() {
	for _, uid := range slices.Sorted(maps.Keys(w.source.kept)) {
		feed := w.checker.feeds[uid]
		if spec := w.checker.name(feed.id).spec; w.source.kept[uid].there && !feed.forced && (spec == nil || spec.UID != uid) {
			w.fail(violated(10, "the source keeps its log for %s of %v, which was removed", uid, feed.id))
		}
	}
}
