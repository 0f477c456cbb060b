package dispatcher

import (
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/source"
)

// pieces is how far each part of a claimed span is durable in the sink, as its one writer knows it.
type pieces struct{ items []sink.Piece }

// newPieces takes the pieces of a claim, which partition the span in order.
func newPieces(claimed []sink.Piece) *pieces { return &pieces{items: slices.Clone(claimed)} }

// mark returns how far the whole span is.
func (p *pieces) mark() change.Mark {
	if len(p.items) == 0 {
		return change.Mark{}
	}
	lowest := p.items[0].Mark
	for _, piece := range p.items[1:] {
		lowest = change.Earlier(lowest, piece.Mark)
	}
	return lowest
}

// highest returns how far the piece is that is furthest.
func (p *pieces) highest() change.Mark {
	var highest change.Mark
	for _, piece := range p.items {
		highest = change.Later(highest, piece.Mark)
	}
	return highest
}

// behind reports whether a part of span is not yet at mark.
func (p *pieces) behind(span changefeed.Span, mark change.Mark) bool {
	for _, piece := range p.items {
		if piece.Mark.Before(mark) && piece.Span.Overlaps(span) {
			return true
		}
	}
	return false
}

// advance moves what lies in span to mark, never back.
func (p *pieces) advance(span changefeed.Span, mark change.Mark) {
	if len(p.items) == 1 && span.Encloses(p.items[0].Span) {
		p.items[0].Mark = change.Later(p.items[0].Mark, mark)
		return
	}
	var out []sink.Piece
	add := func(span changefeed.Span, mark change.Mark) {
		if n := len(out); n > 0 && out[n-1].Mark == mark {
			out[n-1].Span.End = span.End
			return
		}
		out = append(out, sink.Piece{Span: span, Mark: mark})
	}
	for _, piece := range p.items {
		inner, overlaps := piece.Span.Intersect(span)
		if !overlaps || !piece.Mark.Before(mark) {
			add(piece.Span, piece.Mark)
			continue
		}
		placed := false
		for _, rest := range piece.Span.Subtract(inner) {
			if !placed && rest.Compare(inner) > 0 {
				add(inner, mark)
				placed = true
			}
			add(rest, piece.Mark)
		}
		if !placed {
			add(inner, mark)
		}
	}
	p.items = out
}

// undone returns the changes that are not done in the piece that they belong to.
func (p *pieces) undone(changes []change.Change) []change.Change {
	if len(changes) == 0 || p.highest().Before(change.Mark{Position: changes[0].Position, Index: 1}) {
		return changes // all lie above every piece
	}
	first := 0
	for first < len(changes) && !p.done(&changes[first]) {
		first++
	}
	if first == len(changes) {
		return changes
	}
	kept := slices.Clone(changes[:first])
	for i := range changes[first:] {
		if c := &changes[first+i]; !p.done(c) {
			kept = append(kept, *c)
		}
	}
	return kept
}

func (p *pieces) done(c *change.Change) bool {
	for _, piece := range p.items {
		if piece.Span.Contains(c.Key) {
			return piece.Mark.Done(c.Position, c.Index)
		}
	}
	return false
}

// request returns the pieces as a source takes them.
func (p *pieces) request(bufferBytes int) source.Request {
	request := source.Request{BufferBytes: bufferBytes, Pieces: make([]source.Piece, len(p.items))}
	for i, piece := range p.items {
		request.Pieces[i] = source.Piece{Span: piece.Span, Mark: piece.Mark}
	}
	return request
}
