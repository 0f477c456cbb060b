package epochstore

import (
	"context"
	"errors"
	"fmt"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// ResetSpec puts a changefeed with another uid in the place of the one that was read, which nobody owns: its spec,
// status and evictions are gone in one step, and its epoch record and history stay, so that no epoch is handed out
// twice under the name. Created and Updated are set. The error has code spec.conflict if somebody else was faster.
func (s *Store) ResetSpec(ctx context.Context, read View, uid changefeed.UID, spec record.Spec) (Seen[record.Spec], error) {
	old := read.Spec.Record
	switch {
	case old == nil:
		return Seen[record.Spec]{}, fmt.Errorf("%w: reset of a spec that was not read", ErrRefused)
	case spec.ID() != read.ID || uid == old.UID || uid == "":
		return Seen[record.Spec]{}, fmt.Errorf("%w: reset of %s with another name, or without a new uid", ErrRefused, read.ID)
	case read.Epoch.Exists() && (read.Epoch.Record == nil || read.Epoch.Record.Owner != ""):
		return Seen[record.Spec]{}, fmt.Errorf("%w: reset of %s, which has an owner", ErrRefused, read.ID)
	}
	spec.UID, spec.Created = uid, s.now()
	spec.Updated = spec.Created
	exchange, err := resetExchange(s.keys, read, spec)
	if err != nil {
		return Seen[record.Spec]{}, err
	}
	outcome := s.driveOne(ctx, exchange)
	if errors.Is(outcome.Err, ErrConflict) {
		return Seen[record.Spec]{}, &changefeed.Fault{
			Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: read.ID.String(),
			Detail: "was changed by somebody else meanwhile", Cure: "read it again, and repeat the change", Err: outcome.Err,
		}
	}
	if outcome.Err != nil {
		return Seen[record.Spec]{}, fmt.Errorf("epochstore: reset %s: %w", read.ID, outcome.Err)
	}
	return putSeen(&spec, read.Spec.CreateRevision, outcome.ModRevision), nil
}

// resetExchange is the one transaction of a reset. It compares the epoch record too: whoever owned the former uid has
// let go, and nobody owns it again before the spec is another.
func resetExchange(keys record.Keys, read View, spec record.Spec) (*Exchange, error) {
	id := read.ID
	value, err := record.Encode(record.Ref{Kind: record.KindSpec, ID: id}, &spec)
	if err != nil {
		return nil, fmt.Errorf("epochstore: reset %s: %w", id, err)
	}
	specKey, epochKey := keys.Spec(id), keys.Epoch(id)
	own := part{
		key: specKey,
		ifs: []kv.Compare{
			kv.ModIs(specKey, read.Spec.ModRevision),
			kv.ModIs(epochKey, read.Epoch.ModRevision),
		},
		thens: []kv.Op{
			kv.Put(specKey, value), kv.Delete(keys.Status(id)), kv.Delete(keys.Handoff(id)),
			kv.DeletePrefix(keys.EvictionsOf(read.Spec.Record.UID)),
		},
		reads: []kv.Op{kv.Get(specKey), kv.Get(epochKey)},
	}
	return newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		stored, epoch := firstPair(reads[0]), firstPair(reads[1])
		switch {
		case string(stored.Value) == string(value): // its uid is new: nobody else wrote it
			return verdictDone, stored.ModRevision, nil
		case stored.ModRevision != read.Spec.ModRevision || epoch.ModRevision != read.Epoch.ModRevision:
			return verdictStale, 0, ErrConflict
		default:
			return verdictAgain, 0, nil
		}
	}), nil
}
