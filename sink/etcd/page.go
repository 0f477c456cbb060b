package etcd

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/sink"
)

// staleReadMax is how many keys of the target one request reads, to find those that the source does not hold.
const staleReadMax = 1000

// known is what a writer has read of the target ahead of its snapshot: the keys from before, in order, of a span of the
// source. Only our own claim writes there, so what was read does not go out of date, unless somebody writes to the copy
// by hand.
type known struct {
	valid bool
	span  changefeed.Span
	keys  []string
}

// covers reports whether the start of the span is known.
func (k *known) covers(start []byte) bool { return k.valid && k.span.Contains(start) }

// upTo takes out the keys that sort before end, a key of the target; "" is +∞.
func (k *known) upTo(end string) []string {
	n := len(k.keys)
	if end != "" {
		n, _ = slices.BinarySearch(k.keys, end)
	}
	keys := k.keys[:n]
	k.keys = k.keys[n:]
	return keys
}

// page writes a page of a snapshot: everything that the source holds in a span. Keys that the target holds there from
// before go in the transaction that brings their part of the span to the mark.
func (w *writer) page(ctx context.Context, batch sink.Batch) error {
	puts := batch.Changes
	inKeys := func(a, b change.Change) int { return bytes.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(puts, inKeys) {
		puts = slices.Clone(puts)
		slices.SortFunc(puts, inKeys)
	}
	rest := batch.Span
	for {
		if !w.known.covers(rest.Start) {
			if err := w.lookAhead(ctx, rest.Start); err != nil {
				return err
			}
		}
		part, found := w.known.span.Intersect(rest)
		if !found {
			return fmt.Errorf("sink etcd: page %v lies outside the claim", batch.Span)
		}
		n := len(puts)
		if len(part.End) > 0 {
			n, _ = slices.BinarySearchFunc(puts, part.End, func(c change.Change, key []byte) int { return bytes.Compare(c.Key, key) })
		}
		ops, err := w.merge(puts[:n], w.knownIn(part))
		if err != nil {
			return err
		}
		if err := w.cut(ctx, ops, part, batch.To); err != nil {
			return err
		}
		if bytes.Equal(part.End, batch.Span.End) {
			return nil
		}
		puts, rest.Start = puts[n:], part.End
	}
}

// lookAhead reads keys of the target from a key of the source on: at most staleReadMax, as far as the claim goes.
func (w *writer) lookAhead(ctx context.Context, from []byte) error {
	last := w.claimed[len(w.claimed)-1].Span
	span := changefeed.Span{Start: from, End: last.End}
	w.known = known{valid: true, span: span}
	start, end, found := w.layout.bounds(span)
	if !found {
		return nil
	}
	result, err := w.store.Range(ctx, kv.Range{Key: start, End: end, Limit: staleReadMax, KeysOnly: true})
	if err != nil {
		return failed("read the target's keys", err)
	}
	for _, pair := range result.Pairs {
		w.known.keys = append(w.known.keys, pair.Key)
	}
	if n := len(w.known.keys); result.More && n > 0 {
		w.known.span.End = append(w.layout.back(w.known.keys[n-1]), 0)
	}
	return nil
}

// knownIn takes the keys of a part of the known span, whose pages come in order.
func (w *writer) knownIn(part changefeed.Span) []string {
	start, end, found := w.layout.bounds(part)
	if !found {
		return nil
	}
	w.known.upTo(start) // keys of a part that came in no page
	if bytes.Equal(part.End, w.known.span.End) || end == kv.RangeEndInfinite {
		end = ""
	}
	keys := w.known.upTo(end)
	w.known.span.Start = part.End
	w.known.valid = len(part.End) > 0 && w.known.span.Valid()
	return keys
}

// merge returns puts and the deletes of stale keys, in order of keys. Both inputs are in that order.
func (w *writer) merge(puts []change.Change, target []string) ([]kv.Op, error) {
	ops := make([]kv.Op, 0, len(puts)+1)
	for i := range puts {
		op, err := w.op(&puts[i])
		if err != nil {
			return nil, err
		}
		if i > 0 && ops[len(ops)-1].Key == op.Key {
			return nil, fmt.Errorf("sink etcd: key %.100q is twice in a page", puts[i].Key)
		}
		for len(target) > 0 && target[0] < op.Key {
			ops = append(ops, kv.Delete(target[0]))
			target = target[1:]
		}
		if len(target) > 0 && target[0] == op.Key {
			target = target[1:]
		}
		ops = append(ops, op)
	}
	for _, key := range target {
		ops = append(ops, kv.Delete(key))
	}
	return ops, nil
}

// cut writes operations, in order of keys, in as many transactions as they need. The border between what is at the mark
// and what is not moves with them.
func (w *writer) cut(ctx context.Context, ops []kv.Op, span changefeed.Span, to change.Mark) error {
	for {
		n := fitting(ops)
		part := span
		if n < len(ops) {
			part.End = w.layout.back(ops[n].Key)
		}
		if err := w.step(ctx, slices.Clip(ops[:n]), part, to); err != nil {
			return err
		}
		if n == len(ops) {
			return nil
		}
		ops, span.Start = ops[n:], part.End
	}
}

// fitting returns how many of the operations one transaction takes.
func fitting(ops []kv.Op) int {
	size := 0
	for i, op := range ops {
		size += (kv.Txn{Then: []kv.Op{op}}).Size()
		if i > 0 && (i == dataOpsMax || size > dataBytesMax) {
			return i
		}
	}
	return len(ops)
}
