package dispatcher

import (
	"bytes"
	"slices"
	"sort"

	"fencerow/changefeed"
)

// spanSet holds dispatchers whose spans do not overlap, in order of their spans, so that what overlaps a span is found
// by bisection.
type spanSet struct{ items []*dispatcher }

// first returns the index of the first dispatcher that ends after key.
func (s *spanSet) first(key []byte) int {
	return sort.Search(len(s.items), func(i int) bool {
		end := s.items[i].span.End
		return len(end) == 0 || bytes.Compare(end, key) > 0
	})
}

// overlapping returns the dispatchers whose spans share a key with span, in order.
func (s *spanSet) overlapping(span changefeed.Span) []*dispatcher {
	from := s.first(span.Start)
	to := from
	for to < len(s.items) && s.items[to].span.Overlaps(span) {
		to++
	}
	return slices.Clone(s.items[from:to])
}

// add inserts a dispatcher that overlaps none.
func (s *spanSet) add(d *dispatcher) {
	s.items = slices.Insert(s.items, s.first(d.span.Start), d)
}

// remove takes a dispatcher out, if it is in.
func (s *spanSet) remove(d *dispatcher) {
	i := s.first(d.span.Start)
	if i < len(s.items) && s.items[i] == d {
		s.items = slices.Delete(s.items, i, i+1)
	}
}
