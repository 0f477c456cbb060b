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

// PutEviction voids every token of the changefeed up to the write's token on a node.
func (s *Store) PutEviction(ctx context.Context, write EvictionWrite) (Seen[record.Eviction], error) {
	eviction := record.Eviction{Epoch: write.Token.Epoch(), Seq: write.Token.Seq(), At: s.now()}
	own, value, err := evictionPart(s.keys, write, eviction)
	if err != nil {
		return Seen[record.Eviction]{}, err
	}
	outcome := s.driveOne(ctx, evictionExchange(own, write.Ownership, write.Last.ModRevision, value))
	if outcome.Err != nil {
		return Seen[record.Eviction]{}, fmt.Errorf("epochstore: evict %s from %s: %w", write.ID, write.Node, outcome.Err)
	}
	return putSeen(&eviction, write.Last.CreateRevision, outcome.ModRevision), nil
}

// DeleteEviction deletes an eviction that was acknowledged.
func (s *Store) DeleteEviction(ctx context.Context, write EvictionWrite) error {
	owned, last := write.Ownership.Record, write.Last.Record
	if owned == nil || last == nil || last.AcknowledgedAt == nil {
		return fmt.Errorf("%w: deletion of an eviction of %s that was not acknowledged", ErrRefused, write.ID)
	}
	epochKey, key := s.keys.Epoch(write.ID), s.keys.Eviction(owned.UID, write.Node)
	own := part{
		key:   key,
		ifs:   append(ownershipCompares(epochKey, write.Ownership), kv.ModIs(key, write.Last.ModRevision)),
		thens: []kv.Op{kv.Delete(key)},
		reads: []kv.Op{kv.Get(epochKey), kv.Get(key)},
	}
	outcome := s.driveOne(ctx, evictionExchange(own, write.Ownership, write.Last.ModRevision, nil))
	if outcome.Err != nil {
		return fmt.Errorf("epochstore: delete eviction of %s from %s: %w", write.ID, write.Node, outcome.Err)
	}
	return nil
}

// AcknowledgeEviction says, on the evicted node, that every write under the voided tokens has returned. It compares
// that the eviction is the one that was obeyed.
func (s *Store) AcknowledgeEviction(ctx context.Context, uid changefeed.UID, node changefeed.NodeID,
	obeyed Seen[record.Eviction],
) error {
	if obeyed.Record == nil {
		return fmt.Errorf("%w: acknowledgement of an eviction that was not read", ErrRefused)
	}
	if obeyed.Record.AcknowledgedAt != nil {
		return nil
	}
	eviction, now := *obeyed.Record, s.now()
	eviction.AcknowledgedAt = &now
	value, err := record.Encode(record.Ref{Kind: record.KindEviction, UID: uid, Node: node}, &eviction)
	if err != nil {
		return fmt.Errorf("epochstore: acknowledge eviction: %w", err)
	}
	outcome := s.driveOne(ctx, putExchange(s.keys.Eviction(uid, node), value, obeyed.ModRevision, nil))
	if outcome.Err != nil {
		return fmt.Errorf("epochstore: acknowledge eviction of %s from %s: %w", uid, node, outcome.Err)
	}
	return nil
}

// putSeen is what a put left behind; created is 0 if the key did not exist before.
func putSeen[T any](put *T, created, revision int64) Seen[T] {
	if created == 0 {
		created = revision
	}
	return Seen[T]{Record: put, CreateRevision: created, ModRevision: revision}
}
