package sinktest

import (
	"context"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

func testRaise(w *world) {
	s := w.open()
	require.ErrorIs(w, s.Raise(w.ctx(), 0, sink.KnownNothing), fence.ErrStale)
	_, err := s.Claim(w.ctx(), w.next(3, changefeed.Whole()))
	w.requireCode(err, changefeed.CodeSinkLost) // nobody raised
	w.raise(s, 3)
	w.raise(s, 3)
	w.raise(w.open(), 5)
	err = s.Raise(w.ctx(), 4, sink.KnownCheckpoint)
	require.ErrorIs(w, err, fence.ErrStale)
	w.requireCode(err, changefeed.CodeEpochBehindSink)
	require.NoError(w, s.Raise(w.ctx(), 6, sink.KnownCheckpoint))
}

func testClaimRefused(w *world) {
	a, b := w.open(), w.open()
	w.raise(a, 3)
	first := w.claim(a, sink.Claim{Span: span(4, 12), Token: fence.Mint(3, 7), From: change.At(1)})
	for _, token := range []fence.Token{fence.Mint(2, 9), fence.Mint(3, 6), fence.Mint(1, 1), {}} {
		_, err := b.Claim(w.ctx(), sink.Claim{Span: span(0, 5), Token: token, From: change.At(1)})
		require.ErrorIs(w, err, fence.ErrStale, "%v", token)
	}
	w.claim(b, sink.Claim{Span: span(12, 14), Token: fence.Mint(3, 1), From: change.At(1)})
	require.NoError(w, first.advance(w.ctx(), 50), "refused claims do not hurt the holder")
	w.raise(b, 4)
	require.NoError(w, first.advance(w.ctx(), 60), "the floor does not hurt who is adopted")
	_, err := b.Claim(w.ctx(), sink.Claim{Span: span(14, 16), Token: fence.Mint(3, 99)})
	require.ErrorIs(w, err, fence.ErrStale)
}

func testReclaim(w *world) {
	s := w.open()
	w.raise(s, 2)
	c := w.next(2, changefeed.Whole())
	c.From = change.At(1)
	first := w.claim(s, c)
	w.advance(first, 100)
	second := w.claim(s, c)
	w.requirePieces([]sink.Piece{{Span: c.Span, Mark: change.At(100)}}, second.writer.Pieces())
	w.refused(first)
	w.advance(second, 200)
	w.refused(first)
	require.NoError(w, first.writer.Close())
	require.NoError(w, first.writer.Close())
	w.advance(second, 300)
	w.finish(3, 0)
}

// testLateWrite is F23: the same token claimed twice, by two nodes, and the first one's write comes late.
func testLateWrite(w *world) {
	a, b := w.open(), w.open()
	w.raise(a, 2)
	c := w.next(2, changefeed.Whole())
	c.From = change.At(1)
	late := w.claim(a, c)
	current := w.claim(b, c)
	w.refused(late)
	w.advance(current, 10)
	w.refused(late)
	w.finish(3, 0)
}

func testTakeover(w *world) {
	a, b := w.open(), w.open()
	w.raise(a, 2)
	old := w.claim(a, w.next(2, changefeed.Whole()))
	require.NoError(w, old.snapshot(w.ctx(), 1, 8))
	w.advance(old, 150)
	w.raise(b, 3)
	c := w.next(3, changefeed.Whole())
	c.From = change.At(20) // the stored checkpoint is older than what the sink has
	c.Floor = 20
	fresh := w.claim(b, c)
	require.Equal(w, change.At(150), fresh.writer.Pieces()[0].Mark)
	w.refused(old)
	w.advance(fresh, 151)
	w.finish(4, 0)
}

func testUnequal(w *world) {
	s := w.open()
	w.raise(s, 2)
	for i, upTo := range []change.Position{120, 40, 300, 80} {
		c := w.next(2, span(i*6, (i+1)*6))
		c.From = change.At(1)
		w.advance(w.claim(s, c), upTo)
	}
	c := w.next(2, span(3, 21))
	p := w.claim(s, c)
	require.Len(w, p.writer.Pieces(), 4)
	w.advance(p, 100)
	require.Equal(w, change.At(300), pieceAt(p, 13).Mark, "a mark never goes back")
	again := w.claim(s, w.next(2, span(3, 21)))
	require.Equal(w, change.At(300), pieceAt(again, 13).Mark)
	require.Equal(w, change.At(100), pieceAt(again, 8).Mark)
	w.finish(3, 0)
}

func pieceAt(p *pump, k int) sink.Piece {
	for _, piece := range p.writer.Pieces() {
		if piece.Span.Contains([]byte(key(k))) {
			return piece
		}
	}
	return sink.Piece{}
}

func testNeverClaimed(w *world) {
	s := w.open()
	w.raise(s, 2)
	c := w.next(2, span(5, 10))
	c.From = change.At(1)
	w.advance(w.claim(s, c), 90)
	whole := w.next(2, changefeed.Whole())
	whole.From = change.At(30)
	p := w.claim(s, whole)
	w.requirePieces([]sink.Piece{
		{Span: span(-1, 5), Mark: change.At(30)}, {Span: span(5, 10), Mark: change.At(90)}, {Span: span(10, -1), Mark: change.At(30)},
	}, p.writer.Pieces())
}

// testAdopted: a dispatcher that a new maintainer adopted keeps its token, and may claim again after an unknown outcome.
func testAdopted(w *world) {
	s := w.open()
	w.raise(s, 2)
	c := w.next(2, span(-1, 10))
	c.From = change.At(1)
	w.advance(w.claim(s, c), 50)
	w.raise(w.open(), 3)
	again := w.claim(s, c)
	w.advance(again, 60)
	w.advance(w.claim(s, c), 70)
	wider := c
	wider.Span = span(-1, 11)
	_, err := s.Claim(w.ctx(), wider)
	require.ErrorIs(w, err, fence.ErrStale)
	newer := w.next(3, span(8, 20))
	newer.From = change.At(1)
	w.advance(w.claim(s, newer), 80)
	_, err = s.Claim(w.ctx(), c)
	require.ErrorIs(w, err, fence.ErrStale)
	w.finish(4, 0)
}

func testBusy(w *world) {
	a, b := w.open(), w.open()
	w.raise(a, 2)
	busy := w.claim(a, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
	ended, started, claimed := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		for at := change.Position(2); ; at++ {
			over := isClosed(claimed)
			err := busy.advance(w.ctx(), min(at, w.source.head))
			if err != nil || over {
				ended <- err // nil if it could still write after somebody else had the span
				return
			}
			if at == 5 {
				close(started)
			}
		}
	}()
	<-started
	w.raise(b, 3)
	fresh := w.claim(b, sink.Claim{Span: span(6, 12), Token: fence.Mint(3, 1), From: change.At(1)})
	close(claimed)
	require.ErrorIs(w, <-ended, fence.ErrStale)
	w.advance(fresh, w.source.head)
	w.seq = 9
	w.finish(3, 0)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func testRemoved(w *world) {
	a, b := w.open(), w.open()
	w.raise(a, 2)
	p := w.claim(a, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
	w.advance(p, 100)
	w.raise(b, 3)
	require.ErrorIs(w, a.Remove(w.ctx(), 2), fence.ErrStale)
	w.advance(p, 110)
	require.NoError(w, b.Remove(w.ctx(), 3))
	w.refused(p)
	require.NoError(w, b.Remove(w.ctx(), 3))
	require.NoError(w, w.open().Remove(w.ctx(), 4))
	require.ErrorIs(w, b.Raise(w.ctx(), 5, sink.KnownNothing), fence.ErrStale)
	_, err := b.Claim(w.ctx(), w.next(5, changefeed.Whole()))
	require.ErrorIs(w, err, fence.ErrStale)
	w.judge(0, 110)
}

func testReborn(w *world) {
	old := w.open()
	w.raise(old, 2)
	late := w.claim(old, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
	w.advance(late, 100)
	require.NoError(w, old.Remove(w.ctx(), 3))
	w.me.UID = "uid-2"
	s := w.open()
	w.raise(s, 9)
	w.refused(late)
	_, err := old.Claim(w.ctx(), w.next(2, changefeed.Whole()))
	require.ErrorIs(w, err, fence.ErrStale)
	require.ErrorIs(w, old.Raise(w.ctx(), 3, sink.KnownNothing), fence.ErrStale)
	require.NoError(w, old.Remove(w.ctx(), 3), "nothing of the old one is left")
	c := w.next(9, changefeed.Whole())
	c.From = change.At(200)
	p := w.claim(s, c)
	w.requirePieces([]sink.Piece{{Span: c.Span, Mark: c.From}}, p.writer.Pieces())
	w.advance(p, w.source.head)
}

// inUse requires that the target is refused to who asks now.
func (w *world) inUse() {
	w.Helper()
	other := w.open()
	err := other.Raise(w.ctx(), 9, sink.KnownNothing)
	if !w.harness.LateInUse {
		w.requireCode(err, changefeed.CodeSinkInUse)
		_, err = other.Claim(w.ctx(), w.next(9, changefeed.Whole()))
		require.Error(w, err)
		return
	}
	require.NoError(w, err)
	w.requireCode(w.claim(other, w.next(9, changefeed.Whole())).advance(w.ctx(), 9), changefeed.CodeSinkInUse)
}

func testInUse(w *world) {
	s := w.open()
	w.raise(s, 5)
	if w.harness.LateInUse {
		w.advance(w.claim(s, w.next(5, changefeed.Whole())), 5)
	}
	mine := w.me
	w.me.Cluster = "c2"
	w.inUse()
	w.me = mine
	w.me.Changefeed.Name = "bills"
	w.me.UID = "uid-3"
	w.inUse()
	w.me = mine
	w.finish(6, 0)
}

func testLost(w *world) {
	s := w.open()
	w.raise(s, 2)
	p := w.claim(s, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
	w.advance(p, 10)
	w.target.Lose(w)
	next := w.open()
	w.requireCode(next.Raise(w.ctx(), 3, sink.KnownCheckpoint), changefeed.CodeSinkLost)
	_, err := next.Claim(w.ctx(), w.next(3, changefeed.Whole()))
	w.requireCode(err, changefeed.CodeSinkLost)
	require.Error(w, p.advance(w.ctx(), 20))
}

func testBehind(w *world) {
	s := w.open()
	w.raise(s, 2)
	p := w.claim(s, sink.Claim{Span: span(-1, 9), Token: fence.Mint(2, 1), From: change.At(1)})
	w.advance(p, 100)
	w.seq = 1
	c := w.next(2, changefeed.Whole())
	c.From, c.Floor = change.At(101), 101
	_, err := s.Claim(w.ctx(), c)
	w.requireCode(err, changefeed.CodeSinkBehind)
	c.From, c.Floor = change.At(100), 100
	w.claim(s, c)
}

func testCancelled(w *world) {
	s := w.open()
	w.raise(s, 2)
	c := w.next(2, changefeed.Whole())
	c.From = change.At(1)
	p := w.claim(s, c)
	w.advance(p, 10)
	gone, cancel := context.WithCancel(w.ctx())
	cancel()
	require.Error(w, s.Raise(gone, 3, sink.KnownNothing))
	_, err := s.Claim(gone, w.next(2, changefeed.Whole()))
	require.Error(w, err)
	err = p.advance(gone, 20)
	require.Error(w, err)
	require.NotErrorIs(w, err, fence.ErrStale)
	w.advance(w.claim(s, w.next(2, changefeed.Whole())), 30)
	w.finish(3, 0)
}
