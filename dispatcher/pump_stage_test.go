package dispatcher

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/sink"
)

// stagingSink is a sink with a log: its batches wait for a gate.
type stagingSink struct {
	*fakeSink
	staged []change.Position // by the last change of each batch
	gate   chan struct{}     // closed: open
}

func (s *stagingSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.fakeSink.Claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return &stagingWriter{Writer: w, sink: s}, nil
}

type stagingWriter struct {
	sink.Writer
	sink *stagingSink
}

func (w *stagingWriter) Stage(_ context.Context, batch sink.Batch) error {
	w.sink.set(func() { w.sink.staged = append(w.sink.staged, batch.To.Position) })
	return nil
}

func (w *stagingWriter) Ready(sink.Batch) bool { return false }

func (w *stagingWriter) Await(ctx context.Context, _ sink.Batch) error {
	select {
	case <-w.sink.gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func stagedBed(t *testing.T) (*bed, *stagingSink) {
	t.Helper()
	b := ownedBed(t)
	s := &stagingSink{fakeSink: b.sink, gate: make(chan struct{})}
	b.wrap = func(sink.Sink) sink.Sink { return s }
	return b, s
}

func TestABatchIsStagedAndThenWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := stagedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Minute)
		require.Equal(t, positions(1), s.staged)
		require.Empty(t, b.sink.positions())
		status := b.last(token)
		require.Equal(t, waitsForLog, status.WaitingOn)
		require.Equal(t, change.Mark{}, status.Mark, "what is only staged is not done")
		close(s.gate)
		pass(time.Second)
		require.Equal(t, positions(1), b.sink.positions())
		require.Equal(t, change.At(1), b.last(token).Mark)
	})
}

func TestAStopEndsTheWaitAndLeavesNothingUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := stagedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Minute)
		require.Equal(t, positions(1), s.staged)
		b.host.Deliver(from("n1", 7, message.Stop{Token: token}).Envelope)
		pass(time.Second)
		status := b.last(token)
		require.Equal(t, message.DispatcherStopped, status.State)
		require.True(t, status.Known)
		require.Equal(t, change.Mark{}, status.Mark)
		require.Empty(t, b.sink.positions())
	})
}

// A barrier below a batch that waits is heard while it waits: the owner learns how far it has to raise it.
func TestABatchThatWaitsIsToldToABarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := stagedBed(t)
		defer b.stop()
		b.place(1, "-")
		for i := range 9 {
			b.source.put(keyOf(i))
		}
		pass(time.Minute)
		staged := s.staged[len(s.staged)-1]
		b.barrier(1, 3, message.BarrierStop)
		pass(time.Second)
		held := b.heldLast()
		require.Equal(t, uint64(1), held.Number, "it obeys")
		require.GreaterOrEqual(t, held.Highest, staged)
		b.barrier(1, held.Highest, message.BarrierStop)
		close(s.gate)
		pass(time.Second)
		require.Equal(t, change.At(held.Highest), b.last(fence.Mint(7, 1)).Mark)
	})
}

// TestF21NothingIsStagedWithoutRight: the log is written to as the sink is.
func TestF21NothingIsStagedWithoutRight(t *testing.T) {
	t.Parallel()
	b, s := stagedBed(t)
	defer b.stop()
	p := newPump(pumpConfig{
		start: StartPump{Token: fence.Mint(7, 1)}, session: b.session, clock: b.host.now, metrics: b.host.config.Metrics,
		mailbox: newMailbox(b.host, testID),
	})
	a := &attempt{pump: p}
	require.NoError(t, a.claim(t.Context(), s))
	p.revoked.Store(true)
	bounded, cancel := context.WithTimeout(t.Context(), 5*time.Second) // what may not be staged would wait in the log for ever
	defer cancel()
	require.ErrorIs(t, a.write(bounded, sink.Batch{To: change.At(9)}, 9), errRevoked)
	require.Empty(t, s.staged)
}

// heldLast is what the last heartbeat said of a barrier.
func (b *bed) heldLast() message.Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, envelope := range slices.Backward(b.sent) {
		if beat, ok := envelope.Body.(message.Heartbeat); ok {
			return beat.Held
		}
	}
	return message.Held{}
}
