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

// page writes a page of a snapshot: everything that the source holds in a span. Keys that the target holds there from
// before go in the transaction that brings their part of the span to the mark. Only our own claim writes there, so what
// was read of the target can't be out of date when it lands, unless somebody writes to the copy by hand.
func (w *writer) page(ctx context.Context, batch sink.Batch) error {
	puts := slices.Clone(batch.Changes)
	slices.SortFunc(puts, func(a, b change.Change) int { return bytes.Compare(a.Key, b.Key) })
	rest := batch.Span
	for {
		keys, until, err := w.stale(ctx, rest)
		if err != nil {
			return err
		}
		part := changefeed.Span{Start: rest.Start, End: until}
		n := len(puts)
		if len(until) > 0 {
			n, _ = slices.BinarySearchFunc(puts, until, func(c change.Change, key []byte) int { return bytes.Compare(c.Key, key) })
		}
		ops, err := w.merge(puts[:n], keys)
		if err != nil {
			return err
		}
		if err := w.cut(ctx, ops, part, batch.To); err != nil {
			return err
		}
		if bytes.Equal(until, batch.Span.End) {
			return nil
		}
		puts, rest.Start = puts[n:], until
	}
}

// stale reads the target's keys in a span, and says up to which key of the source it read: the span's end, or less if
// there are many.
func (w *writer) stale(ctx context.Context, span changefeed.Span) ([]string, []byte, error) {
	start, end, found := w.layout.bounds(span)
	if !found {
		return nil, span.End, nil
	}
	result, err := w.store.Range(ctx, kv.Range{Key: start, End: end, Limit: staleReadMax, KeysOnly: true})
	if err != nil {
		return nil, nil, failed("read the target's keys", err)
	}
	keys := make([]string, 0, len(result.Pairs))
	for _, pair := range result.Pairs {
		keys = append(keys, pair.Key)
	}
	if !result.More || len(keys) == 0 {
		return keys, span.End, nil
	}
	return keys, append(w.layout.back(keys[len(keys)-1]), 0), nil
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
