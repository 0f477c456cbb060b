package maintainer

import (
	"bytes"

	"github.com/google/btree"

	"fencerow/change"
	"fencerow/changefeed"
)

// coverDegree is the width of the tree's nodes: wide enough for few levels, small enough to move cheaply.
const coverDegree = 32

// cover is the set of cells that partitions the changefeed's key space: no gap, no overlap. Cells that are not running
// are also in unsettled, so that work does not grow with what runs well.
type cover struct {
	whole     changefeed.Span
	tree      *btree.BTreeG[*cell]
	unsettled []*cell
	probe     cell // what is looked for in the tree
}

func newCover(whole changefeed.Span, mark change.Mark) *cover {
	v := &cover{
		whole: whole,
		tree:  btree.NewG(coverDegree, func(a, b *cell) bool { return bytes.Compare(a.span.Start, b.span.Start) < 0 }),
	}
	v.add(&cell{span: whole, mark: mark, state: cellAbsent, unknown: true})
	return v
}

// spanned is an item of a tree of disjoint spans, ordered by start.
type spanned interface {
	comparable
	at() changefeed.Span
}

func (c *cell) at() changefeed.Span { return c.span }

// overlapping returns the items that share a key with the span, in order. The probe is an item of that span.
func overlapping[T spanned](tree *btree.BTreeG[T], span changefeed.Span, probe T) []T {
	var out []T
	from := probe
	tree.DescendLessOrEqual(probe, func(first T) bool {
		from = first
		return false
	})
	tree.AscendGreaterOrEqual(from, func(next T) bool {
		if next.at().Overlaps(span) {
			out = append(out, next)
			return true
		}
		return bytes.Compare(next.at().Start, span.Start) < 0
	})
	return out
}

func (v *cover) len() int { return v.tree.Len() }

func (v *cover) add(cell *cell) {
	cell.index = -1
	v.tree.ReplaceOrInsert(cell)
	if cell.state != cellRunning {
		v.unsettle(cell)
	}
}

func (v *cover) remove(cell *cell) {
	v.tree.Delete(cell)
	v.settle(cell)
}

func (v *cover) unsettle(cell *cell) {
	if cell.index < 0 {
		cell.index = int32(len(v.unsettled))
		v.unsettled = append(v.unsettled, cell)
	}
}

func (v *cover) settle(cell *cell) {
	if cell.index < 0 {
		return
	}
	last := v.unsettled[len(v.unsettled)-1]
	v.unsettled[cell.index], last.index = last, cell.index
	v.unsettled = v.unsettled[:len(v.unsettled)-1]
	cell.index = -1
}

// find returns the cell of exactly this span, or nil.
func (v *cover) find(span changefeed.Span) *cell {
	v.probe.span = span
	found, ok := v.tree.Get(&v.probe)
	if !ok || !found.span.Equal(span) {
		return nil
	}
	return found
}

// at returns the cell that holds the key, or nil.
func (v *cover) at(key []byte) *cell {
	v.probe.span = changefeed.Span{Start: key}
	var found *cell
	v.tree.DescendLessOrEqual(&v.probe, func(last *cell) bool {
		found = last
		return false
	})
	if found == nil || !found.span.Contains(key) {
		return nil
	}
	return found
}

// meeting returns the two cells that meet at the key; nil if there is no border.
func (v *cover) meeting(key []byte) (left, right *cell) {
	v.tree.DescendLessOrEqual(&cell{span: changefeed.Span{Start: key}}, func(one *cell) bool {
		if right == nil {
			right = one
			return bytes.Equal(one.span.Start, key)
		}
		left = one
		return false
	})
	if left == nil {
		return nil, nil
	}
	return left, right
}

// overlapping returns the cells that share a key with the span, in order.
func (v *cover) overlapping(span changefeed.Span) []*cell {
	return overlapping(v.tree, span, &cell{span: span})
}

// each calls yield for every cell in order.
func (v *cover) each(yield func(*cell) bool) { v.tree.Ascend(yield) }

// from calls yield for every cell from a border on, in order.
func (v *cover) from(start []byte, yield func(*cell) bool) {
	v.tree.AscendGreaterOrEqual(&cell{span: changefeed.Span{Start: start}}, yield)
}

// cut replaces an absent cell by its parts at the keys.
func (v *cover) cut(absent *cell, keys [][]byte) {
	parts := absent.span.SplitAt(keys...)
	if len(parts) == 1 {
		return
	}
	v.remove(absent)
	for _, part := range parts {
		v.add(&cell{span: part, mark: absent.mark, state: cellAbsent, unknown: absent.unknown})
	}
}

// join replaces two absent neighbours by one cell, which goes on where the lower one is.
func (v *cover) join(left, right *cell) {
	v.remove(left)
	v.remove(right)
	v.add(&cell{
		span:  changefeed.Span{Start: left.span.Start, End: right.span.End},
		mark:  change.Earlier(left.mark, right.mark),
		state: cellAbsent,
	})
}

// carve makes room for a span that lies over ranges only of which nothing is known, and returns its new cell, absent
// still. It returns nil if something else is known of a part of it, so that the cover never overlaps.
func (v *cover) carve(span changefeed.Span) *cell {
	if around := v.at(span.Start); around != nil && around.span.Encloses(span) {
		if around.state != cellAbsent || !around.unknown {
			return nil
		}
		return v.carveOut(around, span)
	}
	over := v.overlapping(span)
	for _, absent := range over {
		if absent.state != cellAbsent || !absent.unknown {
			return nil
		}
	}
	if len(over) == 0 {
		return nil
	}
	mark := over[0].mark
	for _, absent := range over {
		mark = change.Earlier(mark, absent.mark)
		v.remove(absent)
		for _, rest := range absent.span.Subtract(span) {
			v.add(&cell{span: rest, mark: absent.mark, state: cellAbsent, unknown: absent.unknown})
		}
	}
	carved := &cell{span: span, mark: mark, state: cellAbsent}
	v.add(carved)
	return carved
}

// carveOut is carve within one cell, which becomes what is left before the span, or after it, or the span itself: a
// bootstrap of a million spans does it a million times.
func (v *cover) carveOut(around *cell, span changefeed.Span) *cell {
	whole := around.span
	before, after := bytes.Compare(whole.Start, span.Start) < 0, !bytes.Equal(whole.End, span.End)
	if !before && !after {
		around.unknown = false
		return around
	}
	carved := &cell{span: span, mark: around.mark, state: cellAbsent}
	switch {
	case before:
		around.span.End = span.Start // it keeps its place in the tree
		if after {
			v.add(&cell{span: changefeed.Span{Start: span.End, End: whole.End}, mark: around.mark, state: cellAbsent, unknown: true})
		}
		v.add(carved)
	default:
		v.tree.ReplaceOrInsert(carved) // it takes the place of the cell around it
		carved.index = -1
		v.unsettle(carved)
		around.span.Start = span.End
		v.tree.ReplaceOrInsert(around)
	}
	return carved
}
