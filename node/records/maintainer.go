package records

import (
	"context"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/record"
)

// Maintaining reads records for the maintainers and the dispatcher host of a node.
type Maintaining struct{ Store *epochstore.Store }

// ReadSpec reads the spec of a changefeed; revision 0 says that there is none, linearizably.
func (m Maintaining) ReadSpec(ctx context.Context, id changefeed.ID) (maintainer.StoredSpec, error) {
	view, err := m.Store.Changefeed(ctx, id)
	if err == nil {
		err = view.Spec.Err
	}
	if err != nil || !view.Spec.Exists() {
		return maintainer.StoredSpec{}, err
	}
	return maintainer.StoredSpec{Spec: *view.Spec.Record, Revision: view.Spec.ModRevision}, nil
}

// ReadStatus reads the status of a changefeed; revision 0 says that there is none, linearizably.
func (m Maintaining) ReadStatus(ctx context.Context, id changefeed.ID) (maintainer.StoredStatus, error) {
	_, status, err := m.Store.Status(ctx, id)
	if err == nil {
		err = status.Err
	}
	if err != nil || !status.Exists() {
		return maintainer.StoredStatus{}, err
	}
	return maintainer.StoredStatus{Status: *status.Record, Revision: status.ModRevision}, nil
}

// ReadEpoch reads who owns a changefeed; revision 0 says that there is no record, linearizably.
func (m Maintaining) ReadEpoch(ctx context.Context, id changefeed.ID) (maintainer.Ownership, error) {
	epoch, _, err := m.Store.Epoch(ctx, id)
	if err == nil {
		err = epoch.Err
	}
	if err != nil || !epoch.Exists() {
		return maintainer.Ownership{}, err
	}
	return maintainer.Ownership{ID: id, Record: *epoch.Record, Revision: epoch.ModRevision}, nil
}

// ListNodes lists the nodes whose leases live, linearizably.
func (m Maintaining) ListNodes(ctx context.Context) (maintainer.Nodes, error) {
	nodes, revision, err := m.Store.Nodes(ctx)
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
func (m Maintaining) Epoch(ctx context.Context, id changefeed.ID) (record.Epoch, bool, error) {
	own, err := m.ReadEpoch(ctx, id)
	return own.Record, own.Revision != 0, err
}

// Ownership returns a watched epoch record with what pins it; false if it was deleted or does not parse. One that does
// not parse owns nothing: who ran under the one before keeps to that until the record is mended or bumped over.
func Ownership(change epochstore.Change) (maintainer.Ownership, bool) {
	epoch, ok := change.Record.(*record.Epoch)
	if !ok || change.Deleted {
		return maintainer.Ownership{}, false
	}
	return maintainer.Ownership{ID: change.Ref.ID, Record: *epoch, Revision: change.ModRevision}, true
}
