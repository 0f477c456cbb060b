package kvmem

import (
	"slices"

	"fencerow/kv"
)

// checkTxn refuses what etcd refuses before it looks at the store.
func (m *Machine) checkTxn(txn kv.Txn) error {
	if err := txn.Check(); err != nil {
		return err
	}
	for _, c := range txn.If {
		if c.Target < kv.ModRevision || c.Target > kv.Value || c.Relation < kv.Equal || c.Relation > kv.Greater {
			return ErrUnknownValue
		}
	}
	for _, ops := range [][]kv.Op{txn.Then, txn.Else} {
		for _, op := range ops {
			if op.Kind < kv.OpGet || op.Kind > kv.OpDelete {
				return ErrUnknownValue
			}
		}
	}
	for _, c := range txn.If {
		if c.Key == "" {
			return ErrEmptyKey
		}
	}
	for _, ops := range [][]kv.Op{txn.Then, txn.Else} {
		for _, op := range ops {
			if op.Key == "" && (op.End == "" || op.Kind == kv.OpPut) {
				return ErrEmptyKey
			}
		}
	}
	for _, ops := range [][]kv.Op{txn.Then, txn.Else} {
		if err := checkOverlaps(ops); err != nil {
			return err
		}
	}
	return nil
}

// checkOverlaps refuses a key that one branch puts twice, or puts and deletes. Deletes may overlap.
func checkOverlaps(ops []kv.Op) error {
	puts := make(map[string]struct{}, len(ops))
	for _, op := range ops {
		if op.Kind != kv.OpPut {
			continue
		}
		if _, twice := puts[op.Key]; twice {
			return ErrDuplicateKey
		}
		puts[op.Key] = struct{}{}
	}
	for _, op := range ops {
		if op.Kind != kv.OpDelete {
			continue
		}
		from, end := normalRange(op.Key, op.End)
		for key := range puts { // any one is enough, so the order does not matter
			if within(key, from, end) {
				return ErrDuplicateKey
			}
		}
	}
	return nil
}

// writes are the writes of one transaction: all of one new revision, which exists only if there is at least one.
type writes struct {
	m        *Machine
	revision int64 // the newest, as reads of the transaction see it
}

func (w *writes) do(op kv.Op) kv.Response {
	key, end := normalRange(op.Key, op.End)
	switch op.Kind {
	case kv.OpGet:
		var response kv.Response
		response.Pairs, response.More = limited(w.m.pairs(key, end, w.revision), op.Limit)
		return response
	case kv.OpPut:
		w.put(op.Key, op.Value, op.Lease)
		return kv.Response{}
	default:
		return kv.Response{Deleted: w.remove(w.m.pairs(key, end, w.revision))}
	}
}

func (w *writes) put(key string, value []byte, id kv.LeaseID) {
	w.revision = w.m.revision + 1
	stored, found := w.m.items.Get(&item{key: key})
	if !found {
		stored = &item{key: key}
		w.m.items.ReplaceOrInsert(stored)
	}
	pair := kv.Pair{
		Key: key, CreateRevision: w.revision, ModRevision: w.revision, Version: 1, Lease: id,
	}
	if len(value) > 0 {
		pair.Value = slices.Clone(value)
	}
	if len(stored.versions) > 0 && stored.last().Version > 0 {
		pair.CreateRevision, pair.Version = stored.last().CreateRevision, stored.last().Version+1
		w.m.detach(*stored.last())
	}
	if id != 0 {
		w.m.leases[id].keys[key] = struct{}{}
	}
	stored.versions = append(stored.versions, pair)
	w.m.log = append(w.m.log, kv.Event{Pair: pair})
}

func (w *writes) remove(pairs []kv.Pair) int64 {
	for _, pair := range pairs {
		w.revision = w.m.revision + 1
		w.m.detach(pair)
		tombstone := kv.Pair{Key: pair.Key, ModRevision: w.revision}
		stored, _ := w.m.items.Get(&item{key: pair.Key})
		stored.versions = append(stored.versions, tombstone)
		w.m.log = append(w.m.log, kv.Event{Deleted: true, Pair: tombstone})
	}
	return int64(len(pairs))
}
