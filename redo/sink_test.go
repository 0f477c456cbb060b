package redo

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/sinktest"
)

var me = sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}

// put is a batch of one change for each key, at one position.
func put(span changefeed.Span, position change.Position, keys ...string) sink.Batch {
	batch := sink.Batch{Span: span, To: change.At(position)}
	for i, key := range keys {
		name := sinktest.KeyPrefix + key
		batch.Changes = append(batch.Changes, change.Change{
			Position: position, Index: uint32(i), Op: change.OpUpdate, Key: []byte(name), //nolint:gosec // small
			After: &change.KV{Key: []byte(name), Value: fmt.Appendf(nil, "%s@%d", key, position)},
		})
	}
	return batch
}

func claimOf(seq fence.Seq, span changefeed.Span) sink.Claim {
	return sink.Claim{Span: span, Token: fence.Mint(1, seq), From: change.At(1)}
}

func briefly(entries []sinktest.Entry) []string {
	out := []string{}
	for _, entry := range entries {
		out = append(out, entry.Value)
	}
	return out
}

// TestOrderTheLogHasABatchBeforeTheTarget crashes between the two: the target must never have what the log lacks, the log
// must not have the batch twice, and the target must get it.
func TestOrderTheLogHasABatchBeforeTheTarget(t *testing.T) {
	t.Parallel()
	whole := changefeed.Whole()
	for name, crash := range map[string]sinktest.Crash{
		"before the log":              {At: 1, When: sinktest.BeforeEffect},
		"after the log":               {At: 1, When: sinktest.AfterEffect},
		"before the target":           {At: 2, When: sinktest.BeforeEffect},
		"the target's answer is lost": {At: 2, When: sinktest.AfterEffect},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pair{log: newFiles(t), target: newCopy(t)}
			at := &crashes{crash: sinktest.Crash{At: 0}}
			s := newSink(newFaultyLog(p.log.openLog(t, me), at), &faultySink{Sink: p.target.open(t, me), at: at}, changefeed.Whole())
			require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
			w, err := s.Claim(t.Context(), claimOf(1, whole))
			require.NoError(t, err)
			require.NoError(t, w.Write(t.Context(), put(whole, 2, "a")))
			at.crash = crash
			at.calls = 0
			require.ErrorIs(t, w.Write(t.Context(), put(whole, 3, "b")), fence.ErrUnknown)

			logged, copied := briefly(p.log.read(t, me, 0)), briefly(p.target.read(t, me, 0))
			require.GreaterOrEqual(t, len(logged), len(copied), "the target is ahead of the log")

			fresh := p.Open(t, me)
			again, err := fresh.Claim(t.Context(), claimOf(2, whole))
			require.NoError(t, err)
			from := again.Pieces()[0].Mark
			require.Equal(t, change.At(change.Position(1+len(copied))), from, "it is read again from where the target is")
			if from.Position < 3 {
				require.NoError(t, again.Write(t.Context(), put(whole, 3, "b")))
			}
			require.NoError(t, again.Write(t.Context(), put(whole, 4, "c")))
			require.Equal(t, []string{"a@2", "b@3", "c@4"}, briefly(p.log.read(t, me, 0)))
			require.Equal(t, []string{"a@2", "b@3", "c@4"}, briefly(p.target.read(t, me, 0)))
		})
	}
}

// TestOrderTheLogIsFencedBeforeTheTarget crashes between the two in every call that fences.
func TestOrderTheLogIsFencedBeforeTheTarget(t *testing.T) {
	t.Parallel()
	p := &pair{log: newFiles(t), target: newCopy(t)}
	open := func(crash sinktest.Crash) *Sink {
		at := &crashes{crash: crash}
		return newSink(newFaultyLog(p.log.openLog(t, me), at), &faultySink{Sink: p.target.open(t, me), at: at}, changefeed.Whole())
	}
	floors := func() (inLog, inTarget fence.Epoch) {
		s := open(sinktest.Crash{})
		kept, err := s.Log(t.Context())
		require.NoError(t, err)
		other, err := p.Open(t, me).(sink.Inspector).Inspect(t.Context())
		require.NoError(t, err)
		return kept.Head.Floor, other.Head.Floor
	}
	require.NoError(t, open(sinktest.Crash{}).Raise(t.Context(), 1, sink.KnownNothing))
	old, err := open(sinktest.Crash{}).Claim(t.Context(), claimOf(1, changefeed.Whole()))
	require.NoError(t, err)

	between := sinktest.Crash{At: 2, When: sinktest.BeforeEffect}
	require.Error(t, open(between).Raise(t.Context(), 2, sink.KnownCheckpoint))
	inLog, inTarget := floors()
	require.Equal(t, fence.Epoch(2), inLog)
	require.Equal(t, fence.Epoch(1), inTarget)

	require.NoError(t, open(sinktest.Crash{}).Raise(t.Context(), 2, sink.KnownCheckpoint))
	next := claimOf(1, changefeed.Whole())
	next.Token = fence.Mint(2, 1)
	_, err = open(between).Claim(t.Context(), next)
	require.Error(t, err)
	require.ErrorIs(t, old.Write(t.Context(), put(changefeed.Whole(), 2, "a")), fence.ErrStale, "it is shut out of the log, and so of the target")
	require.Empty(t, p.target.read(t, me, 0))
}

