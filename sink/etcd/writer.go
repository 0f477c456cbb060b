package etcd

import (
	"context"
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/sink"
)

const (
	// dataOpsMax is how many keys one transaction writes: the marks take one of its operations.
	dataOpsMax = kv.TxnOpsMax - 1
	// marksReserve is left of a transaction's bytes for the marks, which are small but while a claim has many pieces.
	marksReserve = 64 << 10
	// dataBytesMax is how many bytes of keys and values we pack into one transaction.
	dataBytesMax = kv.TxnBytesMax - marksReserve
)

var errClosed = errors.New("sink etcd: the writer is closed")

// writer holds one claim.
type writer struct {
	layout      layout
	name        string // of the target, for faults
	store       kv.Store
	n           sink.Incarnation
	incarnation int64 // mod revision of claims/<n>
	claimed     []sink.Piece
	held        sink.Map // of this claim alone
	known       known    // for pages of a snapshot
	ended       error    // why it is done with
}

var _ sink.Writer = (*writer)(nil)

func newWriter(l layout, store kv.Store, n sink.Incarnation, incarnation int64, held sink.Map) *writer {
	return &writer{
		layout: l, store: store, n: n, incarnation: incarnation, claimed: held.Pieces(n), held: held.Only(n),
	}
}

// Pieces implements [sink.Writer].
func (w *writer) Pieces() []sink.Piece { return w.claimed }

// Limits implements [sink.Writer].
func (w *writer) Limits() sink.Limits {
	return sink.Limits{Changes: dataOpsMax, Bytes: dataBytesMax, DistinctKeys: true}
}

// Close implements [sink.Writer].
func (w *writer) Close() error {
	if w.ended == nil {
		w.ended = errClosed
	}
	return nil
}

// Write implements [sink.Writer]. A page of a snapshot may become several transactions, each of which brings a part of
// the page to its mark; every other batch is one.
func (w *writer) Write(ctx context.Context, batch sink.Batch) error {
	if w.ended != nil {
		return w.ended
	}
	var err error
	if batch.Snapshot {
		err = w.page(ctx, batch)
	} else {
		w.known = known{}
		err = w.changes(ctx, batch)
	}
	if err != nil {
		w.ended = named(err, w.name)
	}
	return w.ended
}

func (w *writer) changes(ctx context.Context, batch sink.Batch) error {
	ops := make([]kv.Op, 0, len(batch.Changes)+1)
	for i := range batch.Changes {
		op, err := w.op(&batch.Changes[i])
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	return w.step(ctx, ops, batch.Span, batch.To)
}

// op is what one change does to the target. Leases are not copied: they belong to the source.
func (w *writer) op(c *change.Change) (kv.Op, error) {
	key, err := w.layout.key(c.Key)
	if err != nil {
		return kv.Op{}, err
	}
	if c.Op == change.OpDelete {
		return kv.Delete(key), nil
	}
	value, err := valueOf(c)
	if err != nil {
		return kv.Op{}, err
	}
	return kv.Put(key, value), nil
}

// valueOf returns the value of a change's new row.
func valueOf(c *change.Change) ([]byte, error) {
	if pair, ok := c.After.(*change.KV); ok && pair != nil {
		return pair.Value, nil
	}
	var out []byte
	found := false
	if c.After != nil {
		c.After.Columns(func(name string, value any) bool {
			if name != "value" {
				return true
			}
			switch v := value.(type) {
			case []byte:
				out, found = v, true
			case string:
				out, found = []byte(v), true
			}
			return false
		})
	}
	if !found {
		return nil, fmt.Errorf("sink etcd: %v of key %.100q at %d has no value", c.Op, c.Key, c.Position)
	}
	return out, nil
}

// step is one transaction: data, and the marks of the part of the claim that it brings to the mark.
//
// Crash before it: nothing happened. Crash after it, or an answer that is lost: data and marks are there together, and the
// next claim reads the marks.
func (w *writer) step(ctx context.Context, ops []kv.Op, span changefeed.Span, to change.Mark) error {
	after, err := w.held.Advance(w.n, span, to)
	if err != nil {
		return err
	}
	result, err := w.store.Txn(ctx, dataTxn(w.layout, w.n, w.incarnation, ops, after.Pieces(w.n)))
	if err != nil {
		return failed("write", err)
	}
	if !result.Succeeded {
		return superseded(w.layout.claim(w.n))
	}
	w.held = after
	return nil
}
