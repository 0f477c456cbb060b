package maintainer

import (
	"bytes"

	"github.com/google/btree"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// final is how far a dispatcher came that stopped.
type final struct {
	span  changefeed.Span
	mark  change.Mark
	token fence.Token // the highest that stopped in a part of it
}

func (f *final) at() changefeed.Span { return f.span }

// finals is how far each part of the key space is known to be done by those who stopped there. Its items are disjoint.
type finals struct{ tree *btree.BTreeG[*final] }

func newFinals() *finals {
	return &finals{tree: btree.NewG(coverDegree, func(a, b *final) bool {
		return bytes.Compare(a.span.Start, b.span.Start) < 0
	})}
}

// add takes in that the span is done up to the mark. What is durable stays so: where something further is known, it
// stays.
func (f *finals) add(span changefeed.Span, mark change.Mark, token fence.Token) {
	rest := []changefeed.Span{span}
	for _, known := range overlapping(f.tree, span, &final{span: span}) {
		if !known.mark.Before(mark) {
			rest = subtract(rest, known.span)
			if known.token.OlderThan(token) {
				known.token = token
			}
			continue
		}
		f.tree.Delete(known)
		if token.OlderThan(known.token) {
			token = known.token
		}
		for _, part := range known.span.Subtract(span) {
			f.tree.ReplaceOrInsert(&final{span: part, mark: known.mark, token: known.token})
		}
	}
	for _, part := range rest {
		f.tree.ReplaceOrInsert(&final{span: part, mark: mark, token: token})
	}
}

// newest returns the highest token that stopped in a part of the span.
func (f *finals) newest(span changefeed.Span) fence.Token {
	var out fence.Token
	if f.tree.Len() == 0 {
		return out
	}
	for _, known := range overlapping(f.tree, span, &final{span: span}) {
		if out.OlderThan(known.token) {
			out = known.token
		}
	}
	return out
}

// low returns how far all of the span is done, where base is done everywhere.
func (f *finals) low(span changefeed.Span, base change.Mark) change.Mark {
	rest := []changefeed.Span{span}
	var lowest change.Mark
	for i, known := range overlapping(f.tree, span, &final{span: span}) {
		if i == 0 || known.mark.Before(lowest) {
			lowest = known.mark
		}
		rest = subtract(rest, known.span)
	}
	if len(rest) > 0 {
		return base
	}
	return change.Later(base, lowest)
}

// subtract takes other out of spans that are disjoint and in order. Only the last can reach past it.
func subtract(spans []changefeed.Span, other changefeed.Span) []changefeed.Span {
	var out []changefeed.Span
	for _, span := range spans {
		out = append(out, span.Subtract(other)...)
	}
	return out
}
