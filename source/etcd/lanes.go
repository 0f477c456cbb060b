package etcd

import (
	"bytes"
	"time"

	"fencerow/changefeed"
)

// How a backlog is shared among lanes.
const (
	// lanesMax is the number of watches that share a backlog: above it the streams cost more than they save.
	lanesMax = 64
	// passRevisions is how many revisions etcd sends to a lagging watch per pass over the backlog.
	passRevisions = 1000
	// backlogMin is the backlog that is worth several watches.
	backlogMin = 4 * passRevisions
	// sampleMax bounds the keys that are kept to cut lanes by, sampleStep those of one merge.
	sampleMax  = 2048
	sampleStep = 256
	// refillBelow is the part of its answer, as a divisor, at which a lane asks for the next one.
	refillBelow = 4
	// recutAfter is how many events are merged before the lanes are judged again.
	recutAfter = 64 << 10
	// recutKeysMin is how many of the sampled keys a hot lane must have to be worth cutting.
	recutKeysMin = 16
)

// laneCut is what is known for cutting the span into lanes.
type laneCut struct {
	backlog int64    // revisions behind, as an answer to the single lane showed
	bytes   int      // of that answer
	keys    [][]byte // of recent events
	merged  int      // events since the lanes were cut
}

// judge notes an answer to the single lane that shows a backlog: etcd sent all that one pass gives, and the store is
// far beyond it.
func (t *tail) judge(lane *lane, a *answer) {
	n := len(a.events)
	if len(t.lanes) != 1 || lane != t.lanes[0] || n < passRevisions*9/10 {
		return
	}
	backlog := a.revision - a.events[n-1].kv.ModRevision
	if backlog < backlogMin {
		return
	}
	t.cut.backlog, t.cut.bytes = backlog, max(t.cut.bytes, a.eventBytes)
	t.cut.keys = t.cut.keys[:0]
	for i := range a.events {
		t.cut.keys = append(t.cut.keys, a.events[i].kv.Key)
	}
}

// keepSample remembers some keys of what was merged, for the next cut.
func (t *tail) keepSample() {
	if len(t.lanes) == 1 || len(t.ready) == 0 {
		return
	}
	t.cut.merged += len(t.ready)
	if len(t.cut.keys) >= sampleMax {
		t.cut.keys = append(t.cut.keys[:0], t.cut.keys[sampleStep:]...)
	}
	for i, step := 0, len(t.ready)/sampleStep+1; i < len(t.ready); i += step {
		t.cut.keys = append(t.cut.keys, bytes.Clone(t.ready[i].kv.Key))
	}
}

// reshape goes from one lane to many, from many to others, and back to one.
func (t *tail) reshape(over lives) error {
	switch {
	case len(t.lanes) == 1 && t.cut.backlog > 0:
		n := min(lanesMax, t.cut.backlog/passRevisions+1, int64(t.room.limit/max(t.cut.bytes*3/2, 1)))
		return t.recut(over, int(n))
	case len(t.lanes) == 1:
		return nil
	case t.next == nil && t.head-t.readyTo < passRevisions:
		// It watches what happens from now on, so it has nothing to catch up with.
		next, err := t.openLane(over, t.span, 0)
		t.next = next
		return err
	case t.next != nil:
		return t.takeOver()
	case t.cut.merged >= recutAfter:
		if t.lopsided() {
			return t.recut(over, len(t.lanes))
		}
		t.resetCounts()
	}
	return nil
}

// recut replaces the lanes by n others that go on after what is ready.
func (t *tail) recut(over lives, n int) error {
	t.cut.backlog = 0
	if n < 2 || len(t.cut.keys) < n {
		return nil
	}
	spans := spread(t.span, t.cut.keys, n)
	if len(spans) < 2 {
		return nil
	}
	t.dropLanes()
	for _, span := range spans {
		lane, err := t.openLane(over, span, t.readyTo+1)
		if err != nil {
			return err
		}
		t.lanes = append(t.lanes, lane)
	}
	t.resetCounts()
	t.cut.keys = nil
	t.setTick(tickCatchUp)
	return nil
}

func (t *tail) resetCounts() {
	t.cut.merged = 0
	for _, lane := range t.lanes {
		lane.count = 0
	}
}

// lopsided reports whether one lane had most of the events, and has keys enough to be cut.
func (t *tail) lopsided() bool {
	for _, lane := range t.lanes {
		if lane.count <= t.cut.merged/2 {
			continue
		}
		distinct := make(map[string]bool)
		for _, key := range t.cut.keys {
			if lane.stream.span.Contains(key) {
				distinct[string(key)] = true
			}
		}
		return len(distinct) >= recutKeysMin
	}
	return false
}

// takeOver makes the next lane the only one, once everything before its beginning is ready.
func (t *tail) takeOver() error {
	if !t.next.created {
		if _, err := t.take(t.next); err != nil || !t.next.created {
			return err
		}
		for _, lane := range t.lanes { // at once: the next tick may be 10 ms away
			lane.waited, lane.askAt = 0, 1
			if err := lane.ask(t.next.createdAt-1, t.tick); err != nil {
				return err
			}
		}
	}
	if t.readyTo < t.next.createdAt {
		return nil
	}
	t.dropLanes()
	t.next.dropDone(t.room, t.readyTo)
	t.lanes, t.next, t.cut = []*lane{t.next}, nil, laneCut{}
	t.setTick(tickLive)
	return nil
}

// dropLanes closes the lanes and gives back the room of what they had beyond what is ready.
func (t *tail) dropLanes() {
	t.closeLanes(t.lanes)
	for _, lane := range t.lanes {
		size := 0
		for i := range lane.pending {
			size += lane.pending[i].size()
		}
		t.room.release(size)
	}
	t.lanes = nil
}

// add keeps what is above done. What lies at or below it can come only from a lane that began at no revision.
func (l *lane) add(a *answer, room *room, done int64) {
	if len(l.pending) == 0 {
		l.pending = a.events
	} else {
		l.pending = append(l.pending, a.events...)
	}
	l.complete = max(l.complete, a.complete())
	l.dropDone(room, done)
	l.batch = len(l.pending)
}

// refill asks for the next answer of lanes that run low. Lanes that share a backlog run low at about the same time: if
// each was asked for when it is empty, their answers would come one after another.
func refill(lanes []*lane) {
	for _, lane := range lanes {
		if lane.batch > 0 && len(lane.pending)*refillBelow < lane.batch {
			lane.batch = 0
			lane.stream.wantSoon()
		}
	}
}

func (l *lane) dropDone(room *room, done int64) {
	dropped := 0
	for len(l.pending) > 0 && l.pending[0].kv.ModRevision <= done {
		dropped += l.pending[0].size()
		l.pending = l.pending[1:]
	}
	room.release(dropped)
	l.complete = max(l.complete, done)
}

// ask requests progress of a lane that is not complete beyond the revision, less and less often while there is no answer.
func (l *lane) ask(revision int64, tick time.Duration) error {
	if l.complete > revision || !l.created {
		return nil
	}
	l.waited++
	if l.waited < l.askAt {
		return nil
	}
	l.askAt = l.waited + min(l.waited, int(askEvery/tick))
	return l.stream.requestProgress()
}

// whole returns the span of adjacent pieces.
func whole(pieces []marked) changefeed.Span {
	return changefeed.Span{Start: pieces[0].span.Start, End: pieces[len(pieces)-1].span.End}
}
