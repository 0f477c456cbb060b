package sim

import (
	"context"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// plainSink is a sink without claims, like a stream that others read.
type plainSink struct {
	life *life
	uid  changefeed.UID
}

// Raise does nothing: there is no floor.
func (s *plainSink) Raise(context.Context, fence.Epoch, sink.Known) error { return nil }

// Claim compares nothing.
func (s *plainSink) Claim(_ context.Context, claim sink.Claim) (sink.Writer, error) {
	return &plainWriter{sink: s, pieces: []sink.Piece{{Span: claim.Span, Mark: claim.From}}}, nil
}

// Remove does nothing.
func (s *plainSink) Remove(context.Context, fence.Epoch) error { return nil }

// Close does nothing.
func (s *plainSink) Close() error { return nil }

// plainWriter writes to a sink without claims.
type plainWriter struct {
	sink   *plainSink
	pieces []sink.Piece
}

// Pieces starts where it was told to.
func (p *plainWriter) Pieces() []sink.Piece { return p.pieces }

// Limits are none.
func (p *plainWriter) Limits() sink.Limits { return sink.Limits{} }

// Close does nothing.
func (p *plainWriter) Close() error { return nil }

// Write lands, whoever wrote in between.
func (p *plainWriter) Write(_ context.Context, batch sink.Batch) error {
	l := p.sink.life
	fact := LandFact{UID: p.sink.uid}
	if batch.Snapshot {
		fact.Pages = []SpanMark{{Span: batch.Span, Mark: batch.To}}
	}
	for _, one := range batch.Changes {
		at := one.Position
		if row, ok := one.After.(*change.KV); ok && row != nil {
			at = change.Position(row.ModRevision)
		}
		fact.Changes = append(fact.Changes, Written{Key: string(one.Key), Position: at, Deleted: one.Op == change.OpDelete})
	}
	to := &client{world: l.world, life: l, from: l.node.index, to: l.world.target}
	_, err := to.request(reads, func() (any, error) {
		l.world.say("plain     write of uid %s by %s: %v", fact.UID, l.id, fact.Changes)
		l.world.census.Written += len(fact.Changes)
		l.world.see(fact)
		return nil, nil
	})
	return err
}
