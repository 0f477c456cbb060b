package epochstore

import (
	"context"
	"fmt"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// Evict voids every token of the changefeed up to the given one on a node, whatever eviction is stored. Done again, it
// changes nothing, so that it may be repeated after any error but ErrFenced.
func (s *Store) Evict(ctx context.Context, write EvictionWrite) error {
	last, err := s.eviction(ctx, write.Ownership, write.Node)
	if err != nil {
		return err
	}
	if last.Record != nil && !voids(last.Record).OlderThan(write.Token) {
		return nil
	}
	write.Last = last
	_, err = s.PutEviction(ctx, write)
	return err
}

// DropEviction deletes the eviction of a node if it was acknowledged, or if the node is gone. Done again, it changes
// nothing.
func (s *Store) DropEviction(ctx context.Context, write EvictionWrite) error {
	last, err := s.eviction(ctx, write.Ownership, write.Node)
	if err != nil || !last.Exists() {
		return err
	}
	write.Last = last
	return s.DeleteEviction(ctx, write)
}

// Acknowledge says, on the evicted node, that every write under the tokens up to done has returned, and how far each of
// the dispatchers came. An eviction that voids more was not obeyed yet: it is acknowledged in its turn.
func (s *Store) Acknowledge(ctx context.Context, uid changefeed.UID, node changefeed.NodeID, done fence.Token,
	finals []record.Final,
) error {
	stored, err := s.evictionOf(ctx, uid, node)
	if err != nil || !stored.Exists() { // the maintainer took it back
		return err
	}
	if stored.Record == nil {
		return stored.Err
	}
	if done.OlderThan(voids(stored.Record)) { // fence:F16
		return nil
	}
	return s.AcknowledgeEviction(ctx, uid, node, stored, finals)
}

// voids returns the highest token that an eviction voids.
func voids(eviction *record.Eviction) fence.Token { return fence.Mint(eviction.Epoch, eviction.Seq) }

func (s *Store) eviction(ctx context.Context, own Seen[record.Epoch], node changefeed.NodeID) (Seen[record.Eviction], error) {
	if own.Record == nil {
		return Seen[record.Eviction]{}, fmt.Errorf("%w: an eviction without an ownership", ErrRefused)
	}
	stored, err := s.evictionOf(ctx, own.Record.UID, node)
	if err == nil {
		err = stored.Err
	}
	return stored, err
}

func (s *Store) evictionOf(ctx context.Context, uid changefeed.UID, node changefeed.NodeID) (Seen[record.Eviction], error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.keys.Eviction(uid, node))}})
	if err != nil {
		return Seen[record.Eviction]{}, fmt.Errorf("epochstore: read the eviction of %s from %s: %w", uid, node, err)
	}
	return seenOne[record.Eviction](s.keys, result.Responses[0]), nil
}

// Expel revokes the lease of a node that has not acknowledged an eviction in time, if that still stands as it was seen
// and this is still the coordinator's term. The node is gone then, and learns it at its next renewal; what it may write
// until its deadline is waited for like that of any lost node (F19), so a revocation that comes late does no harm.
func (l *Lead) Expel(ctx context.Context, node changefeed.NodeID, uid changefeed.UID, seenRevision int64) error {
	keys := l.store.keys
	key, nodeKey := keys.Eviction(uid, node), keys.Node(node)
	result, err := l.store.kv.Txn(ctx, kv.Txn{
		If:   append(termCompares(l.term), kv.ModIs(key, seenRevision)),
		Then: []kv.Op{kv.Get(nodeKey)},
		Else: []kv.Op{kv.Get(l.term.Key)},
	})
	switch {
	case err != nil:
		return fmt.Errorf("epochstore: expel %s: %w", node, err)
	case !result.Succeeded && firstPair(result.Responses[0]).CreateRevision != l.term.Revision:
		return ErrTermOver
	case !result.Succeeded:
		return ErrConflict
	}
	lease := firstPair(result.Responses[0]).Lease
	if lease == 0 {
		return nil // it is gone already
	}
	if err := l.store.kv.Revoke(ctx, lease); err != nil {
		return fmt.Errorf("epochstore: revoke the lease of %s: %w", node, err)
	}
	return nil
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

// DeleteEviction deletes an eviction that was acknowledged, or whose node is gone.
func (s *Store) DeleteEviction(ctx context.Context, write EvictionWrite) error {
	owned, last := write.Ownership.Record, write.Last.Record
	if owned == nil || last == nil {
		return fmt.Errorf("%w: deletion of an eviction of %s that was not read", ErrRefused, write.ID)
	}
	epochKey, key := s.keys.Epoch(write.ID), s.keys.Eviction(owned.UID, write.Node)
	ifs := append(ownershipCompares(epochKey, write.Ownership), kv.ModIs(key, write.Last.ModRevision))
	reads := []kv.Op{kv.Get(epochKey), kv.Get(key)}
	if last.AcknowledgedAt == nil { // nobody must be left to acknowledge it
		node := s.keys.Node(write.Node)
		ifs, reads = append(ifs, kv.CreateIs(node, 0)), append(reads, kv.Get(node))
	}
	own := part{
		key:   key,
		ifs:   ifs,
		thens: []kv.Op{kv.Delete(key)},
		reads: reads,
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
	obeyed Seen[record.Eviction], finals []record.Final,
) error {
	if obeyed.Record == nil {
		return fmt.Errorf("%w: acknowledgement of an eviction that was not read", ErrRefused)
	}
	if obeyed.Record.AcknowledgedAt != nil {
		return nil
	}
	eviction, now := *obeyed.Record, s.now()
	eviction.AcknowledgedAt, eviction.Finals = &now, record.Bounded(finals)
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
