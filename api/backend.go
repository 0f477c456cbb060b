package api

import (
	"context"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/record"
)

// Stored is a record as it was read. A zero Revision says that there is none.
type Stored[T any] struct {
	Value          *T // nil if there is none, or it doesn't parse
	Revision       int64
	CreateRevision int64
	Fault          string // why it doesn't parse
}

// View is the records of one changefeed, read at one moment.
type View struct {
	ID     changefeed.ID
	Spec   Stored[record.Spec]
	Epoch  Stored[record.Epoch]
	Status Stored[record.Status]
}

// Records reads and writes records. Errors that people are shown are [*changefeed.Fault]; [fence.ErrStale] is a write
// that somebody else's overtook.
type Records interface {
	// Changefeed reads linearizably. A name without a spec is the fault changefeed.not_found.
	Changefeed(ctx context.Context, id changefeed.ID) (View, error)
	// List reads up to limit changefeeds after the given one, in order; more says that there are others. An empty
	// namespace is all of them.
	List(ctx context.Context, namespace string, after changefeed.ID, limit int) (items []View, more bool, err error)
	// History reads the ownerships that have ended, newest first.
	History(ctx context.Context, id changefeed.ID) ([]record.History, error)
	// CreateSpec stores a spec under a free name; a name that is taken is the fault changefeed.exists.
	CreateSpec(ctx context.Context, spec record.Spec) error
	// UpdateSpec stores a spec over the one that was read, if nobody changed it since: else spec.conflict (F25).
	UpdateSpec(ctx context.Context, read Stored[record.Spec], spec record.Spec) error
	// ResetSpec stores a spec with another uid over a view that nobody owns, and forgets the rest of the former uid; else
	// spec.conflict.
	ResetSpec(ctx context.Context, read View, spec record.Spec) error
	// ForceRemove deletes the records of a changefeed whoever owns it.
	ForceRemove(ctx context.Context, id changefeed.ID) error
}

// Control is the cluster beside its changefeeds.
type Control interface {
	Cluster(ctx context.Context) (ClusterView, error)
	// RaiseFloor makes all epochs from now on lie above the given one.
	RaiseFloor(ctx context.Context, above fence.Epoch) error
	// Drain has the node of that name emptied until Undrain, which reports whether there was a drain.
	Drain(ctx context.Context, name, by string) error
	Undrain(ctx context.Context, name string) (bool, error)
	// Resign ends the term of the coordinator, whoever it is.
	Resign(ctx context.Context) error
	// Store is the etcd of the records.
	Store() endpoint.Store
}

// ClusterView is the cluster as the records say.
type ClusterView struct {
	Meta        record.Meta
	Nodes       []record.Node
	Coordinator changefeed.NodeID // "" for nobody
	Term        int64
}

// Local is what this node knows.
type Local interface {
	// Self is the node's id; new with every session.
	Self() changefeed.NodeID
	// Loads counts the maintainers and dispatchers of this node.
	Loads() (maintainers, dispatchers int)
	// Progress tells of every changefeed that this node owns, in no order.
	Progress() []shape.Progress
	// Spans returns the cover of a changefeed that this node owns, false if it doesn't. NodeName may be left out.
	Spans(ctx context.Context, id changefeed.ID) ([]Span, bool)
	// Look asks a source or sink where it stands; it is given a short while.
	Look(ctx context.Context, uri endpoint.URI, options changefeed.Options) (Look, error)
	// Healthy returns nil while the loops turn, Ready while the node has a live session and current watches; else why not.
	Healthy() error
	Ready() error
}

// RawRecord is a record as it is stored.
type RawRecord struct {
	Key      string
	Value    []byte
	Revision int64
}

// Holding is what a sink keeps of a changefeed.
type Holding struct {
	Kept   bool // this kind of sink keeps something at all; else the rest says nothing
	Exists bool // it knows the changefeed
	Owner
	Floor   fence.Epoch
	Highest fence.Epoch // that it has seen
	Removed bool
	Mark    change.Position // up to where everything is done there, if Marked
	Marked  bool
	Others  []Neighbour // who of this cluster has claims in the same target system
	Redo    *RedoHolding
}

// RedoHolding is what a redo log keeps of a changefeed, or why it can't be read.
type RedoHolding struct {
	Holding
	Err error
}

// Neighbour is a changefeed with claims in a target.
type Neighbour struct {
	Owner
	Floor fence.Epoch
}

// Owner is a changefeed that a sink knows.
type Owner struct {
	ID  changefeed.ID
	UID changefeed.UID
}

// Inspection reads what a check and a dump need. It changes nothing.
type Inspection interface {
	// Dump reads all records of the cluster at one moment.
	Dump(ctx context.Context) ([]RawRecord, error)
	// Holding reads what the sink of a spec keeps.
	Holding(ctx context.Context, spec record.Spec) (Holding, error)
}

// RecordChange is a record that was put or deleted. Record is nil if it was deleted or does not parse.
type RecordChange struct {
	Ref      record.Ref
	Record   record.Record
	Deleted  bool
	Revision int64
}

// Rejection is a command that a fence of this node refused.
type Rejection struct {
	ID      changefeed.ID
	UID     changefeed.UID
	From    changefeed.NodeID
	Rule    string // as in F9
	Command string
	Offered fence.Epoch
	Held    fence.Epoch
}

// Watching follows what happens.
type Watching interface {
	// Follow tells nodes, specs, epochs and statuses: first all there are, then each change, until ctx ends.
	Follow(ctx context.Context, tell func(changes []RecordChange, first bool)) error
	// Rejections returns what this node's fences refuse from now on, and the function that ends that. Who does not read is
	// told less.
	Rejections() (refused <-chan Rejection, end func())
}

// Backend is what the server works on.
type Backend interface {
	Records
	Control
	Local
	Inspection
	Watching
	Comparing
}

// Span is one span of a cover, with who has it.
type Span struct {
	Span     changefeed.Span
	Node     changefeed.NodeID
	Token    fence.Token
	State    string
	Mark     change.Mark
	Known    bool
	Resolved change.Position
	// LagSeconds is negative while not known.
	LagSeconds float64
	// SnapshotRows of about SnapshotTotal were read; 0 and 0 when no snapshot is being read.
	SnapshotRows  int64
	SnapshotTotal int64
	Rate          uint32 // changes a second
}

// Look is what a source or sink said of itself.
type Look struct {
	Store endpoint.Store
	// Head is the source's newest position.
	Head change.Position
	// Unfit is why no changefeed can be made of a source that answers; nil if one can.
	Unfit error
	// Held says that a directory belongs to a changefeed: Holder of HolderCluster.
	Held          bool
	Holder        Owner
	HolderCluster string
}
