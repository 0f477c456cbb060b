package sinktest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

func testSplitMerge(w *world) {
	s := w.open()
	w.raise(s, 2)
	whole := w.next(2, changefeed.Whole())
	whole.From = change.At(1)
	p := w.claim(s, whole)
	w.advance(p, 60)
	left, right := w.claim(s, w.next(2, span(-1, 11))), w.claim(s, w.next(2, span(11, -1)))
	w.refused(p)
	w.advance(left, 130)
	middle := w.claim(s, w.next(2, span(7, 15)))
	w.refused(left)
	w.refused(right)
	w.advance(middle, 135)
	w.advance(w.claim(s, w.next(2, span(15, -1))), 140)
	merged := w.claim(s, w.next(2, span(-1, 15)))
	w.refused(middle)
	w.advance(merged, 200)
	require.Len(w, w.claim(s, w.next(2, span(-1, 15))).writer.Pieces(), 1, "equal neighbours are one piece")
	w.finish(3, 0)
}

// testLarge: runs above the limits of one batch, and single positions above them.
func testLarge(w *world) {
	const keys = 1500
	h := &history{keys: keys, folds: w.harness.Folds}
	alive := make(map[string]bool)
	for round := range 3 {
		h.head++
		for k := range keys {
			h.add(key(k), uint32(k), alive, round == 2 && k%3 == 0)
		}
		for k := range 200 {
			h.head++
			h.add(key(k%7), 0, alive, k%5 == 0)
		}
	}
	w.source = h
	s := w.open()
	w.raise(s, 2)
	c := w.next(2, changefeed.Whole())
	c.From = change.At(0)
	p := w.claim(s, c)
	require.NoError(w, p.snapshot(w.ctx(), 1, 400))
	w.advance(p, 250)
	w.advance(p, h.head)
	require.Len(w, w.claim(s, w.next(2, changefeed.Whole())).writer.Pieces(), 1)
	w.judge(1, h.head)
}

func testSnapshot(w *world) {
	const at = 200
	s := w.open()
	w.raise(s, 2)
	page := func(p *pump) {
		_, err := p.page(w.ctx(), at, 3)
		require.NoError(w, err)
	}
	whole := w.claim(s, w.next(2, changefeed.Whole()))
	page(whole)
	page(whole)
	right := w.claim(s, w.next(2, span(12, -1)))
	w.refused(whole)
	page(right)
	left := w.claim(s, w.next(2, span(-1, 12)))
	require.Len(w, left.writer.Pieces(), 2)
	page(left)
	merged := w.claim(w.open(), w.next(2, changefeed.Whole()))
	w.refused(left)
	w.refused(right)
	require.NoError(w, merged.snapshot(w.ctx(), at, 4))
	require.Equal(w, change.At(at), w.claim(s, w.next(2, changefeed.Whole())).writer.Pieces()[0].Mark)
	w.finish(3, at)
}

// testStaleKeys: what the target holds of a snapshot's span, and the source doesn't, goes with the page.
func testStaleKeys(w *world) {
	if !w.harness.Copies {
		w.Skip("a log does not know what it held before")
	}
	const stale = 700
	for k := range stale {
		w.target.Plant(w, fmt.Sprintf("%sstale/%04d", KeyPrefix, k), "old")
	}
	w.target.Plant(w, key(0), "old")
	s := w.open()
	w.raise(s, 2)
	p := w.claim(s, w.next(2, changefeed.Whole()))
	require.NoError(w, p.snapshot(w.ctx(), w.source.head, 10))
	live := make(map[string]string)
	for _, entry := range w.target.Read(w, w.me) {
		live[entry.Key] = entry.Value
		if entry.Deleted {
			delete(live, entry.Key)
		}
	}
	want := make(map[string]string)
	for _, c := range w.source.state(w.source.head) {
		want[string(c.Key)] = entryOf(c).Value
	}
	require.Equal(w, want, live)
}

// node is one life of the crash test: it does a bit of everything, and says up to where it thinks that it came.
func (w *world) node(s sink.Sink, epoch fence.Epoch, random *rand.Rand) error {
	if err := s.Raise(w.ctx(), epoch, sink.KnownNothing); err != nil {
		return err
	}
	spans := []changefeed.Span{changefeed.Whole(), span(-1, 9), span(5, 17), span(9, -1)}
	for i, part := range spans {
		p, err := claim(w.ctx(), s, w.source, w.next(epoch, part))
		if err != nil {
			return err
		}
		for range 1 + i {
			if _, err := p.page(w.ctx(), crashSnapshot, 4); err != nil {
				return err
			}
		}
		unread := slices.ContainsFunc(p.marks, func(piece sink.Piece) bool { return piece.Mark == change.Mark{} })
		if i >= 2 && unread {
			if err := p.snapshot(w.ctx(), crashSnapshot, 6); err != nil {
				return err
			}
			unread = false
		}
		if !unread {
			if err := p.advance(w.ctx(), change.Position(crashSnapshot+10*i+random.IntN(30))); err != nil {
				return err
			}
		}
		if err := p.writer.Close(); err != nil {
			return err
		}
	}
	return nil
}

// crashSnapshot is the position of the crash test's snapshot.
const crashSnapshot = 100

// testCrashes kills a node before, in and after each of its effects; another one goes on, and dies as well; the next
// one finishes. Nothing may be lost or be there twice.
func testCrashes(w *world) {
	stride := 1
	if w.harness.Short {
		stride = 4
	}
	for start, when := range []Moment{BeforeEffect, AfterEffect, HalfWay} {
		crashes := 0
		for at := 1 + start%stride; ; at += stride {
			one := newWorld(w.T, w.harness)
			random := rand.New(rand.NewPCG(uint64(at), uint64(when)))
			first, fired := one.target.OpenFaulty(w, one.me, Crash{At: at, When: when})
			err := one.node(first, 2, random)
			if fired() {
				crashes++
			} else {
				require.NoError(w, err)
			}
			again, firedAgain := one.target.OpenFaulty(w, one.me, Crash{At: 1 + random.IntN(at), When: when})
			if err := one.node(again, 3, random); !firedAgain() {
				require.NoError(w, err, "after a crash at effect %d", at)
			}
			one.finish(4, crashSnapshot)
			_, _ = first.Close(), again.Close()
			if !fired() {
				break
			}
		}
		require.Greater(w, crashes, 10/stride)
		w.Logf("%d crashes", crashes)
	}
	w.crashedRemoval()
}

// crashedRemoval: a removal that died half done is done by the next one.
func (w *world) crashedRemoval() {
	for _, when := range []Moment{BeforeEffect, AfterEffect, HalfWay} {
		for at := 1; ; at++ {
			one := newWorld(w.T, w.harness)
			s := one.open()
			one.raise(s, 2)
			p := one.claim(s, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
			one.advance(p, 50)
			faulty, fired := one.target.OpenFaulty(w, one.me, Crash{At: at, When: when})
			err := faulty.Remove(w.ctx(), 3)
			if !fired() {
				require.NoError(w, err)
			}
			require.NoError(w, one.open().Remove(w.ctx(), 3))
			one.refused(p)
			_, err = one.open().Claim(w.ctx(), one.next(3, changefeed.Whole()))
			require.ErrorIs(w, err, fence.ErrStale)
			one.judge(0, 50)
			_ = faulty.Close()
			if !fired() {
				break
			}
		}
	}
}
