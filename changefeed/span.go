package changefeed

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Span is the half-open range [Start, End) of a changefeed's key space. An empty End is +∞, so the zero value is the
// whole key space. Start < End holds for every span that [Span.Valid] accepts.
type Span struct {
	Start []byte
	End   []byte
}

// Whole is the span of the whole key space.
func Whole() Span { return Span{} }

// Valid reports whether the span is not empty.
func (s Span) Valid() bool { return len(s.End) == 0 || bytes.Compare(s.Start, s.End) < 0 }

// Contains reports whether key lies in the span.
func (s Span) Contains(key []byte) bool {
	return bytes.Compare(s.Start, key) <= 0 && (len(s.End) == 0 || bytes.Compare(key, s.End) < 0)
}

// Encloses reports whether inner lies in s.
func (s Span) Encloses(inner Span) bool {
	return bytes.Compare(s.Start, inner.Start) <= 0 && compareEnd(inner.End, s.End) <= 0
}

// Overlaps reports whether the spans share a key.
func (s Span) Overlaps(other Span) bool {
	return compareStartEnd(s.Start, other.End) < 0 && compareStartEnd(other.Start, s.End) < 0
}

// Intersect returns what the spans share, and false if they share nothing.
func (s Span) Intersect(other Span) (Span, bool) {
	if !s.Overlaps(other) {
		return Span{}, false
	}
	out := s
	if bytes.Compare(other.Start, out.Start) > 0 {
		out.Start = other.Start
	}
	if compareEnd(other.End, out.End) < 0 {
		out.End = other.End
	}
	return out, true
}

// Subtract returns the parts of s that lie outside other, in order.
func (s Span) Subtract(other Span) []Span {
	if !s.Overlaps(other) {
		return []Span{s}
	}
	var out []Span
	if bytes.Compare(s.Start, other.Start) < 0 {
		out = append(out, Span{Start: s.Start, End: other.Start})
	}
	if compareEnd(other.End, s.End) < 0 {
		out = append(out, Span{Start: other.End, End: s.End})
	}
	return out
}

// SplitAt cuts the span at the keys that lie strictly inside it; the others are ignored. The parts are in order.
func (s Span) SplitAt(keys ...[]byte) []Span {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, bytes.Compare)
	out := []Span{s}
	for _, key := range sorted {
		last := &out[len(out)-1]
		if !last.Contains(key) || bytes.Equal(last.Start, key) {
			continue
		}
		right := Span{Start: key, End: last.End}
		last.End = key
		out = append(out, right)
	}
	return out
}

// Compare orders spans by start, then end.
func (s Span) Compare(other Span) int {
	if c := bytes.Compare(s.Start, other.Start); c != 0 {
		return c
	}
	return compareEnd(s.End, other.End)
}

// Equal reports whether the spans are the same.
func (s Span) Equal(other Span) bool { return s.Compare(other) == 0 }

// String returns the span for logs, as in ["a", "b") or ["a", ∞).
func (s Span) String() string {
	if len(s.End) == 0 {
		return fmt.Sprintf("[%q, ∞)", s.Start)
	}
	return fmt.Sprintf("[%q, %q)", s.Start, s.End)
}

// Gaps returns the parts of whole that none of the spans covers, in order.
func Gaps(whole Span, spans []Span) []Span {
	out := []Span{whole}
	for _, span := range spans {
		var left []Span
		for _, gap := range out {
			left = append(left, gap.Subtract(span)...)
		}
		out = left
	}
	return out
}

// CheckCover returns nil if the spans partition whole with no gap and no overlap, else an error that names the first
// fault.
func CheckCover(whole Span, spans []Span) error {
	sorted := slices.Clone(spans)
	slices.SortFunc(sorted, Span.Compare)
	var problems []string
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Overlaps(sorted[i]) {
			problems = append(problems, fmt.Sprintf("%v overlaps %v", sorted[i-1], sorted[i]))
			break
		}
	}
	for _, gap := range Gaps(whole, sorted) {
		problems = append(problems, fmt.Sprintf("%v is not covered", gap))
		break
	}
	for _, span := range sorted {
		if !whole.Encloses(span) {
			problems = append(problems, fmt.Sprintf("%v lies outside %v", span, whole))
			break
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("cover: %s", strings.Join(problems, "; "))
	}
	return nil
}

// compareEnd orders ends, where empty is +∞.
func compareEnd(a, b []byte) int {
	switch {
	case len(a) == 0 && len(b) == 0:
		return 0
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return bytes.Compare(a, b)
	}
}

// compareStartEnd orders a start against an end, where an empty end is +∞.
func compareStartEnd(start, end []byte) int {
	if len(end) == 0 {
		return -1
	}
	return bytes.Compare(start, end)
}