func TestFaultsOfTheLogSayThatTheyAre(t *testing.T) {
	t.Parallel()
	p := &pair{log: newFiles(t), target: newCopy(t)}
	other := me
	other.Changefeed.Name, other.UID = "bills", "uid-9"
	require.NoError(t, p.log.openLog(t, other).Raise(t.Context(), 5, sink.KnownNothing))
	err := p.Open(t, me).Raise(t.Context(), 1, sink.KnownNothing)
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok)
	require.Equal(t, changefeed.CodeSinkInUse, fault.Code)
	require.Equal(t, "redo", fault.Field)
	require.Contains(t, fault.Cure, "empty directory")

	err = (&pair{log: newFiles(t), target: newCopy(t)}).Open(t, me).Raise(t.Context(), 1, sink.KnownCheckpoint)
	fault, ok = errors.AsType[*changefeed.Fault](err)
	require.True(t, ok)
	require.Equal(t, changefeed.CodeSinkLost, fault.Code)
	require.Equal(t, "redo", fault.Field)
}

// TestABatchWaitsForTheOthersInTheLog: no part of the target is brought above what the whole log holds.
func TestABatchWaitsForTheOthersInTheLog(t *testing.T) {
	t.Parallel()
	p := &pair{log: newFiles(t), target: newCopy(t)}
	left, right := changefeed.Span{End: []byte("k/m")}, changefeed.Span{Start: []byte("k/m")}
	s, other := p.Open(t, me), p.Open(t, me) // of two nodes
	require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
	claim := func(s sink.Sink, c sink.Claim) sink.Staged {
		w, err := s.Claim(t.Context(), c)
		require.NoError(t, err)
		return w.(sink.Staged)
	}
	a := claim(s, claimOf(1, left))
	batch := put(left, 10, "a")
	require.NoError(t, a.Stage(t.Context(), batch))
	waits := func(w sink.Staged, batch sink.Batch) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*pollEvery)
		defer cancel()
		require.ErrorIs(t, w.Await(ctx, batch), context.DeadlineExceeded)
	}
	waits(a, batch) // nobody ever claimed the right half
	b := claim(other, claimOf(2, right))
	waits(a, batch)
	require.NoError(t, b.Write(t.Context(), put(right, 9)))
	waits(a, batch)
	page := batch
	page.Snapshot = true
	require.NoError(t, a.Await(t.Context(), page), "pages don't wait")

	done := make(chan error, 1)
	go func() { done <- a.Await(t.Context(), batch) }()
	require.NoError(t, b.Stage(t.Context(), put(right, 10)))
	require.NoError(t, <-done)
	require.NoError(t, a.Write(t.Context(), batch))
	require.Equal(t, []string{"a@10"}, briefly(p.log.read(t, me, 0)))
	require.Equal(t, []string{"a@10"}, briefly(p.target.read(t, me, 0)))

	// Its position stays known when its writer has gone, and when another has taken its place.
	require.NoError(t, b.Close())
	require.NoError(t, a.Await(t.Context(), batch))
	b = claim(other, claimOf(3, right))
	require.NoError(t, b.Await(t.Context(), put(right, 10)))
	waits(b, put(right, 11))
}

