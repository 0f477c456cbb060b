package epochstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// EnsureMeta reads the cluster's record, and creates it in a cluster that has none.
func (s *Store) EnsureMeta(ctx context.Context) (Seen[record.Meta], error) {
	meta, err := s.Meta(ctx)
	if err != nil || meta.Exists() {
		return meta, err
	}
	created := record.Meta{
		Format: record.FormatCurrent, Level: record.LevelCurrent, ClusterID: uuid.NewString(), Created: s.now(),
	}
	value, err := record.Encode(record.Ref{Kind: record.KindMeta}, &created)
	if err != nil {
		return meta, fmt.Errorf("epochstore: create meta: %w", err)
	}
	outcome := s.driveOne(ctx, putExchange(s.keys.Meta(), value, 0, nil))
	if outcome.Err != nil && !errors.Is(outcome.Err, ErrConflict) {
		return meta, fmt.Errorf("epochstore: create meta: %w", outcome.Err)
	}
	return s.Meta(ctx) // ours, or that of a node that was faster
}

// Meta reads the cluster's record; the zero value if there is none. One that does not parse is an error: without it
// nothing can be decided.
func (s *Store) Meta(ctx context.Context) (Seen[record.Meta], error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.keys.Meta())}})
	if err != nil {
		return Seen[record.Meta]{}, fmt.Errorf("epochstore: read meta: %w", err)
	}
	meta := seenOne[record.Meta](s.keys, result.Responses[0])
	return meta, meta.Err
}

// RaiseFloor makes all epochs from now on lie above the given one, on behalf of a person, on any node. Who raises a
// floor need not be the coordinator: it takes nothing from anybody.
func (s *Store) RaiseFloor(ctx context.Context, above fence.Epoch) error {
	for range attemptsMax {
		_, err := s.changeMeta(ctx, nil, func(meta *record.Meta) bool { return raiseFloor(meta, above) })
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("epochstore: raise the floor: %w", ErrConflict)
}

// changeMeta writes what change makes of the meta record, unless it reports that nothing is to be done. It compares also
// what it is given.
func (s *Store) changeMeta(
	ctx context.Context, term *Term, change func(*record.Meta) bool, also ...kv.Compare,
) (Seen[record.Meta], error) {
	meta, err := s.Meta(ctx)
	if err != nil {
		return meta, err
	}
	if !meta.Exists() {
		return meta, fmt.Errorf("%w: the cluster has no meta record", ErrRefused)
	}
	changed := *meta.Record
	if !change(&changed) {
		return meta, nil
	}
	value, err := record.Encode(record.Ref{Kind: record.KindMeta}, &changed)
	if err != nil {
		return meta, fmt.Errorf("epochstore: change meta: %w", err)
	}
	outcome := s.driveOne(ctx, putExchange(s.keys.Meta(), value, meta.ModRevision, term, also...))
	if outcome.Err != nil {
		return meta, fmt.Errorf("epochstore: change meta: %w", outcome.Err)
	}
	return putSeen(&changed, meta.CreateRevision, outcome.ModRevision), nil
}

// outlives reports whether an epoch lies above the revision that its record was written at, as one made with the floor
// may. Once its record is deleted nothing else would keep it from being handed out again, so the floor must be above it
// first. Crash in between: the floor is higher than it need be.
func outlives(epoch Seen[record.Epoch]) bool {
	return epoch.Record != nil && fence.Epoch(epoch.ModRevision).OlderThan(epoch.Record.Epoch)
}
