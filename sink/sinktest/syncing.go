package sinktest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// CutTarget is a target whose readers can take a consistent cut at a recorded sync point.
type CutTarget interface {
	// ReadCut is [Target.Read], up to the sync point and not above it.
	ReadCut(t testing.TB, as sink.Identity, at change.Position) []Entry
}

// syncing returns the sink as one that records sync points, and skips the test if it does not.
func (w *world) syncing(s sink.Sink) sink.Syncing {
	w.Helper()
	if !w.harness.Syncs {
		w.Skip("this sink records no sync points")
	}
	opened, ok := s.(sink.Syncing)
	require.True(w, ok, "the sink is to be a sink.Syncing")
	return opened
}

func (w *world) sync(p *pump, at change.Position) error {
	w.Helper()
	writer, ok := p.writer.(sink.SyncWriter)
	require.True(w, ok, "the writer is to be a sink.SyncWriter")
	return writer.Sync(w.ctx(), changefeed.Whole(), at)
}

func (w *world) requireSynced(at change.Position) {
	w.Helper()
	last, err := w.syncing(w.open()).LastSync(w.ctx())
	require.NoError(w, err)
	require.Equal(w, at, last)
}

// two returns two claims that cover everything, from position 1 on.
func (w *world) two(s sink.Sink, epoch fence.Epoch) (left, right *pump) {
	w.Helper()
	w.raise(s, epoch)
	a, b := w.next(epoch, span(-1, 12)), w.next(epoch, span(12, -1))
	a.From, b.From = change.At(1), change.At(1)
	return w.claim(s, a), w.claim(s, b)
}

// testSyncApart: nothing is recorded while a part stands elsewhere, or was never claimed.
func testSyncApart(w *world) {
	s := w.syncing(w.open())
	w.raise(s, 2)
	c := w.next(2, span(-1, 12))
	c.From = change.At(1)
	left := w.claim(s, c)
	w.advance(left, 100)
	require.ErrorIs(w, w.sync(left, 100), sink.ErrApart, "the rest was never claimed")
	c = w.next(2, span(12, -1))
	c.From = change.At(1)
	right := w.claim(s, c)
	w.advance(right, 99)
	require.ErrorIs(w, w.sync(left, 100), sink.ErrApart, "the other is behind")
	require.ErrorIs(w, w.sync(left, 0), sink.ErrApart)
	w.requireSynced(0)
	w.advance(right, 120)
	if w.harness.Copies {
		require.ErrorIs(w, w.sync(left, 100), sink.ErrApart, "the other is ahead")
		w.requireSynced(0)
	}
	w.advance(left, 120)
	require.NoError(w, w.sync(left, 120))
	w.advance(left, 150)
	w.advance(right, 140)
	w.requireSynced(120)
	w.cut(120)
	w.finish(3, 0)
	w.requireSynced(120)
	w.cut(120)
}

// cut judges what a reader takes at a sync point.
func (w *world) cut(at change.Position) {
	w.Helper()
	target, ok := w.target.(CutTarget)
	require.True(w, ok, "the target is to be a CutTarget")
	require.NoError(w, w.source.judge(target.ReadCut(w, w.me, at), 0, at))
}

// testSyncOnce is F24 in the sink: a sync point is recorded once, and not by who was superseded.
func testSyncOnce(w *world) {
	s := w.syncing(w.open())
	left, right := w.two(s, 2)
	w.advance(left, 100)
	w.advance(right, 100)
	require.NoError(w, w.sync(right, 100))
	require.ErrorIs(w, w.sync(left, 100), sink.ErrSynced)
	require.ErrorIs(w, w.sync(right, 100), sink.ErrSynced)
	w.requireSynced(100)
	w.advance(left, 130)
	w.advance(right, 130)

	// A new owner claims a part, and does not move it: the old writer's decision is stale all the same.
	other := w.open()
	w.raise(other, 3)
	again := w.claim(other, w.next(3, span(-1, 12)))
	require.ErrorIs(w, w.sync(left, 130), fence.ErrStale)
	w.requireSynced(100)
	w.refused(left)
	require.NoError(w, w.sync(again, 130))
	w.requireSynced(130)
	require.ErrorIs(w, w.sync(right, 130), sink.ErrSynced, "an adopted writer learns that it was done")

	require.NoError(w, other.Remove(w.ctx(), 3))
	require.ErrorIs(w, w.sync(right, 130), fence.ErrStale)
	w.me.UID = "uid-2"
	fresh := w.open()
	w.raise(fresh, 9)
	w.requireSynced(0)
}

// testSyncMany: old ones go, the newest stay.
func testSyncMany(w *world) {
	s := w.syncing(w.open())
	left, right := w.two(s, 2)
	const many = sink.SyncPointsMax + 9
	for at := change.Position(2); at < 2+many; at++ {
		w.advance(left, at)
		w.advance(right, at)
		require.NoError(w, w.sync(left, at))
	}
	w.requireSynced(1 + many)
	w.cut(1 + many)
	w.cut(2 + many - sink.SyncPointsMax)
}

// testSyncCrashes kills a node before, in and after each effect of recording a sync point. Whoever comes next learns from the
// key whether it was done.
func testSyncCrashes(w *world) {
	if !w.harness.Syncs {
		w.Skip("this sink records no sync points")
	}
	done, undone := 0, 0
	for _, when := range []Moment{BeforeEffect, AfterEffect, HalfWay} {
		for at := 1; ; at++ {
			one := newWorld(w.T, w.harness)
			faulty, fired := one.target.OpenFaulty(w, one.me, Crash{At: at, When: when})
			err := one.syncOnce(faulty)
			last, readErr := one.syncing(one.open()).LastSync(w.ctx())
			require.NoError(w, readErr)
			if err == nil {
				require.Equal(w, change.Position(50), last)
			}
			next := one.open()
			one.seq = 10
			left, right := one.two(next, 3)
			one.advance(left, 50)
			one.advance(right, 50)
			if last == 50 {
				done++
				require.ErrorIs(w, one.sync(left, 50), sink.ErrSynced)
			} else {
				undone++
				require.NoError(w, one.sync(left, 50))
			}
			one.cut(50)
			_ = faulty.Close()
			if !fired() {
				break
			}
		}
	}
	require.Positive(w, done)
	require.Positive(w, undone)
}

// syncOnce brings everything to a position and records it.
func (w *world) syncOnce(s sink.Sink) error {
	if err := s.Raise(w.ctx(), 2, sink.KnownNothing); err != nil {
		return err
	}
	c := w.next(2, changefeed.Whole())
	c.From = change.At(1)
	p, err := claim(w.ctx(), s, w.source, c)
	if err != nil {
		return err
	}
	if err := p.advance(w.ctx(), 50); err != nil {
		return err
	}
	writer, ok := p.writer.(sink.SyncWriter)
	if !ok {
		return errors.New("the writer is no sink.SyncWriter")
	}
	return errors.Join(writer.Sync(w.ctx(), changefeed.Whole(), 50), p.writer.Close())
}
