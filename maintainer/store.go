package maintainer

import (
	"context"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
)

// Records reads records, each linearizably. A record that is not there has revision 0 and no error. Errors may be
// tried again; a record that does not parse is a permanent [*changefeed.Fault] with code record.invalid.
type Records interface {
	ReadSpec(ctx context.Context, id changefeed.ID) (StoredSpec, error)
	ReadStatus(ctx context.Context, id changefeed.ID) (StoredStatus, error)
	ReadEpoch(ctx context.Context, id changefeed.ID) (Ownership, error)
	ListNodes(ctx context.Context) (Nodes, error)
}

// StatusWriter stores statuses. It is called by many maintainers at once, so that an implementation can put statuses of
// many changefeeds in one transaction.
type StatusWriter interface {
	// WriteStatus stores the status if own is still the changefeed's ownership, and if previous is the mod revision of
	// the status that it replaces (0: there is none). It returns the new mod revision.
	//
	// nil: committed. ErrStale: not committed, the ownership or the status is another one. ErrUnknown: read it back.
	// Anything else: not committed, may be tried again.
	WriteStatus(ctx context.Context, own Ownership, previous int64, status record.Status) (int64, error)
}

// EvictionWriter writes the records that stop what runs on nodes that can't be reached. Each may be done again after any
// error; ErrStale says that the ownership is another one, or that there is nothing to be done yet.
type EvictionWriter interface {
	// Evict voids every token of the changefeed up to the given one on a node.
	Evict(ctx context.Context, own Ownership, node changefeed.NodeID, token fence.Token) error
	// DropEviction deletes an eviction that was acknowledged, or whose node is gone.
	DropEviction(ctx context.Context, own Ownership, node changefeed.NodeID) error
}

// Sender sends a message towards env.To, which may be this node. It does not block and may lose the message.
type Sender interface {
	Send(env message.Envelope)
}

// Opener makes the sink and the source of a spec. It does no I/O; faults of the spec are returned.
type Opener interface {
	OpenSink(spec record.Spec) (sink.Sink, Fencing, error)
	// OpenSource makes the source under an ownership, which a serial source shows to other readers of its log.
	OpenSource(spec record.Spec, own Ownership) (source.Source, error)
}

// Logs reads the logs of serial sources for the dispatchers of all nodes.
type Logs interface {
	// Log returns what reads the source's log under an ownership, whose changefeed's stored checkpoint and source these are.
	Log(own Ownership, from source.Serial, sourceID string, stored change.Position) Log
}

// Log is the reader of one log.
type Log interface {
	// Run reads and serves until ctx ends.
	Run(ctx context.Context) error
	// Acknowledge takes in a checkpoint that is stored. It does not wait.
	Acknowledge(stored change.Position)
}

// Session is the node's right to act, as long as its lease is sure to live.
type Session interface {
	// Alive says whether the node may act at this moment.
	Alive() bool
	// Bound returns a context that ends no later than the session's deadline.
	Bound(ctx context.Context) (context.Context, context.CancelFunc)
}
