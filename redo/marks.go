package redo

import (
	"bytes"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// marks is how far each part of a claimed span is in one of the two.
type marks struct{ m sink.Map }

// only is the incarnation of all pieces of marks: they belong to one writer.
const only sink.Incarnation = 1

func newMarks(pieces []sink.Piece) (*marks, error) {
	held := make([]sink.Held, len(pieces))
	for i, piece := range pieces {
		held[i] = sink.Held{Piece: piece, Token: fence.Mint(1, 1), Incarnation: only} //nolint:forbidigo // stands for a claim that was admitted, and is compared with nothing
	}
	m, err := sink.NewMap(held)
	return &marks{m: m}, err
}

func (k *marks) pieces() []sink.Piece { return k.m.Pieces(only) }

// advance moves what lies in the span to the mark, never back.
func (k *marks) advance(span changefeed.Span, to change.Mark) error {
	moved, err := k.m.Advance(only, span, to)
	if err == nil {
		k.m = moved
	}
	return err
}

// lacks returns what is to be written of the batch, which is nothing if all of it was before.
func (k *marks) lacks(batch sink.Batch) []sink.Batch {
	if batch.Snapshot {
		return k.lacksOfPage(batch)
	}
	batch.Changes = k.undone(batch.Changes)
	if len(batch.Changes) > 0 {
		return []sink.Batch{batch}
	}
	for _, piece := range k.pieces() {
		if piece.Span.Overlaps(batch.Span) && piece.Mark.Before(batch.To) {
			return []sink.Batch{batch}
		}
	}
	return nil
}

// lacksOfPage returns the parts of a page that lie where its position was not reached. What lies elsewhere is newer than
// the page.
func (k *marks) lacksOfPage(page sink.Batch) []sink.Batch {
	var parts []changefeed.Span
	for _, piece := range k.pieces() {
		part, overlaps := piece.Span.Intersect(page.Span)
		if !overlaps || !piece.Mark.Before(page.To) {
			continue
		}
		if n := len(parts) - 1; n >= 0 && bytes.Equal(parts[n].End, part.Start) {
			parts[n].End = part.End
			continue
		}
		parts = append(parts, part)
	}
	if len(parts) == 1 && parts[0].Equal(page.Span) {
		return []sink.Batch{page}
	}
	out := make([]sink.Batch, len(parts))
	for i, part := range parts {
		out[i] = sink.Batch{Span: part, To: page.To, Snapshot: true}
		for _, c := range page.Changes {
			if part.Contains(c.Key) {
				out[i].Changes = append(out[i].Changes, c)
			}
		}
	}
	return out
}

// undone returns the changes that are not done in the piece that they belong to.
func (k *marks) undone(changes []change.Change) []change.Change {
	if len(changes) == 0 {
		return nil
	}
	pieces, above := k.pieces(), true
	first := change.Mark{Position: changes[0].Position, Index: 1}
	for _, piece := range pieces {
		above = above && piece.Mark.Before(first)
	}
	if above {
		return changes
	}
	var kept []change.Change
	for i := range changes {
		for _, piece := range pieces {
			if piece.Span.Contains(changes[i].Key) && !piece.Mark.Done(changes[i].Position, changes[i].Index) {
				kept = append(kept, changes[i])
			}
		}
	}
	return kept
}

// both returns the pieces of a claim of both: where each part is in the one that is further behind.
func both(log, target *marks) ([]sink.Piece, error) {
	var out []sink.Piece
	for _, mine := range target.pieces() {
		for _, other := range log.pieces() {
			if part, overlaps := mine.Span.Intersect(other.Span); overlaps {
				out = append(out, sink.Piece{Span: part, Mark: change.Earlier(mine.Mark, other.Mark)})
			}
		}
	}
	joined, err := newMarks(out)
	if err != nil {
		return nil, err
	}
	return joined.pieces(), nil
}

// mayPass reports whether a batch that brings a part of the target to the position may be written there: every part of the
// whole has come as far in the log. The pieces of the claim mine don't count: its own batch is in the log. While
// a snapshot is being read there is no consistent position that could be lost, and everything passes.
func mayPass(log sink.Map, whole changefeed.Span, mine sink.Incarnation, to change.Position) bool {
	reached, reading := true, false
	var spans []changefeed.Span
	for _, piece := range log.Held() {
		spans = append(spans, piece.Span)
		reading = reading || piece.Mark == change.Mark{}
		reached = reached && (piece.Incarnation == mine || piece.Mark.Whole() >= to)
	}
	return len(changefeed.Gaps(whole, spans)) == 0 && (reached || reading)
}
