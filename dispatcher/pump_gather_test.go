package dispatcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// gatheringSink keeps the pages of a snapshot until they are settled.
type gatheringSink struct {
	*fakeSink
	open []sink.Batch
	err  error // of the next call
}

func (s *gatheringSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.fakeSink.Claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	s.open = nil
	return &gatheringWriter{Writer: w, sink: s}, nil
}

type gatheringWriter struct {
	sink.Writer
	sink *gatheringSink
}

func (w *gatheringWriter) Gathers() bool    { return true }
func (w *gatheringWriter) TakesLines() bool { return true }

func (w *gatheringWriter) Gather(_ context.Context, page sink.Batch) (bool, error) {
	if err := w.sink.err; err != nil {
		return false, err
	}
	w.sink.open = append(w.sink.open, page)
	return true, nil
}

func (w *gatheringWriter) Settle(ctx context.Context) error {
	if err := w.sink.err; err != nil {
		return err
	}
	for _, page := range w.sink.open {
		page, err := page.Apart()
		if err != nil {
			return err
		}
		if err := w.Write(ctx, page); err != nil {
			return err
		}
	}
	w.sink.open = nil
	return nil
}

// gatheringAttempt has claimed everything.
func gatheringAttempt(t *testing.T) (*attempt, *gatheringSink) {
	t.Helper()
	b := newBed(t)
	t.Cleanup(b.stop)
	s := &gatheringSink{fakeSink: b.sink}
	a := &attempt{pump: newPump(pumpConfig{
		start:   StartPump{Token: fence.Mint(7, 1), Span: changefeed.Whole()},
		session: b.session, clock: b.host.now, metrics: b.host.config.Metrics, mailbox: newMailbox(b.host, testID), log: b.host.config.Logger,
	})}
	require.NoError(t, a.claim(t.Context(), s))
	return a, s
}

func batchOf(t *testing.T, from, to string) sink.Batch {
	t.Helper()
	event := page(from, to, 7, 0)
	return sink.Batch{Changes: event.Changes, Span: event.Span, To: event.To, Snapshot: true}
}

// marked reports whether a part is told to be durable.
func (a *attempt) marked(key string) bool {
	return !a.pieces.behind(changefeed.Span{Start: []byte(key), End: []byte(key + "\x00")}, change.At(7))
}

// Nothing is counted that is not durable.
func TestOrderAGatheredPageIsCountedWhenItIsSettled(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
	require.NoError(t, a.write(t.Context(), batchOf(t, "b", "c"), 7))
	require.Len(t, s.open, 2)
	require.Zero(t, a.known().Changes)
	require.False(t, a.marked("a"))
	require.NoError(t, a.settle(t.Context()))
	require.Equal(t, uint64(2), a.known().Changes)
	require.True(t, a.marked("a"))
	require.True(t, a.marked("b"))
	require.True(t, a.moved)
}

// A change of the log, or a page for which others wait, comes after what was gathered, and by itself.
func TestWhatIsNoPageSettlesWhatWasGathered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(a *attempt) sink.Batch{
		"a change":           func(*attempt) sink.Batch { return sink.Batch{Span: changefeed.Whole(), To: change.At(9)} },
		"a page at a limit":  func(a *attempt) sink.Batch { a.limit = 9; return batchOf(t, "b", "c") },
		"a page at a stop":   func(a *attempt) sink.Batch { a.stop(change.At(9)); return batchOf(t, "b", "c") },
		"a page without row": func(*attempt) sink.Batch { b := batchOf(t, "b", "c"); b.Changes = nil; return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, s := gatheringAttempt(t)
			require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
			require.Len(t, s.open, 1)
			require.NoError(t, a.write(t.Context(), c(a), 9))
			require.Empty(t, s.open)
			require.True(t, a.marked("a"))
			require.Equal(t, 2, s.batches)
		})
	}
}

