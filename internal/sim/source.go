package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
)

// log is a partitioned source: changes of keys at rising positions. Several keys may change at one position.
type log struct {
	world   *World
	changes []change.Change
	head    change.Position
	live    map[string]bool // keys that exist
	outage  time.Duration   // until then it can't be read
	swapped time.Duration   // until then another source answers, which nobody has seen before
	idle    bool
	kept    map[changefeed.UID]*kept // of changefeeds that read it as one log
	seats   uint64                   // that were taken
}

// changesMax bounds a source, so that a run that stood still for long can catch up.
const changesMax = 1200

var errOutage = errors.New("sim: the source can't be reached")

// write makes a position with some changes.
func (s *log) write() {
	w := s.world
	s.head += change.Position(1 + w.rng.IntN(3))
	keys := map[int]bool{}
	for range 1 + w.rng.IntN(3)*w.rng.IntN(2) {
		keys[w.rng.IntN(w.plan.SrcKey)] = true
	}
	index := uint32(0)
	for n := range w.plan.SrcKey {
		if !keys[n] {
			continue
		}
		key := fmt.Sprintf("%sk%02d", sourcePrefix, n)
		made := change.Change{Position: s.head, Index: index, Key: []byte(key), Op: change.OpCreate}
		index++
		if s.live[key] {
			made.Op = change.OpUpdate
			if w.chance(0.15) {
				made.Op = change.OpDelete
			}
		}
		s.live[key] = made.Op != change.OpDelete
		if made.Op != change.OpDelete {
			made.After = &change.KV{Key: made.Key, Value: []byte(strconv.FormatUint(uint64(s.head), 10)), ModRevision: int64(s.head)}
		}
		s.changes = append(s.changes, made)
		w.see(SourceFact{Position: s.head, Key: key, Deleted: made.Op == change.OpDelete})
	}
}

// run goes on writing.
func (s *log) run() {
	s.world.after(s.world.between(0, 2*s.world.plan.ChangeEvery), func() {
		if !s.idle && len(s.changes) < changesMax {
			s.write()
		}
		s.run()
	})
}

// ask is a task's request to the source.
func (s *log) ask(t *task, do func()) error {
	w := s.world
	wait := t.begin()
	var failed error
	w.transmit(t.life.node.index, atSource, t.life, func() {
		if s.outage > w.now {
			w.struck(SourceOutage)
			failed = errOutage
		} else {
			do()
		}
		w.transmit(atSource, t.life.node.index, nil, func() { t.wake(wait, wokenByAnswer) })
	})
	w.after(t.clocked(w.plan.AnswerWait), func() { t.wake(wait, wokenByTime) })
	if t.park() != wokenByAnswer {
		return errOutage
	}
	w.given(answered)
	return failed
}

// page returns the rows of a span as the source held them at a position, at most so many, and the part of the span that they
// are all of. Every row is at that position, whenever it was written.
func (s *log) page(span changefeed.Span, at change.Position, most int) ([]change.Change, changefeed.Span) {
	newest := map[string]*change.Change{}
	for i := range s.changes {
		if made := &s.changes[i]; made.Position <= at && span.Contains(made.Key) {
			newest[string(made.Key)] = made
		}
	}
	var rows []change.Change
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		made := newest[key]
		if made.Op == change.OpDelete {
			continue
		}
		if len(rows) == most {
			return rows, changefeed.Span{Start: span.Start, End: []byte(key)}
		}
		rows = append(rows, change.Change{Position: at, Index: uint32(len(rows)), Key: made.Key, Op: change.OpRead, After: made.After})
	}
	return rows, span
}

// identity says which source answers. One that nobody knows yet does not tell a changefeed that asks for the first time.
func (s *log) identity(known string) (string, error) {
	if s.swapped <= s.world.now {
		return sourceName, nil
	}
	if known == "" {
		return "", errOutage
	}
	s.world.struck(SourceSwap)
	return "another-source", nil
}

// read returns the changes of a span above a position, of whole positions, about so many, and how far that is.
func (s *log) read(span changefeed.Span, above change.Position, most int) ([]change.Change, change.Position) {
	var out []change.Change
	low, high := 0, len(s.changes)
	for low < high {
		if middle := (low + high) / 2; s.changes[middle].Position > above {
			high = middle
		} else {
			low = middle + 1
		}
	}
	for i := low; i < len(s.changes); i++ {
		at := s.changes[i]
		if len(out) >= most && at.Position != out[len(out)-1].Position {
			return out, at.Position - 1
		}
		if span.Contains(at.Key) {
			out = append(out, at)
		}
	}
	return out, s.head
}
