package dispatcher

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
)

// barringSink is a sink with barriers at some positions: their parts of the span of spans have to be there.
type barringSink struct {
	*fakeSink
	at      []change.Position
	batches [][]change.Position // as they were written
	waited  []change.Position
}

func (s *barringSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.fakeSink.Claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return &barringWriter{fakeWriter: w.(*fakeWriter), sink: s}, nil
}

type barringWriter struct {
	*fakeWriter
	sink *barringSink
}

var _ sink.Barring = (*barringWriter)(nil)

func (w *barringWriter) Write(ctx context.Context, batch sink.Batch) error {
	var positions []change.Position
	for i := range batch.Changes {
		positions = append(positions, batch.Changes[i].Position)
	}
	for _, at := range positions {
		barrier := &sink.Barrier{At: at, Span: changefeed.Whole(), For: "a test"}
		if slices.Contains(w.sink.at, at) && (positions[0] != at || w.reached(barrier) != nil) {
			return barrier
		}
	}
	w.sink.set(func() { w.sink.batches = append(w.sink.batches, positions) })
	return w.fakeWriter.Write(ctx, batch)
}

func (w *barringWriter) reached(barrier *sink.Barrier) error {
	s := w.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces.OthersReached(w.incarnation, barrier.Span, barrier.Before())
}

func (w *barringWriter) Await(ctx context.Context, barrier *sink.Barrier) error {
	w.sink.set(func() { w.sink.waited = append(w.sink.waited, barrier.At) })
	for w.reached(barrier) != nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func barredBed(t *testing.T, options changefeed.Options, at ...change.Position) (*bed, *barringSink) {
	t.Helper()
	b := newBed(t)
	b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
	b.host.Deliver(from("n1", 7, b.bootstrap(options)).Envelope)
	s := &barringSink{fakeSink: b.sink, at: at}
	b.wrap = func(sink.Sink) sink.Sink { return s }
	return b, s
}

func TestABarrierOfTheSinkPartsABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := barredBed(t, nil, 3, 4)
		defer b.stop()
		for i := range 6 {
			b.source.put(keyOf(i))
		}
		token := b.place(1, "-")
		pass(time.Minute)
		require.Equal(t, [][]change.Position{{1, 2}, {3}, {4, 5, 6}}, s.batches)
		require.Equal(t, change.At(6), b.last(token).Mark)
	})
}

// What two spans have at a barrier comes after all that both have before it; what lies above waits with it.
func TestABarrierOfTheSinkWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, s := barredBed(t, nil, 3)
		defer b.stop()
		for _, key := range []string{"a", "z", "b", "y", "c"} {
			b.source.put(key)
		}
		left := b.place(1, "-n")
		pass(time.Minute)
		require.Equal(t, []change.Position{1}, b.sink.positions())
		status := b.last(left)
		require.Equal(t, waitsBefore+"a test", status.WaitingOn)
		require.Equal(t, change.At(2), status.Mark)
		b.place(2, "n-")
		pass(time.Minute)
		require.Equal(t, change.At(5), b.last(left).Mark)
		require.ElementsMatch(t, positions(5), b.sink.positions())
		require.Less(t, slices.Index(b.sink.positions(), 2), slices.Index(b.sink.positions(), 3))
		require.Equal(t, []change.Position{3}, s.waited)
	})
}

// A stop ends the wait: where everything before the barrier is, or where it was asked to stop.
func TestAStopEndsTheWaitAtABarrierOfTheSink(t *testing.T) {
	t.Parallel()
	for _, at := range []change.Mark{{}, change.At(1), change.At(2)} {
		synctest.Test(t, func(t *testing.T) {
			b, _ := barredBed(t, nil, 3)
			defer b.stop()
			for _, key := range []string{"a", "b", "c"} {
				b.source.put(key)
			}
			token := b.place(1, "-n")
			pass(time.Minute)
			b.host.Deliver(from("n1", 7, message.Stop{Token: token, At: at}).Envelope)
			pass(time.Second)
			status := b.last(token)
			require.Equal(t, message.DispatcherStopped, status.State)
			require.True(t, status.Known)
			require.Equal(t, change.At(2), status.Mark)
			require.Equal(t, positions(2), b.sink.positions())
		})
	}
}

// A barrier of the owner's that comes below a batch that waits is raised to where all of what was taken ends, also if that is several
// batches.
func TestABatchAtABarrierOfTheSinkIsToldToTheOwners(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := barredBed(t, nil, 2)
		defer b.stop()
		b.sink.set(func() { b.sink.limits.Changes = 2 })
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			b.source.put(key)
		}
		left := b.place(1, "-n")
		pass(time.Minute)
		b.barrier(1, 1, message.BarrierStop)
		pass(time.Second)
		held := b.heldLast()
		require.Equal(t, uint64(1), held.Number, "it obeys")
		b.barrier(2, held.Highest, message.BarrierStop)
		b.place(2, "n-")
		pass(time.Minute)
		held = b.heldLast()
		require.Equal(t, uint64(2), held.Number)
		require.Equal(t, held.Position, held.Highest)
		require.Equal(t, change.At(held.Position), b.last(left).Mark)
		require.Equal(t, change.At(held.Position), b.last(fence.Mint(7, 2)).Mark)
	})
}
