package node

import (
	"context"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/node/records"
	"fencerow/peer"
	"fencerow/record"
	"fencerow/source"
	postgressource "fencerow/source/postgres"
	"fencerow/source/serial"
)

// logs is what one life has of the logs of serial sources: those of the changefeeds that it owns are read here.
type logs struct{ *serial.Node }

// Log makes the reader of a log, as a maintainer declares it.
func (l logs) Log(own maintainer.Ownership, from source.Serial, sourceID string, stored change.Position) maintainer.Log {
	return l.NewHub(serial.HubConfig{
		Changefeed: own.ID, UID: own.Record.UID, Epoch: own.Record.Epoch, Source: from, Stored: stored, Identity: sourceID,
	})
}

// overPeers opens what subscriptions on other nodes travel on.
type overPeers struct{ life *life }

// Dial opens a stream to a node.
func (o overPeers) Dial(ctx context.Context, node changefeed.NodeID) (serial.Pipe, error) {
	stream, err := o.life.peers.OpenData(ctx, node)
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// serveData serves a subscription of another node.
func (l *life) serveData(ctx context.Context, _ changefeed.NodeID, stream *peer.Data) error {
	return l.logs.Serve(ctx, stream)
}

func ownerOfLog(watched record.Epoch) serial.Owner {
	return serial.Owner{UID: watched.UID, Epoch: watched.Epoch, Node: watched.Owner}
}

// OpenSource makes the source of a spec. One with a log of its own is read where the changefeed's owner is.
func (o dispatcherOpener) OpenSource(spec record.Spec) (source.Source, error) {
	opened, err := o.openSource(spec, maintainer.Ownership{})
	if err != nil {
		return nil, err
	}
	from, ok := opened.(source.Serial)
	if !ok {
		return opened, nil
	}
	feed := serial.Feed{Changefeed: spec.ID(), UID: spec.UID}
	if postgressource.Resnapshots(spec.Options) {
		feed.OnGap = serial.GapResnapshots
	}
	return o.logs.NewSource(from, feed), nil
}

// OpenSource makes the source of a spec, as its owner reads it.
func (o maintainerOpener) OpenSource(spec record.Spec, own maintainer.Ownership) (source.Source, error) {
	return o.openSource(spec, own)
}

// serialSource says which source with a log of its own is to be made.
type serialSource struct {
	uri  endpoint.URI
	spec record.Spec
	own  maintainer.Ownership
	// confirm returns nil if the ownership still stands; nil where nothing is owned, and so only snapshots are read.
	confirm func(context.Context) error
}

func (o *opener) serialSource(uri endpoint.URI, spec record.Spec, own maintainer.Ownership) serialSource {
	out := serialSource{uri: uri, spec: spec, own: own}
	if own.Record.Epoch != 0 {
		out.confirm = o.confirm(own)
	}
	return out
}

// confirm returns nil if the record, read now, still is the ownership.
func (o *opener) confirm(own maintainer.Ownership) func(context.Context) error {
	return func(ctx context.Context) error {
		now, err := records.Maintaining{Store: o.store}.ReadEpoch(ctx, own.ID)
		if err != nil {
			return fmt.Errorf("node: read the ownership: %w", err)
		}
		if now.Revision != own.Revision {
			return fmt.Errorf("node: %v is not owned any more at epoch %d: %w", own.ID, own.Record.Epoch, fence.ErrStale)
		}
		return nil
	}
}
