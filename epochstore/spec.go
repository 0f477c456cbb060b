package epochstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// CreateSpec stores a new changefeed under a name that is free, with a new uid; Created and Updated are set.
func (s *Store) CreateSpec(ctx context.Context, spec record.Spec) (Seen[record.Spec], error) {
	return s.CreateSpecAs(ctx, changefeed.UID(uuid.NewString()), spec)
}

// CreateSpecAs is CreateSpec with a uid that the caller drew, which nobody has used before.
func (s *Store) CreateSpecAs(ctx context.Context, uid changefeed.UID, spec record.Spec) (Seen[record.Spec], error) {
	if err := spec.ID().Validate(); err != nil {
		return Seen[record.Spec]{}, err
	}
	spec.UID = uid
	spec.Created = s.now()
	spec.Updated = spec.Created
	seen, err := s.putSpec(ctx, spec, Seen[record.Spec]{})
	if errors.Is(err, ErrConflict) {
		return seen, &changefeed.Fault{
			Code: changefeed.CodeExists, Field: "changefeed", Value: spec.ID().String(), Detail: "exists",
			Cure: "choose another name, or update or remove the one that exists", Err: err,
		}
	}
	return seen, err
}

// UpdateSpec stores a spec over the one that the caller read. The error has code spec.conflict if somebody else changed
// it meanwhile, and changefeed.not_found if it is gone. What is fixed for a uid must be as it was.
func (s *Store) UpdateSpec(ctx context.Context, read Seen[record.Spec], spec record.Spec) (Seen[record.Spec], error) {
	old := read.Record
	if old == nil || !read.Exists() {
		return Seen[record.Spec]{}, fmt.Errorf("%w: update of a spec that was not read", ErrRefused)
	}
	if spec.ID() != old.ID() || spec.UID != old.UID {
		return Seen[record.Spec]{}, fmt.Errorf("%w: update of %s with the name or uid of another", ErrRefused, old.ID())
	}
	spec.Created, spec.Updated = old.Created, s.now()
	seen, err := s.putSpec(ctx, spec, read)
	if !errors.Is(err, ErrConflict) {
		return seen, err
	}
	current, readErr := s.Spec(ctx, spec.ID())
	if readErr == nil && (!current.Exists() || current.CreateRevision != read.CreateRevision) {
		return seen, notFound(spec.ID())
	}
	return seen, &changefeed.Fault{
		Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: spec.ID().String(),
		Detail: "was changed by somebody else meanwhile", Cure: "read it again, and repeat the change", Err: err,
	}
}

func (s *Store) putSpec(ctx context.Context, spec record.Spec, read Seen[record.Spec]) (Seen[record.Spec], error) {
	id := spec.ID()
	value, err := record.Encode(record.Ref{Kind: record.KindSpec, ID: id}, &spec)
	if err != nil {
		return Seen[record.Spec]{}, fmt.Errorf("epochstore: store %s: %w", id, err)
	}
	exchange := createExchange(s.keys.Spec(id), value)
	if read.Exists() {
		exchange = putExchange(s.keys.Spec(id), value, read.ModRevision, nil)
	}
	outcome := s.driveOne(ctx, exchange)
	if errors.Is(outcome.Err, ErrConflict) {
		s.count(by(refusedRevision, outcome.Err))
	}
	if outcome.Err != nil {
		return Seen[record.Spec]{}, fmt.Errorf("epochstore: store %s: %w", id, outcome.Err)
	}
	return putSeen(&spec, read.CreateRevision, outcome.ModRevision), nil
}

// Spec reads what users want of a changefeed; the zero value if there is none.
func (s *Store) Spec(ctx context.Context, id changefeed.ID) (Seen[record.Spec], error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.keys.Spec(id))}})
	if err != nil {
		return Seen[record.Spec]{}, fmt.Errorf("epochstore: read %s: %w", id, err)
	}
	return seenOne[record.Spec](s.keys, result.Responses[0]), nil
}

// SetDesired stores what users want of a changefeed. What is wanted already changes nothing. Nothing brings back what
// is being removed.
func (s *Store) SetDesired(ctx context.Context, id changefeed.ID, desired changefeed.Desired) (Seen[record.Spec], error) {
	return s.modify(ctx, id, func(spec *record.Spec) (bool, error) {
		if spec.Desired == desired {
			return false, nil
		}
		if spec.Desired == changefeed.DesiredRemoved {
			return false, &changefeed.Fault{
				Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: id.String(), Detail: "is being removed",
				Cure: "wait until it is gone, and create it anew",
			}
		}
		spec.Desired = desired
		return true, nil
	})
}

// SetMove asks for a move of the maintainer to a node.
func (s *Store) SetMove(ctx context.Context, id changefeed.ID, to changefeed.NodeID) (Seen[record.Spec], error) {
	request := uuid.NewString()
	return s.modify(ctx, id, func(spec *record.Spec) (bool, error) {
		spec.Move = &record.Move{To: to, ID: request}
		return true, nil
	})
}

// modify reads, changes and stores a spec until nobody else was faster.
func (s *Store) modify(ctx context.Context, id changefeed.ID, change func(*record.Spec) (bool, error)) (
	Seen[record.Spec], error,
) {
	for range attemptsMax {
		read, err := s.Spec(ctx, id)
		switch {
		case err != nil:
			return read, err
		case !read.Exists():
			return read, notFound(id)
		case read.Err != nil:
			return read, read.Err
		}
		changed := *read.Record
		todo, err := change(&changed)
		if err != nil || !todo {
			return read, err
		}
		changed.Updated = s.now()
		stored, err := s.putSpec(ctx, changed, read)
		if !errors.Is(err, ErrConflict) {
			return stored, err
		}
	}
	return Seen[record.Spec]{}, fmt.Errorf("epochstore: change %s: %w", id, ErrConflict)
}

// ForceRemove deletes all records of a changefeed whoever owns it, on behalf of a person, on any node. The owner learns
// of it by its watch; until then it may still write to a sink that cannot compare tokens.
func (s *Store) ForceRemove(ctx context.Context, id changefeed.ID) error {
	for range attemptsMax {
		view, err := s.Changefeed(ctx, id)
		if err != nil {
			return err
		}
		if outlives(view.Epoch) {
			if err := s.RaiseFloor(ctx, view.Epoch.Record.Epoch); err != nil {
				return err
			}
		}
		exchange, err := removeExchange(s.keys, nil,
			Removal{ID: id, Spec: view.Spec, Epoch: view.Epoch, Status: view.Status}, s.now())
		if err != nil {
			return err
		}
		outcome := s.driveOne(ctx, exchange)
		if outcome.Err == nil {
			return nil
		}
		if !errors.Is(outcome.Err, ErrConflict) {
			return fmt.Errorf("epochstore: force removal of %s: %w", id, outcome.Err)
		}
	}
	return fmt.Errorf("epochstore: force removal of %s: %w", id, ErrConflict)
}
