package sink

import (
	"bytes"
	"fmt"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// PiecesMax bounds a map. A claim adds at most two borders and a snapshot in progress one, so it is far above what a
// changefeed of thousands of dispatchers needs.
const PiecesMax = 1 << 16

// Incarnation names one Claim. Every claim draws a fresh one, also a claim of the same token; a write is compared with
// it. The zero value is nobody's.
type Incarnation uint64

// Held is a piece of the map: how far a part of the key space is done, who claimed it last, and by which claim it may
// be written. Incarnation 0 means that nobody may write it until it is claimed again.
type Held struct {
	Piece
	Token       fence.Token
	Incarnation Incarnation
}

// Map is everything that was ever claimed of one changefeed: pieces that never overlap, in order. It is a value: its
// methods return another map and leave theirs as it was. The pieces of one incarnation always partition one span, the
// one that it claimed. The zero value is the empty map.
type Map struct {
	held []Held
}

// NewMap makes a map of pieces in any order, and refuses pieces that can't be one.
func NewMap(held []Held) (Map, error) {
	m := Map{held: slices.Clone(held)}
	slices.SortFunc(m.held, func(a, b Held) int { return a.Span.Compare(b.Span) })
	if err := m.Validate(); err != nil {
		return Map{}, err
	}
	m.held = coalesce(m.held)
	return m, nil
}

// Validate returns what is wrong with the map, if anything.
func (m Map) Validate() error {
	if len(m.held) > PiecesMax {
		return fmt.Errorf("sink: map of %d pieces, at most %d", len(m.held), PiecesMax)
	}
	last := make(map[Incarnation]int)
	for i, piece := range m.held {
		if !piece.Span.Valid() {
			return fmt.Errorf("sink: map: piece %v is empty", piece.Span)
		}
		if piece.Token.Epoch() == 0 {
			return fmt.Errorf("sink: map: piece %v has no token", piece.Span)
		}
		if i > 0 && m.held[i-1].Span.Overlaps(piece.Span) {
			return fmt.Errorf("sink: map: piece %v overlaps %v", m.held[i-1].Span, piece.Span)
		}
		if piece.Incarnation == 0 {
			continue
		}
		if before, found := last[piece.Incarnation]; found {
			if before != i-1 || m.held[before].Token != piece.Token || !bytes.Equal(m.held[before].Span.End, piece.Span.Start) {
				return fmt.Errorf("sink: map: claim %d does not hold one span", piece.Incarnation)
			}
		}
		last[piece.Incarnation] = i
	}
	return nil
}

// Held returns the pieces in order.
func (m Map) Held() []Held { return slices.Clone(m.held) }

// Overlapping returns the pieces that share a key with the span, in order and uncut.
func (m Map) Overlapping(span changefeed.Span) []Held {
	var out []Held
	for _, piece := range m.held {
		if piece.Span.Overlaps(span) {
			out = append(out, piece)
		}
	}
	return out
}

// Pieces returns the pieces of one claim in order; none if it was superseded.
func (m Map) Pieces(incarnation Incarnation) []Piece {
	var out []Piece
	for _, piece := range m.held {
		if incarnation != 0 && piece.Incarnation == incarnation {
			out = append(out, piece.Piece)
		}
	}
	return out
}

// Writers returns the incarnations that hold a part of the span, in order of their first piece.
func (m Map) Writers(span changefeed.Span) []Incarnation {
	var out []Incarnation
	for _, piece := range m.held {
		if piece.Incarnation != 0 && piece.Span.Overlaps(span) && !slices.Contains(out, piece.Incarnation) {
			out = append(out, piece.Incarnation)
		}
	}
	return out
}

// Only returns the pieces of one incarnation; of 0, those that have no writer.
func (m Map) Only(incarnation Incarnation) Map {
	var out []Held
	for _, piece := range m.held {
		if piece.Incarnation == incarnation {
			out = append(out, piece)
		}
	}
	return Map{held: out}
}

// Rest returns the pieces that have no writer.
func (m Map) Rest() Map { return m.Only(0) }

// Release takes the writer from every piece of the given incarnations. Marks and tokens stay.
func (m Map) Release(incarnations ...Incarnation) Map {
	held := slices.Clone(m.held)
	for i := range held {
		if slices.Contains(incarnations, held[i].Incarnation) {
			held[i].Incarnation = 0
		}
	}
	return Map{held: coalesce(held)}
}

// Claim gives the claim's span to its token under a fresh incarnation, or refuses. Pieces are cut at the span's
// borders: inside, they keep their marks; parts never claimed start at From; what is cut off keeps mark and token.
// Every claim that loses a part loses its writer everywhere ([Map.Writers] of the span names them before).
func (m Map) Claim(head Head, as Identity, claim Claim, fresh Incarnation) (Map, error) {
	if err := claim.validate(); err != nil {
		return Map{}, err
	}
	if err := head.admit(as, claim.Token); err != nil {
		return Map{}, err
	}
	if fresh == 0 || len(m.Pieces(fresh)) > 0 {
		return Map{}, fmt.Errorf("sink: claim: incarnation %d is not fresh", fresh)
	}
	if claim.Token.Epoch().OlderThan(head.Floor) && !m.holds(claim) { // fence:F22
		return Map{}, behind(head.Floor, claim.Token.Epoch())
	}
	for _, piece := range m.Overlapping(claim.Span) {
		if claim.Token.OlderThan(piece.Token) { // fence:F22
			return Map{}, fmt.Errorf("sink: claim of %v by %v: %v was claimed by %v: %w",
				claim.Span, claim.Token, piece.Span, piece.Token, fence.ErrStale)
		}
		if piece.Mark.Whole() < claim.Floor {
			return Map{}, behindCheckpoint(piece.Piece, claim.Floor)
		}
	}
	out := m.claimed(claim, fresh)
	if len(out.held) > PiecesMax {
		return Map{}, &changefeed.Fault{
			Code: changefeed.CodeLimitExceeded, Permanent: true,
			Detail: fmt.Sprintf("the sink's map would have %d pieces, more than %d", len(out.held), PiecesMax),
			Cure:   "merge spans",
		}
	}
	return out, nil
}

func (c Claim) validate() error {
	if c.Token.Epoch() == 0 {
		return fmt.Errorf("sink: claim: token %v is invalid: %w", c.Token, fence.ErrStale)
	}
	if !c.Span.Valid() {
		return fmt.Errorf("sink: claim: span %v is empty", c.Span)
	}
	return nil
}

// holds reports whether the claim's very token holds every part of its span and may write there.
func (m Map) holds(claim Claim) bool {
	var spans []changefeed.Span
	for _, piece := range m.Overlapping(claim.Span) {
		if piece.Token != claim.Token || piece.Incarnation == 0 {
			return false
		}
		spans = append(spans, piece.Span)
	}
	return len(changefeed.Gaps(claim.Span, spans)) == 0
}

// claimed cuts the pieces for a claim that was admitted.
func (m Map) claimed(claim Claim, fresh Incarnation) Map {
	m = m.Release(m.Writers(claim.Span)...)
	out := make([]Held, 0, len(m.held)+2)
	var inside []changefeed.Span
	for _, piece := range m.held {
		inner, overlaps := piece.Span.Intersect(claim.Span)
		if !overlaps {
			out = append(out, piece)
			continue
		}
		for _, rest := range piece.Span.Subtract(claim.Span) {
			out = append(out, Held{Piece: Piece{Span: rest, Mark: piece.Mark}, Token: piece.Token})
		}
		inside = append(inside, inner)
		out = append(out, Held{Piece: Piece{Span: inner, Mark: piece.Mark}, Token: claim.Token, Incarnation: fresh})
	}
	for _, gap := range changefeed.Gaps(claim.Span, inside) {
		out = append(out, Held{Piece: Piece{Span: gap, Mark: claim.From}, Token: claim.Token, Incarnation: fresh})
	}
	slices.SortFunc(out, func(a, b Held) int { return a.Span.Compare(b.Span) })
	return Map{held: coalesce(out)}
}

// Advance moves the parts of the claim that lie in span to the mark, never back, cutting pieces at the span's borders.
// A claim that was superseded is [fence.ErrStale].
func (m Map) Advance(incarnation Incarnation, span changefeed.Span, to change.Mark) (Map, error) {
	if len(m.held) == 1 && m.held[0].Incarnation == incarnation && incarnation != 0 && m.held[0].Span.Equal(span) {
		moved := m.held[0]
		moved.Mark = change.Later(moved.Mark, to)
		return Map{held: []Held{moved}}, nil
	}
	pieces := m.Pieces(incarnation)
	if len(pieces) == 0 { // fence:F23
		return Map{}, fmt.Errorf("sink: claim %d was superseded: %w", incarnation, fence.ErrStale)
	}
	whole := changefeed.Span{Start: pieces[0].Span.Start, End: pieces[len(pieces)-1].Span.End}
	if !span.Valid() || !whole.Encloses(span) {
		return Map{}, fmt.Errorf("sink: batch of %v lies outside the claim's %v", span, whole)
	}
	out := make([]Held, 0, len(m.held)+2)
	for _, piece := range m.held {
		inner, overlaps := piece.Span.Intersect(span)
		if piece.Incarnation != incarnation || !overlaps {
			out = append(out, piece)
			continue
		}
		for _, part := range piece.Span.SplitAt(inner.Start, inner.End) {
			cut := piece
			cut.Span = part
			if span.Encloses(part) {
				cut.Mark = change.Later(cut.Mark, to)
			}
			out = append(out, cut)
		}
	}
	return Map{held: coalesce(out)}, nil
}

// coalesce joins neighbours that say the same. It reuses the slice.
func coalesce(held []Held) []Held {
	out := held[:0]
	for _, piece := range held {
		if n := len(out) - 1; n >= 0 && out[n].joins(piece) {
			out[n].Span.End = piece.Span.End
			continue
		}
		out = append(out, piece)
	}
	return out
}

// joins reports whether next follows h without a gap and says the same of its span.
func (h Held) joins(next Held) bool {
	return len(h.Span.End) > 0 && bytes.Equal(h.Span.End, next.Span.Start) &&
		h.Mark == next.Mark && h.Token == next.Token && h.Incarnation == next.Incarnation
}

func behindCheckpoint(piece Piece, checkpoint change.Position) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkBehind, Permanent: true,
		Detail: fmt.Sprintf("%v is at %d in the sink, below the stored checkpoint %d", piece.Span, piece.Mark.Whole(), checkpoint),
		Cure:   "the target was set back: restore it, or remove the changefeed and create it anew",
	}
}
