package sinktest

import (
	"bytes"
	"context"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// pump does what a dispatcher does: it brings one claim forward.
type pump struct {
	source *history
	writer sink.Writer
	span   changefeed.Span
	marks  []sink.Piece // as far as this pump knows
}

// claim takes a span and returns what moves it.
func claim(ctx context.Context, s sink.Sink, source *history, c sink.Claim) (*pump, error) {
	writer, err := s.Claim(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &pump{source: source, writer: writer, span: c.Span, marks: writer.Pieces()}
	var spans []changefeed.Span
	for i, piece := range p.marks {
		spans = append(spans, piece.Span)
		if i > 0 && !bytes.Equal(p.marks[i-1].Span.End, piece.Span.Start) {
			return nil, fmt.Errorf("pieces %v are not in order", p.marks)
		}
	}
	return p, changefeed.CheckCover(c.Span, spans)
}

// lowest returns the position from which something is still to be written.
func (p *pump) lowest() change.Position {
	low := p.marks[0].Mark
	for _, piece := range p.marks[1:] {
		low = change.Earlier(low, piece.Mark)
	}
	return low.Position
}

// todo returns the changes of the claim at or below upTo that its pieces don't have yet.
func (p *pump) todo(upTo change.Position) []change.Change {
	var out []change.Change
	for _, c := range p.source.between(p.lowest()-min(p.lowest(), 1), upTo) {
		for _, piece := range p.marks {
			if piece.Span.Contains(c.Key) && !piece.Mark.Done(c.Position, c.Index) {
				out = append(out, c)
			}
		}
	}
	return out
}

// advance writes everything at or below upTo as one run.
func (p *pump) advance(ctx context.Context, upTo change.Position) error {
	run := sink.Batch{Changes: p.todo(upTo), Span: p.span, To: change.At(upTo)}
	for _, batch := range sink.Steps(run, p.writer.Limits()) {
		if err := p.writer.Write(ctx, batch); err != nil {
			return err
		}
		p.moved(batch)
	}
	return nil
}

// moved takes in a batch that was written, with the map itself.
func (p *pump) moved(batch sink.Batch) {
	var out []sink.Piece
	for _, piece := range p.marks {
		inner, overlaps := piece.Span.Intersect(batch.Span)
		if !overlaps {
			out = append(out, piece)
			continue
		}
		for _, part := range piece.Span.SplitAt(inner.Start, inner.End) {
			mark := piece.Mark
			if batch.Span.Encloses(part) {
				mark = change.Later(mark, batch.To)
			}
			out = append(out, sink.Piece{Span: part, Mark: mark})
		}
	}
	p.marks = out
}

// page writes the next page of a snapshot at a position: the first keys of the first piece that was not read yet. It
// returns false when every piece was.
func (p *pump) page(ctx context.Context, at change.Position, keys int) (bool, error) {
	for _, piece := range p.marks {
		if piece.Mark != (change.Mark{}) {
			continue
		}
		run := sink.Batch{Span: piece.Span, To: change.At(at), Snapshot: true}
		for _, c := range p.source.state(at) {
			if !piece.Span.Contains(c.Key) {
				continue
			}
			if len(run.Changes) == keys {
				run.Span.End = c.Key
				break
			}
			run.Changes = append(run.Changes, c)
		}
		for _, batch := range sink.Steps(run, p.writer.Limits()) {
			if err := p.writer.Write(ctx, batch); err != nil {
				return true, err
			}
			p.moved(batch)
		}
		return true, nil
	}
	return false, nil
}

// snapshot writes all pages.
func (p *pump) snapshot(ctx context.Context, at change.Position, keys int) error {
	for {
		more, err := p.page(ctx, at, keys)
		if err != nil || !more {
			return err
		}
	}
}
