package records

import (
	"context"
	"errors"
	"fmt"

	"fencerow/changefeed"
	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/fence"
)

// Leading does the coordinator's writes under one term.
type Leading struct {
	lead  *epochstore.Lead
	store *epochstore.Store
}

var _ coordinator.Store = Leading{}

// NewLeading returns what writes under a term.
func NewLeading(lead *epochstore.Lead, store *epochstore.Store) Leading {
	return Leading{lead: lead, store: store}
}

// Bump sends decisions together, and answers each.
func (l Leading) Bump(ctx context.Context, decisions []coordinator.Decision) []coordinator.Outcome {
	bumps := make([]epochstore.Bump, len(decisions))
	for i, d := range decisions {
		bumps[i] = epochstore.Bump{
			ID: d.ID, Previous: seen(d.Previous, d.PreviousRevision), Spec: seen(d.Spec, d.SpecRevision),
			SeenRevision: d.SeenRevision, Owner: d.Owner, OwnerName: d.OwnerName, Reason: d.Reason,
			Status: seen(d.Status, d.StatusRevision), Planned: d.Planned, Unanswered: d.Unanswered, Nonce: d.Nonce,
		}
	}
	outcomes := make([]coordinator.Outcome, len(decisions))
	for i, result := range l.lead.Bump(ctx, bumps) {
		outcomes[i] = coordinator.Outcome{Err: termError(result.Err), Revision: result.Epoch.ModRevision}
		if result.Epoch.Record != nil {
			outcomes[i].Record = *result.Epoch.Record
		}
	}
	return outcomes
}

// RequestHandoffs asks owners to release.
func (l Leading) RequestHandoffs(ctx context.Context, handoffs []coordinator.Handoff) []error {
	requests := make([]epochstore.Handoff, len(handoffs))
	for i, h := range handoffs {
		requests[i] = epochstore.Handoff{
			ID: h.ID, Epoch: seen(h.Record, h.EpochRevision), To: h.To, ToName: h.ToName, Reason: h.Reason,
		}
	}
	errs := l.lead.RequestHandoffs(ctx, requests)
	for i, err := range errs {
		errs[i] = termError(err)
	}
	return errs
}

// Remove deletes what there is of a changefeed, if it is still what the removal was decided on.
func (l Leading) Remove(ctx context.Context, r coordinator.Removal) error {
	view, err := l.store.Changefeed(ctx, r.ID)
	if changefeed.AsFault(err, "").Code == changefeed.CodeNotFound {
		return nil // an earlier try did it, and its answer was lost
	}
	if err != nil {
		return err
	}
	// The decision was made on these very records, or it is made afresh.
	if view.Spec.ModRevision != r.SpecRevision || view.Epoch.ModRevision != r.EpochRevision {
		return fmt.Errorf("records: remove %s: %w", r.ID, epochstore.ErrConflict)
	}
	return termError(l.lead.Remove(ctx, epochstore.Removal{
		ID: r.ID, Spec: view.Spec, Epoch: view.Epoch, Status: view.Status,
	}))
}

// Expel revokes the lease of a node that did not acknowledge an eviction.
func (l Leading) Expel(ctx context.Context, e coordinator.Expulsion) error {
	return termError(l.lead.Expel(ctx, e.Node, e.UID, e.Revision))
}

// TrimHistory deletes old ownerships.
func (l Leading) TrimHistory(ctx context.Context, id changefeed.ID) error {
	return termError(l.lead.TrimHistory(ctx, id))
}

// RaiseLevel raises the feature level.
func (l Leading) RaiseLevel(ctx context.Context, level int) error {
	return termError(l.lead.RaiseLevel(ctx, level))
}

// Probe writes nothing, under the term.
func (l Leading) Probe(ctx context.Context) error { return termError(l.lead.Probe(ctx)) }

// termError says deposed where the store says that the term is over.
func termError(err error) error {
	if errors.Is(err, epochstore.ErrTermOver) || errors.Is(err, epochstore.ErrSessionOver) {
		return fmt.Errorf("%w: %w", fence.ErrDeposed, err)
	}
	return err
}

// seen is a record with the revision that pins it; none for revision 0.
func seen[T any](value *T, revision int64) epochstore.Seen[T] {
	if revision == 0 {
		return epochstore.Seen[T]{}
	}
	return epochstore.Seen[T]{Record: value, ModRevision: revision, CreateRevision: revision}
}
