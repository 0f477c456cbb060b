package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// rowsScheme is that of a target as databases are.
const rowsScheme = "postgres:"

// claiming reports whether the sink of a spec has claims.
func claiming(uri string) bool {
	return strings.HasPrefix(uri, "etcd:") || strings.HasPrefix(uri, rowsScheme)
}

// table is what such a target keeps of one changefeed: head, map and data, which change together in one step. What may
// change, the code that all sinks share decides.
type table struct {
	head sink.Head
	held sink.Map
	last sink.Incarnation
	data map[string]string
}

// rowSink is a process's connection to the target. A nil life is an operator's.
type rowSink struct {
	world *World
	life  *life
	as    sink.Identity
}

// step does something at the target, in one step there. Its answer may be lost, and the way to it.
func (s *rowSink) step(do func(*table) error) error {
	w := s.world
	to := &client{world: w, life: s.life, from: atPeople, to: w.target}
	if s.life != nil {
		to.from = s.life.node.index
	}
	_, err := to.request(writes, func() (any, error) {
		t := w.tables[s.as.Changefeed]
		if t == nil {
			t = &table{data: map[string]string{}}
			w.tables[s.as.Changefeed] = t
		}
		return nil, do(t)
	})
	return err
}

func (s *rowSink) seeHead(t *table) {
	head := t.head
	s.world.see(HeadFact{ID: s.as.Changefeed, UID: head.Identity.UID, Floor: head.Floor, Removed: head.Removed})
}

// Raise raises the floor.
func (s *rowSink) Raise(_ context.Context, epoch fence.Epoch, known sink.Known) error {
	return s.step(func(t *table) error {
		head, err := t.head.Raise(s.as, epoch, known)
		if err != nil {
			return err
		}
		if head.Succeeds(t.head) {
			t.held = sink.Map{}
		}
		t.head = head
		s.seeHead(t)
		return nil
	})
}

// Claim takes a span.
func (s *rowSink) Claim(_ context.Context, claim sink.Claim) (sink.Writer, error) {
	var w *rowWriter
	err := s.step(func(t *table) error {
		held, err := t.held.Claim(t.head, s.as, claim, t.last+1)
		if err != nil {
			return err
		}
		t.held = held
		t.last++
		w = &rowWriter{sink: s, incarnation: t.last, pieces: held.Pieces(t.last)}
		s.world.see(ClaimFact{UID: s.as.UID, Claim: uint64(t.last), Span: claim.Span, Token: claim.Token})
		s.seeMarks(t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (s *rowSink) seeMarks(t *table) {
	s.world.see(MarksFact{UID: s.as.UID, Marks: marksOf(t.held.Held())})
}

func marksOf(held []sink.Held) []SpanMark {
	out := make([]SpanMark, len(held))
	for i := range held {
		out[i] = SpanMark{Span: held[i].Span, Mark: held[i].Mark}
	}
	return out
}

// Remove ends the changefeed there.
func (s *rowSink) Remove(_ context.Context, epoch fence.Epoch) error {
	return s.step(func(t *table) error {
		head, err := t.head.Remove(s.as, epoch)
		if err != nil {
			return err
		}
		if head != t.head {
			t.head, t.held = head, sink.Map{}
			s.seeHead(t)
		}
		return nil
	})
}

// Close does nothing.
func (s *rowSink) Close() error { return nil }

// rowWriter holds one claim.
type rowWriter struct {
	sink        *rowSink
	incarnation sink.Incarnation
	pieces      []sink.Piece
}

// Pieces are as the claim found them.
func (w *rowWriter) Pieces() []sink.Piece { return w.pieces }

// Limits are none: two changes of one key may be in one batch.
func (w *rowWriter) Limits() sink.Limits { return sink.Limits{} }

// Close does nothing.
func (w *rowWriter) Close() error { return nil }

// Write moves the claim's pieces and changes the data with them.
func (w *rowWriter) Write(_ context.Context, batch sink.Batch) error {
	s := w.sink
	return s.step(func(t *table) error {
		held, err := t.held.Advance(w.incarnation, batch.Span, batch.To)
		if errors.Is(err, fence.ErrStale) {
			s.world.census.Fences[23]++
			s.world.census.Late++
		}
		if err != nil {
			return err
		}
		before := marksOf(t.held.Held())
		t.held = held
		fact := WriteFact{UID: s.as.UID, Claim: uint64(w.incarnation)}
		fact.Moves = movesOf(before, marksOf(held.Only(w.incarnation).Held()))
		if fact.Changes, err = t.apply(batch); err != nil {
			return err
		}
		s.world.see(fact)
		s.seeMarks(t)
		return nil
	})
}

// apply changes the data, and returns what was written. Of the span of a page nothing stays that the page does not have.
func (t *table) apply(batch sink.Batch) ([]Written, error) {
	var out []Written
	brought := map[string]bool{}
	for i := range batch.Changes {
		one := &batch.Changes[i]
		written := Written{Key: string(one.Key), Deleted: one.Op == change.OpDelete}
		brought[written.Key] = true
		if written.Deleted {
			delete(t.data, written.Key)
		} else if row, ok := one.After.(*change.KV); ok {
			position, err := change.ParsePosition(string(row.Value))
			if err != nil {
				return nil, err
			}
			written.Position, t.data[written.Key] = position, string(row.Value)
		}
		out = append(out, written)
	}
	if !batch.Snapshot {
		return out, nil
	}
	for _, key := range slices.Sorted(maps.Keys(t.data)) {
		if !brought[key] && batch.Span.Contains([]byte(key)) {
			delete(t.data, key)
			out = append(out, Written{Key: key, Deleted: true})
		}
	}
	return out, nil
}

// holds returns what the target of a changefeed has under a key of the source.
func (w *World) holds(id changefeed.ID, key string) (string, bool) {
	t := w.tables[id]
	if t == nil {
		return "", false
	}
	return t.data[key], true
}
