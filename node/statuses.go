package node

import (
	"context"
	"fmt"
	"sync"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

// statusesWaitingMax bounds the statuses that wait for the transaction in flight; a maintainer waits for its own.
const statusesWaitingMax = 1024

// statusBatchMax is how many statuses go out together: some transactions' worth.
const statusBatchMax = 480

// statuses stores the statuses of all maintainers of a node: those that come while a write is in flight go out
// together in the next.
type statuses struct {
	store   *epochstore.Store
	waiting chan statusRequest

	mu    sync.Mutex // guards known
	known map[changefeed.ID]epochstore.Seen[record.Status]
}

type statusRequest struct {
	write  epochstore.StatusWrite
	answer chan epochstore.StatusResult
}

func newStatuses(store *epochstore.Store) *statuses {
	return &statuses{store: store, waiting: make(chan statusRequest, statusesWaitingMax), known: make(map[changefeed.ID]epochstore.Seen[record.Status])}
}

// run stores what comes until ctx ends.
func (s *statuses) run(ctx context.Context) error {
	for {
		batch, ok := s.next(ctx)
		if !ok {
			return nil
		}
		writes := make([]epochstore.StatusWrite, len(batch))
		for i, request := range batch {
			writes[i] = request.write
		}
		for i, result := range s.store.WriteStatuses(ctx, writes) {
			batch[i].answer <- result
		}
	}
}

// next waits for one request and takes those that wait with it.
func (s *statuses) next(ctx context.Context) ([]statusRequest, bool) {
	var batch []statusRequest
	select {
	case <-ctx.Done():
		return nil, false
	case request := <-s.waiting:
		batch = append(batch, request)
	}
	for len(batch) < statusBatchMax {
		select {
		case request := <-s.waiting:
			batch = append(batch, request)
		default:
			return batch, true
		}
	}
	return batch, true
}

// WriteStatus stores one status, in one transaction with others. previous is the mod revision of the status that it
// replaces, which is known here because it was read or written here.
func (s *statuses) WriteStatus(ctx context.Context, own maintainer.Ownership, previous int64, status record.Status) (int64, error) {
	last, err := s.last(ctx, own.ID, previous)
	if err != nil {
		return 0, err
	}
	ownership := own.Record
	request := statusRequest{answer: make(chan epochstore.StatusResult, 1), write: epochstore.StatusWrite{
		ID: own.ID, Last: last, Status: status,
		Ownership: epochstore.Seen[record.Epoch]{Record: &ownership, ModRevision: own.Revision},
	}}
	select {
	case s.waiting <- request:
	case <-ctx.Done():
		return 0, fmt.Errorf("node: status of %s was not sent: %w", own.ID, fence.ErrUnknown)
	}
	select {
	case result := <-request.answer:
		s.remember(own.ID, result.Status)
		return result.Status.ModRevision, result.Err
	case <-ctx.Done():
		return 0, fmt.Errorf("node: status of %s: %w: %w", own.ID, fence.ErrUnknown, context.Cause(ctx))
	}
}

// last returns the status that is replaced, so that the store can see that no checkpoint goes back.
func (s *statuses) last(ctx context.Context, id changefeed.ID, previous int64) (epochstore.Seen[record.Status], error) {
	if previous == 0 {
		return epochstore.Seen[record.Status]{}, nil
	}
	s.mu.Lock()
	known, found := s.known[id]
	s.mu.Unlock()
	if found && known.ModRevision == previous {
		return known, nil
	}
	_, stored, err := s.store.Status(ctx, id)
	if err != nil {
		return stored, err
	}
	s.remember(id, stored)
	if stored.ModRevision != previous {
		return stored, fmt.Errorf("node: status of %s: %w", id, epochstore.ErrConflict)
	}
	return stored, nil
}

func (s *statuses) remember(id changefeed.ID, stored epochstore.Seen[record.Status]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored.Exists() {
		s.known[id] = stored
	} else {
		delete(s.known, id)
	}
}

// forget drops what is known of a changefeed that this node does not own.
func (s *statuses) forget(id changefeed.ID) { s.remember(id, epochstore.Seen[record.Status]{}) }
