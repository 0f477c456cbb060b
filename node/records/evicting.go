package records

import (
	"context"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

// Evicting writes evictions for the maintainers of a node.
type Evicting struct{ Store *epochstore.Store }

var _ maintainer.EvictionWriter = Evicting{}

// Evict voids every token up to this one on a node.
func (e Evicting) Evict(ctx context.Context, own maintainer.Ownership, node changefeed.NodeID, token fence.Token) error {
	write := evictionOf(own, node)
	write.Token = token
	return e.Store.Evict(ctx, write)
}

// DropEviction deletes an eviction that was acknowledged, or whose node is gone.
func (e Evicting) DropEviction(ctx context.Context, own maintainer.Ownership, node changefeed.NodeID) error {
	return e.Store.DropEviction(ctx, evictionOf(own, node))
}

func evictionOf(own maintainer.Ownership, node changefeed.NodeID) epochstore.EvictionWrite {
	return epochstore.EvictionWrite{
		ID: own.ID, Node: node, Ownership: epochstore.Seen[record.Epoch]{Record: &own.Record, ModRevision: own.Revision},
	}
}
