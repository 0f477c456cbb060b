package sim

import (
	"errors"
	"math"
	"time"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/record"
)

const (
	streamProgress = time.Second            // how often a stream is asked how far it is
	streamRetry    = 100 * time.Millisecond // before it is started anew
	streamSilent   = 4 * time.Second        // without a sign of life it is started anew
)

// stream watches records for one reader of one life: it lists, follows, and starts anew where that fails. The memory of
// what was delivered is epochstore's.
type stream struct {
	life    *life
	kinds   []record.Kind
	tracker *epochstore.Tracker
	deliver func(epochstore.Update)
	after   func() bool // still wanted
	cursor  *kvmem.Cursor

	generation int // of the cursor
	scheduled  bool
	ended      bool
	pending    []kv.Event
	silent     time.Duration // until then nothing comes, and no error
	late       time.Duration // until then what comes waits
	proven     changefeed.Time
	heard      changefeed.Time
}

// watch starts a stream. It ends with the life, or when wanted says so.
func (l *life) watch(deliver func(epochstore.Update), wanted func() bool, kinds ...record.Kind) *stream {
	s := &stream{life: l, kinds: kinds, tracker: l.store.Track(kinds...), deliver: deliver, after: wanted}
	l.world.spawn(l, s.run)
	return s
}

// age says how old what was delivered may be.
func (s *stream) age() time.Duration {
	if s.proven == 0 {
		return time.Duration(math.MaxInt64)
	}
	return s.life.clock.read().Sub(s.proven)
}

func (s *stream) wanted() bool { return !s.ended && !s.life.dead && s.after() }

// close ends the stream at the server.
func (s *stream) close() {
	s.generation++
	s.pending = nil
	if s.cursor != nil {
		s.cursor.Close()
		s.cursor = nil
	}
	watches := s.life.world.etcd.watches[:0]
	for _, other := range s.life.world.etcd.watches {
		if other != s {
			watches = append(watches, other)
		}
	}
	s.life.world.etcd.watches = watches
}

// run lists, follows, and asks for progress, as long as it is wanted.
func (s *stream) run(t *task) {
	listed := false
	for s.wanted() {
		asked := s.life.clock.read()
		if !listed {
			if !s.list(asked) {
				t.sleep(streamRetry)
				continue
			}
		}
		s.open()
		for s.wanted() && s.cursor != nil {
			t.sleep(streamProgress)
			if s.cursor == nil {
				break
			}
			if s.life.clock.read().Sub(s.heard) > streamSilent {
				s.life.world.say("watch     of %s was silent", s.life.id)
				s.close()
				break
			}
			s.ask()
		}
		listed = !s.compacted()
		s.close()
		t.sleep(streamRetry)
	}
	s.ended = true
	s.close()
}

// compacted reports whether the history that would come next is gone.
func (s *stream) compacted() bool {
	return s.tracker.Revision()+1 < s.life.world.etcd.machine.Compacted()
}

func (s *stream) list(asked changefeed.Time) bool {
	var pairs []kv.Pair
	revision := int64(0)
	for _, kind := range s.kinds {
		prefix := s.life.store.Keys().Of(kind)
		end := kv.PrefixEnd(prefix)
		if kind == record.KindMeta {
			end = ""
		}
		result, err := s.life.kv.Range(never{}, kv.Range{Key: prefix, End: end, Revision: revision})
		if err != nil {
			return false
		}
		if revision == 0 {
			revision = result.Revision
		}
		pairs = append(pairs, result.Pairs...)
	}
	if !s.wanted() {
		return false
	}
	update, err := s.tracker.Listed(pairs, revision)
	if err != nil {
		s.life.world.fail(err)
		return false
	}
	s.deliver(update)
	s.proven = asked
	return true
}

func (s *stream) open() {
	key, end := s.tracker.Scope()
	server := s.life.world.etcd
	s.cursor = server.machine.Watch(kv.WatchRequest{Key: key, End: end, From: s.tracker.Revision() + 1})
	s.heard = s.life.clock.read()
	server.watches = append(server.watches, s)
	s.nudge()
}

// nudge has what is new delivered, after a while.
func (s *stream) nudge() {
	if s.scheduled || s.cursor == nil || !s.cursor.Behind() {
		return
	}
	w := s.life.world
	delay := w.between(w.plan.DelayMin, w.plan.DelayMax)
	if w.strikes(WatchLag) {
		w.struck(WatchLag)
		delay += w.between(0, w.plan.LagMax)
	}
	if s.silent > w.now {
		w.struck(WatchSilence)
		delay += s.silent - w.now
	}
	if s.late > w.now {
		w.struck(LateEviction)
		delay += s.late - w.now
	}
	if l := w.link(atEtcd, s.life.node.index); l.cut(w) {
		w.struck(CutEtcd)
		delay += l.cutUntil - w.now
	}
	s.scheduled = true
	generation := s.generation
	w.after(delay, func() {
		s.scheduled = false
		if s.generation == generation {
			s.take(generation)
		} else {
			s.nudge()
		}
	})
}

// take takes what the server has. It is on its way then, and a pause holds it up.
func (s *stream) take(generation int) {
	for s.cursor != nil && s.generation == generation {
		response, found := s.cursor.Next(s.life.world.plan.Fragment)
		if !found {
			return
		}
		s.arrive(generation, response)
	}
}

func (s *stream) arrive(generation int, response kv.WatchResponse) {
	if s.life.frozen(func() { s.arrive(generation, response) }) {
		return
	}
	if s.generation != generation || !s.wanted() {
		return
	}
	if response.Err != nil {
		if errors.Is(response.Err, kv.ErrCompacted) {
			s.life.world.struck(Compaction)
		}
		s.close()
		return
	}
	s.heard = s.life.clock.read()
	s.pending = append(s.pending, response.Events...)
	if response.Fragment {
		return
	}
	update := s.tracker.Events(s.pending)
	s.pending = nil
	s.deliver(update)
}

// ask asks for progress: an answer says that nothing was missing when it was asked.
func (s *stream) ask() {
	w, generation, asked := s.life.world, s.generation, s.life.clock.read()
	if s.silent > w.now {
		return
	}
	w.transmit(s.life.node.index, atEtcd, s.life, func() {
		if s.generation != generation || s.cursor == nil || w.etcd.stalled > w.now || s.cursor.Behind() || s.scheduled {
			return
		}
		w.transmit(atEtcd, s.life.node.index, nil, func() {
			if s.generation == generation && !s.life.frozen(func() {}) {
				s.proven, s.heard = max(s.proven, asked), s.life.clock.read()
			}
		})
	})
}
