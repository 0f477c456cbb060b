// Package blackhole is the sink that counts what it is given and keeps nothing: to measure sources, and to try out a
// changefeed. It has no claims: tokens are noted, not compared, and a span starts where its owner says. What it counted
// says nothing about how often a change was delivered.
package blackhole

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

var errClosed = errors.New("sink blackhole: the writer is closed")

// Sink counts changes.
type Sink struct {
	changes, bytes, batches, claims atomic.Uint64
	last                            atomic.Pointer[sink.Claim]
}

var _ sink.Sink = (*Sink)(nil)

// New makes a sink.
func New() *Sink { return &Sink{} }

// Counts is what a sink was given since it was made.
type Counts struct {
	Changes uint64
	Bytes   uint64 // by change.Change.Size
	Batches uint64
	Claims  uint64
	Last    fence.Token // of the claim that came last
}

// Counts returns what was counted. It may be called by any goroutine.
func (s *Sink) Counts() Counts {
	counts := Counts{
		Changes: s.changes.Load(), Bytes: s.bytes.Load(), Batches: s.batches.Load(), Claims: s.claims.Load(),
	}
	if last := s.last.Load(); last != nil {
		counts.Last = last.Token
	}
	return counts
}

// Raise implements [sink.Sink]. There is no floor.
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, _ sink.Known) error {
	if epoch == 0 {
		return fmt.Errorf("sink blackhole: raise to epoch 0: %w", fence.ErrStale)
	}
	return context.Cause(ctx)
}

// Claim implements [sink.Sink]. Nothing is remembered, so the whole span is where the claim says.
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("sink blackhole: claim: %w", err)
	}
	if claim.Token.IsZero() {
		return nil, fmt.Errorf("sink blackhole: claim without a token: %w", fence.ErrStale)
	}
	if !claim.Span.Valid() {
		return nil, fmt.Errorf("sink blackhole: claim: span %v is empty", claim.Span)
	}
	s.claims.Add(1)
	s.last.Store(&claim)
	return &writer{sink: s, span: claim.Span, from: claim.From}, nil
}

// Remove implements [sink.Sink]. There is nothing to remove.
func (s *Sink) Remove(ctx context.Context, _ fence.Epoch) error { return context.Cause(ctx) }

// Close implements [sink.Sink].
func (s *Sink) Close() error { return nil }

type writer struct {
	sink  *Sink
	span  changefeed.Span
	from  change.Mark
	ended error
}

// Pieces implements [sink.Writer].
func (w *writer) Pieces() []sink.Piece { return []sink.Piece{{Span: w.span, Mark: w.from}} }

// Limits implements [sink.Writer].
func (w *writer) Limits() sink.Limits { return sink.Limits{} }

// Write implements [sink.Writer].
func (w *writer) Write(ctx context.Context, batch sink.Batch) error {
	if w.ended != nil {
		return w.ended
	}
	if err := context.Cause(ctx); err != nil {
		w.ended = fmt.Errorf("sink blackhole: write: %w", err)
		return w.ended
	}
	size := 0
	for i := range batch.Changes {
		size += batch.Changes[i].Size()
	}
	w.sink.changes.Add(uint64(len(batch.Changes)))
	w.sink.bytes.Add(uint64(size))
	w.sink.batches.Add(1)
	return nil
}

// Close implements [sink.Writer].
func (w *writer) Close() error {
	if w.ended == nil {
		w.ended = errClosed
	}
	return nil
}