func TestWhatMayPass(t *testing.T) {
	t.Parallel()
	piece := func(start, end string, mark change.Mark, of sink.Incarnation) sink.Held {
		return sink.Held{
			Piece: sink.Piece{Span: changefeed.Span{Start: []byte(start), End: []byte(end)}, Mark: mark},
			Token: fence.Mint(1, fence.Seq(of)), Incarnation: of,
		}
	}
	for name, test := range map[string]struct {
		held []sink.Held
		want bool
	}{
		"nothing was claimed":         {nil, false},
		"alone":                       {[]sink.Held{piece("", "", change.At(1), 1)}, true},
		"a part was never claimed":    {[]sink.Held{piece("", "m", change.At(10), 1), piece("n", "", change.At(10), 2)}, false},
		"the other is as far":         {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "", change.At(10), 2)}, true},
		"the other is behind":         {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "", change.At(9), 2)}, false},
		"a part without a writer is":  {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "", change.At(9), 0)}, false},
		"in the middle of a position": {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "", change.Mark{Position: 10, Index: 3}, 2)}, false},
		"a snapshot is being read":    {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "t", change.Mark{}, 2), piece("t", "", change.At(2), 3)}, true},
		"its own other part":          {[]sink.Held{piece("", "m", change.At(10), 1), piece("m", "", change.At(9), 1)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := sink.NewMap(test.held)
			require.NoError(t, err)
			require.Equal(t, test.want, mayPass(m, changefeed.Whole(), 1, 10))
		})
	}
}

// TestTheOneFurthestBehindIsNeverHeldUp: else all would wait for each other for ever.
func TestTheOneFurthestBehindIsNeverHeldUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var held []sink.Held
		lowest := 0
		n := rapid.IntRange(1, 6).Draw(t, "spans")
		for i := range n {
			span := changefeed.Span{Start: []byte{byte('a' + i)}, End: []byte{byte('b' + i)}}
			if i == 0 {
				span.Start = nil
			}
			if i == n-1 {
				span.End = nil
			}
			at := change.At(change.Position(rapid.Uint64Range(1, 5).Draw(t, "at")))
			if i > 0 && at.Before(held[lowest].Mark) {
				lowest = i
			}
			held = append(held, sink.Held{
				Piece: sink.Piece{Span: span, Mark: at}, Token: fence.Mint(1, 1), Incarnation: sink.Incarnation(i + 1), //nolint:gosec // small
			})
		}
		m, err := sink.NewMap(held)
		if err != nil {
			t.Fatal(err)
		}
		if !mayPass(m, changefeed.Whole(), held[lowest].Incarnation, held[lowest].Mark.Position) {
			t.Fatalf("%v is held up in %v", held[lowest], held)
		}
	})
}

func TestPagesAreCutWhereTheyAreNotNewer(t *testing.T) {
	t.Parallel()
	span := func(start, end string) changefeed.Span {
		return changefeed.Span{Start: []byte(start), End: []byte(end)}
	}
	k, err := newMarks([]sink.Piece{
		{Span: span("", "c")}, {Span: span("c", "f"), Mark: change.At(9)}, {Span: span("f", "k"), Mark: change.At(3)}, {Span: span("k", "")},
	})
	require.NoError(t, err)
	page := sink.Batch{Span: span("b", "m"), To: change.At(7), Snapshot: true}
	for _, key := range []string{"b", "d", "g", "l"} {
		page.Changes = append(page.Changes, change.Change{Key: []byte(key), Position: 7, Op: change.OpRead})
	}
	parts := k.lacks(page)
	require.Len(t, parts, 2)
	require.Equal(t, span("b", "c"), parts[0].Span)
	require.Len(t, parts[0].Changes, 1)
	require.Equal(t, span("f", "m"), parts[1].Span)
	require.Len(t, parts[1].Changes, 2)
	require.True(t, parts[0].Snapshot && parts[1].Snapshot)
	for _, part := range parts {
		require.NoError(t, k.advance(part.Span, part.To))
	}
	require.Empty(t, k.lacks(page))
}

// TestWhatTheTargetHas is what bounds the retention of the log.
func TestWhatTheTargetHas(t *testing.T) {
	t.Parallel()
	require.Equal(t, change.Position(0), doneIn(t.Context(), nil))
	p := &pair{log: newFiles(t), target: newCopy(t)}
	s := p.Open(t, me)
	require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
	w, err := s.Claim(t.Context(), claimOf(1, changefeed.Whole()))
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), put(changefeed.Whole(), 7, "a")))
	require.Equal(t, change.Position(7), doneIn(t.Context(), p.target.open(t, me)))
}
