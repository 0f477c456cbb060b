package node

import (
	"context"
	"time"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/record"
)

// maintaining reads records for the maintainers of a node.
type maintaining struct{ store *epochstore.Store }

func (m maintaining) ReadSpec(ctx context.Context, id changefeed.ID) (maintainer.StoredSpec, error) {
	view, err := m.store.Changefeed(ctx, id)
	if err == nil {
		err = view.Spec.Err
	}
	if err != nil || !view.Spec.Exists() {
		return maintainer.StoredSpec{}, err
	}
	return maintainer.StoredSpec{Spec: *view.Spec.Record, Revision: view.Spec.ModRevision}, nil
}

func (m maintaining) ReadStatus(ctx context.Context, id changefeed.ID) (maintainer.StoredStatus, error) {
	_, status, err := m.store.Status(ctx, id)
	if err == nil {
		err = status.Err
	}
	if err != nil || !status.Exists() {
		return maintainer.StoredStatus{}, err
	}
	return maintainer.StoredStatus{Status: *status.Record, Revision: status.ModRevision}, nil
}

func (m maintaining) ReadEpoch(ctx context.Context, id changefeed.ID) (maintainer.Ownership, error) {
	epoch, _, err := m.store.Epoch(ctx, id)
	if err == nil {
		err = epoch.Err
	}
	if err != nil || !epoch.Exists() {
		return maintainer.Ownership{}, err
	}
	return maintainer.Ownership{ID: id, Record: *epoch.Record, Revision: epoch.ModRevision}, nil
}

func (m maintaining) ListNodes(ctx context.Context) (maintainer.Nodes, error) {
	nodes, revision, err := m.store.Nodes(ctx)
	if err != nil {
		return maintainer.Nodes{}, err
	}
	out := maintainer.Nodes{Revision: revision}
	for _, node := range nodes {
		if node.Record != nil { // one that does not parse is nobody's to place on
			out.Nodes = append(out.Nodes, *node.Record)
		}
	}
	return out, nil
}

// Epoch reads an epoch record for a dispatcher host.
func (m maintaining) Epoch(ctx context.Context, id changefeed.ID) (record.Epoch, bool, error) {
	own, err := m.ReadEpoch(ctx, id)
	return own.Record, own.Revision != 0, err
}

// bounded is a session as maintainers ask it.
type bounded struct{ *epochstore.Session }

// Bound returns a context that ends no later than the session's deadline as it stands now.
func (b bounded) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, release := b.Context(ctx)
	limited, cancel := context.WithTimeout(ctx, max(b.Remaining(), time.Nanosecond))
	return limited, func() {
		cancel()
		release()
	}
}

// ownership returns a watched epoch record with what pins it; false if it was deleted or does not parse. One that does
// not parse owns nothing: who ran under the one before keeps to that until the record is mended or bumped over.
func ownership(change epochstore.Change) (maintainer.Ownership, bool) {
	epoch, ok := change.Record.(*record.Epoch)
	if !ok || change.Deleted {
		return maintainer.Ownership{}, false
	}
	return maintainer.Ownership{ID: change.Ref.ID, Record: *epoch, Revision: change.ModRevision}, true
}
