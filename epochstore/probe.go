package epochstore

import (
	"context"
	"errors"
	"fmt"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// Probe writes the election key again under its term, which changes nothing for anybody: a coordinator that wants to
// call an owner silent first sees that writes succeed at all.
func (l *Lead) Probe(ctx context.Context) error {
	cluster, err := l.store.Cluster(ctx)
	if err != nil {
		return err
	}
	if cluster.Coordinator.Term != l.term.Revision {
		return fmt.Errorf("epochstore: probe: %w", ErrTermOver)
	}
	lease := l.session.Lease()
	value, err := record.Encode(record.Ref{Kind: record.KindCandidate, Lease: int64(lease)},
		&record.Candidate{Node: cluster.Coordinator.Node})
	if err != nil {
		return fmt.Errorf("epochstore: probe: %w", err)
	}
	result, err := l.store.kv.Txn(ctx, kv.Txn{
		If:   termCompares(l.term),
		Then: []kv.Op{kv.PutLeased(l.term.Key, value, lease)},
	})
	switch {
	case errors.Is(err, fence.ErrUnknown):
		return fmt.Errorf("epochstore: probe: %w", err)
	case err != nil:
		return fmt.Errorf("epochstore: probe: %w", classify(err))
	case !result.Succeeded:
		return fmt.Errorf("epochstore: probe: %w", ErrTermOver)
	}
	return nil
}
