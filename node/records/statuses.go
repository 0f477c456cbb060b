package records

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

// statusesWaitingMax bounds the statuses that wait for the transaction in flight; a maintainer waits for its own.
const statusesWaitingMax = 1024

// statusBatchMax is how many statuses go out together: some transactions' worth.
const statusBatchMax = 8 * epochstore.StatusesPerTxnMax

// Statuses stores the statuses of all maintainers of a node, many in a transaction: those that only bring newer positions
// wait for one another for a moment, and all that come while a write is in flight go out together in the next.
type Statuses struct {
	store   *epochstore.Store
	nodes   func() int // how many there are in the cluster
	waiting chan statusRequest
	start   time.Time

	mu    sync.Mutex // guards known
	known map[changefeed.ID]epochstore.Seen[record.Status]
}

var _ maintainer.StatusWriter = (*Statuses)(nil)

type statusRequest struct {
	write   epochstore.StatusWrite
	urgency Urgency
	answer  chan epochstore.StatusResult
}

// NewStatuses returns what stores statuses while it is run.
func NewStatuses(store *epochstore.Store, nodes func() int) *Statuses {
	return &Statuses{
		store: store, nodes: nodes, waiting: make(chan statusRequest, statusesWaitingMax), start: time.Now(),
		known: make(map[changefeed.ID]epochstore.Seen[record.Status]),
	}
}

// Run stores what comes until ctx ends.
func (s *Statuses) Run(ctx context.Context) error {
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

// next waits until some are to be sent.
func (s *Statuses) next(ctx context.Context) ([]statusRequest, bool) {
	var batch []statusRequest
	gather := Gather{Full: epochstore.StatusesPerTxnMax}
	window := Window(s.nodes())
	timer := time.NewTimer(window)
	defer timer.Stop()
	take := func(request statusRequest) {
		if len(batch) == 0 {
			timer.Reset(window)
		}
		batch = append(batch, request)
		gather.Add(s.now(), window, request.urgency)
	}
	for !gather.Ready(s.now()) {
		select {
		case <-ctx.Done():
			return nil, false
		case request := <-s.waiting:
			take(request)
		case <-timer.C:
		}
	}
	for len(batch) < statusBatchMax {
		if whole := len(batch)%epochstore.StatusesPerTxnMax == 0; whole && len(s.waiting) < epochstore.StatusesPerTxnMax {
			return batch, true // what would be a small transaction more waits for others
		}
		select {
		case request := <-s.waiting:
			take(request)
		default:
			return batch, true
		}
	}
	return batch, true
}

func (s *Statuses) now() time.Duration { return time.Since(s.start) }

// urgencyOf says whether a status tells more than newer positions.
func urgencyOf(last, next *record.Status) Urgency {
	same := last != nil && last.Epoch.Compare(next.Epoch) == 0 && last.State == next.State && last.Spans == next.Spans &&
		(last.Error == nil) == (next.Error == nil) && (last.StartPosition == nil) == (next.StartPosition == nil)
	if same {
		return CanWait
	}
	return Urgent
}

// WriteStatus stores one status, in one transaction with others. previous is the mod revision of the status that it
// replaces, which is known here because it was read or written here.
func (s *Statuses) WriteStatus(ctx context.Context, own maintainer.Ownership, previous int64, status record.Status) (int64, error) {
	last, err := s.last(ctx, own.ID, previous)
	if err != nil {
		return 0, err
	}
	ownership := own.Record
	request := statusRequest{urgency: urgencyOf(last.Record, &status), answer: make(chan epochstore.StatusResult, 1), write: epochstore.StatusWrite{
		ID: own.ID, Last: last, Status: status,
		Ownership: epochstore.Seen[record.Epoch]{Record: &ownership, ModRevision: own.Revision},
	}}
	select {
	case s.waiting <- request:
	case <-ctx.Done():
		return 0, fmt.Errorf("records: status of %s was not sent: %w", own.ID, fence.ErrUnknown)
	}
	select {
	case result := <-request.answer:
		s.remember(own.ID, result.Status)
		return result.Status.ModRevision, result.Err
	case <-ctx.Done():
		return 0, fmt.Errorf("records: status of %s: %w: %w", own.ID, fence.ErrUnknown, context.Cause(ctx))
	}
}

// last returns the status that is replaced, so that the store can see that no checkpoint goes back.
func (s *Statuses) last(ctx context.Context, id changefeed.ID, previous int64) (epochstore.Seen[record.Status], error) {
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
		return stored, fmt.Errorf("records: status of %s: %w", id, epochstore.ErrConflict)
	}
	return stored, nil
}

func (s *Statuses) remember(id changefeed.ID, stored epochstore.Seen[record.Status]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored.Exists() {
		s.known[id] = stored
	} else {
		delete(s.known, id)
	}
}

// Forget drops what is known of a changefeed that this node does not own.
func (s *Statuses) Forget(id changefeed.ID) { s.remember(id, epochstore.Seen[record.Status]{}) }
