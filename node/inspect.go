package node

import (
	"context"

	"fencerow/api"
	"fencerow/record"
	"fencerow/sink"
)

// Dump reads all records.
func (b backend) Dump(ctx context.Context) ([]api.RawRecord, error) {
	stored, _, err := b.store.Dump(ctx)
	if err != nil {
		return nil, b.shown(err)
	}
	out := make([]api.RawRecord, len(stored))
	for i, one := range stored {
		out[i] = api.RawRecord{Key: one.Key, Value: one.Value, Revision: one.ModRevision}
	}
	return out, nil
}

// Holding reads what the sink of a spec keeps, over a connection of its own.
func (b backend) Holding(ctx context.Context, spec record.Spec) (held api.Holding, err error) {
	opened, _, err := b.opener.open(spec)
	if err != nil {
		return api.Holding{}, err
	}
	defer func() { _ = opened.Close() }()
	inspector, ok := opened.(sink.Inspector)
	if !ok {
		return api.Holding{}, nil
	}
	kept, err := inspector.Inspect(ctx)
	if err != nil {
		return api.Holding{}, err
	}
	held = holdingOf(kept)
	if logged, ok := opened.(interface {
		Log(ctx context.Context) (sink.Kept, error)
	}); ok {
		kept, err := logged.Log(ctx)
		held.Redo = &api.RedoHolding{Holding: holdingOf(kept), Err: err}
	}
	if mark, whole := kept.Mark(); whole && kept.Live {
		held.Mark, held.Marked = mark, true
	}
	for _, other := range kept.Others {
		if other.Identity.Cluster == b.clusterID {
			held.Others = append(held.Others, api.Neighbour{Owner: ownerOf(other.Identity), Floor: other.Floor})
		}
	}
	return held, nil
}

func holdingOf(kept sink.Kept) api.Holding {
	return api.Holding{
		Kept: true, Exists: kept.Head.Exists(), Owner: ownerOf(kept.Head.Identity), Floor: kept.Head.Floor, Highest: kept.Highest(),
		Removed: kept.Head.Removed,
	}
}

func ownerOf(identity sink.Identity) api.Owner {
	return api.Owner{ID: identity.Changefeed, UID: identity.UID}
}