// What is gathered waits for the next page for a short while, and in all no longer than others can wait.
func TestGatheringIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := gatheringAttempt(t)
		due := func(held content, after time.Duration) bool {
			require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
			pass(after)
			_, err := a.settleDue(t.Context(), held, a.clock())
			require.NoError(t, err)
			was := len(a.open.pages) == 0
			require.NoError(t, a.settle(t.Context()))
			return was
		}
		require.False(t, due(nothing, settleAfter-1))
		require.True(t, due(nothing, settleAfter))
		require.False(t, due(data, gatherMax-1), "a page waits to be taken")
		require.True(t, due(data, gatherMax))
		require.False(t, due(full, gatherMax-1))
		require.True(t, due(progress, 0), "the snapshot is at its end")
		require.True(t, due(failed, 0), "and so is the reader")
		a.limit = 9
		open := func(bytes int) {
			a.open = gathered{by: a.writer.(*gatheringWriter), pages: []sink.Batch{batchOf(t, "b", "c")}, first: a.clock(), last: a.clock(), bytes: bytes}
		}
		open(1)
		_, err := a.settleDue(t.Context(), data, a.clock())
		require.NoError(t, err)
		require.Empty(t, a.open.pages, "others wait")
		a.limit = 0
		open(gatherBytesMax)
		_, err = a.settleDue(t.Context(), data, a.clock())
		require.NoError(t, err)
		require.Empty(t, a.open.pages, "it is much")
	})
}

// A stop at a mark finds everything durable, so that nothing is read again; a stop at once does not wait for that.
func TestAStopSettlesUnlessItIsAtOnce(t *testing.T) {
	t.Parallel()
	for at, left := range map[change.Mark]int{change.At(9): 0, {}: 1} {
		a, _ := gatheringAttempt(t)
		require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
		require.NoError(t, a.settleBefore(t.Context()))
		require.Len(t, a.open.pages, 1, "nobody asked")
		a.stop(at)
		require.NoError(t, a.settleBefore(t.Context()))
		require.Len(t, a.open.pages, left)
	}
}

// What failed together is tried page by page from then on, also by the attempts that follow.
func TestPagesThatFailTogetherAreWrittenApart(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(a *attempt) error{
		"a page":       func(a *attempt) error { return a.write(t.Context(), batchOf(t, "b", "c"), 7) },
		"the settling": func(a *attempt) error { return a.settle(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, s := gatheringAttempt(t)
			require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
			s.err = sink.ErrTogether
			require.ErrorIs(t, fails(a), sink.ErrTogether)
			require.False(t, a.moved)
			next := &attempt{pump: a.pump}
			require.NoError(t, next.claim(t.Context(), s))
			require.NoError(t, next.write(t.Context(), batchOf(t, "a", "b"), 7))
			require.Equal(t, 1, s.batches)
		})
	}
}

// A connection that is lost on the way says nothing of the pages.
func TestPagesGoTogetherAgainAfterALoss(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
	require.NoError(t, a.settle(t.Context()))
	s.err = errors.New("connection reset")
	require.Error(t, a.write(t.Context(), batchOf(t, "b", "c"), 7))
	require.False(t, a.apart)
	next := &attempt{pump: a.pump, writer: a.writer}
	require.Error(t, next.write(t.Context(), batchOf(t, "b", "c"), 7))
	require.True(t, a.apart, "it failed where nothing was written since")
}

// fence:F21. Nothing is gathered or settled after the host revoked the token, or after the session's deadline.
func TestF21NothingIsGatheredWithoutRight(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
	a.revoked.Store(true)
	require.ErrorIs(t, a.write(t.Context(), batchOf(t, "b", "c"), 7), errRevoked)
	require.ErrorIs(t, a.settle(t.Context()), errRevoked)
	require.Len(t, s.open, 1)
	require.Zero(t, s.batches)
}

// An outcome that nobody knows is learnt from the next claim.
func TestASettlingOfUnknownOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	a, s := gatheringAttempt(t)
	require.NoError(t, a.write(t.Context(), batchOf(t, "a", "b"), 7))
	s.err = errors.Join(fence.ErrUnknown)
	require.ErrorIs(t, a.settle(t.Context()), fence.ErrUnknown)
	require.True(t, a.unknown)
}
