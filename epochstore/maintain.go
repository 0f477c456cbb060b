package epochstore

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// WriteStatuses stores the statuses of changefeeds that this node owns, many in one transaction. Results are in the
// order of the writes. An entry that another owner has fenced holds up no other.
func (s *Store) WriteStatuses(ctx context.Context, writes []StatusWrite) []StatusResult {
	plan := StatusExchanges(s.keys, writes)
	var group errgroup.Group
	group.SetLimit(TxnsInFlightMax)
	for _, exchange := range plan.Exchanges {
		if len(plan.Exchanges) == 1 {
			s.drive(ctx, exchange)
			break
		}
		group.Go(func() error {
			s.drive(ctx, exchange)
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the outcomes are in the exchanges
	return plan.Results(s.keys)
}

// Status reads a changefeed's status and its epoch record at one revision, linearizably: what a maintainer does after
// its bump, when nobody else can write the status any more.
func (s *Store) Status(ctx context.Context, id changefeed.ID) (Seen[record.Epoch], Seen[record.Status], error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.keys.Epoch(id)), kv.Get(s.keys.Status(id))}})
	if err != nil {
		return Seen[record.Epoch]{}, Seen[record.Status]{}, fmt.Errorf("epochstore: read status of %s: %w", id, err)
	}
	return seenOne[record.Epoch](s.keys, result.Responses[0]), seenOne[record.Status](s.keys, result.Responses[1]), nil
}

// putSeen is what a put left behind; created is 0 if the key did not exist before.
func putSeen[T any](put *T, created, revision int64) Seen[T] {
	if created == 0 {
		created = revision
	}
	return Seen[T]{Record: put, CreateRevision: created, ModRevision: revision}
}
