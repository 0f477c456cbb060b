// Package message holds what nodes say to each other about a changefeed, as values: what a maintainer asks of
// dispatcher hosts, and what those answer. The envelope carries uid, epoch and sender once, stamped when the message is
// made. Messages may be lost, delayed, duplicated and reordered; nobody minds, since answers say what is, not what was
// asked. The package knows no transport; peer puts the values on the wire.
package message

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// Envelope is one message. It is never changed after it was made: a message that waits in a queue keeps the epoch that
// it was made under.
type Envelope struct {
	ID    changefeed.ID
	UID   changefeed.UID
	Epoch fence.Epoch
	From  changefeed.NodeID
	To    changefeed.NodeID
	Body  Body
}

// Claimant returns the sender of a command as a gate sees it.
func (e *Envelope) Claimant() fence.Claimant {
	return fence.Claimant{UID: string(e.UID), Epoch: e.Epoch, Owner: string(e.From)}
}

// Body is one of the types of this package whose documentation says "down" (maintainer to dispatcher host) or "up"
// (dispatcher host to maintainer).
type Body interface{ Kind() Kind }

// Kind names a body, for the wire, logs and metrics.
type Kind uint8

// The kinds. The zero value is invalid.
const (
	KindBootstrap Kind = iota + 1
	KindBootstrapReply
	KindPlace
	KindStop
	KindStatuses
	KindClose
	KindClosed
	KindHeartbeat
	KindListStatuses
	KindRejected
	KindBarrier
)

var kindNames = [...]string{ //nolint:gochecknoglobals // read only
	KindBootstrap: "bootstrap", KindBootstrapReply: "bootstrap_reply", KindPlace: "place", KindStop: "stop",
	KindStatuses: "statuses", KindClose: "close", KindClosed: "closed", KindHeartbeat: "heartbeat",
	KindListStatuses: "list_statuses", KindRejected: "rejected", KindBarrier: "barrier",
}

// String returns the kind's name, as metrics label it.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// Down reports whether the kind travels from a maintainer to dispatcher hosts.
func (k Kind) Down() bool {
	switch k {
	case KindBootstrap, KindPlace, KindStop, KindClose, KindListStatuses, KindBarrier:
		return true
	case KindBootstrapReply, KindStatuses, KindClosed, KindHeartbeat, KindRejected:
		return false
	default:
		return false
	}
}

// Bootstrap (down) asks a host for what it runs of this changefeed, and makes the sender its owner there. It is the
// only message that may raise the host's epoch, and only if the records confirm it.
type Bootstrap struct {
	Spec         record.Spec // what dispatchers are to run; credentials are references
	SpecRevision int64
	// SourceID is the identity of the source that the checkpoint was stored with; "" if none was stored.
	SourceID string
	// Checkpoint is the stored checkpoint, 0 if there is none.
	Checkpoint change.Position
}

// BootstrapReply (up) answers with everything that runs, or ran and is known by its final mark, on the host.
type BootstrapReply struct {
	Dispatchers []Status
}

// Place (down) asks to run a dispatcher for a span. Its token is (epoch, Seq). A host that runs that very token answers
// with its status.
type Place struct {
	Seq  fence.Seq
	Span changefeed.Span
	From change.Mark // where parts start that the sink does not know
	// Floor is the stored checkpoint: what the sink knows of the span may not be below it. 0 asks for nothing.
	Floor change.Position
	// Barrier is the one in force when the placement was decided: the dispatcher holds there too, whatever becomes of the
	// message that said so. The zero value is none.
	Barrier Barrier
}

// Stop (down) asks to stop a dispatcher: at once (what is in flight is waited for), or, if At is not the zero mark,
// when every change at or below At is done and none above. A host that never heard of the token remembers that it was
// stopped. The answer is a status, stopped, with the final mark.
type Stop struct {
	Token fence.Token
	At    change.Mark
}

// Barrier (down) sets what all dispatchers of the changefeed on the host do at a position. Refused below the held epoch
// like every command, and below a decision of the same epoch that was obeyed already.
type Barrier struct {
	// Number counts an owner's decisions about where dispatchers stop, from 1. Of one number the actions come in their
	// order. So what is late is told from what is new.
	Number   uint64
	Position change.Position
	Action   BarrierAction
}

// BarrierAction is what is done at a barrier.
type BarrierAction uint8

// The actions, in order.
const (
	BarrierStop  BarrierAction = iota + 1 // bring everything at or below the position to the sink, and nothing above
	BarrierWrite                          // one dispatcher of the host records the position in the sink
	BarrierPass                           // go on
)

// Close (down) asks to stop all dispatchers of the changefeed and to forget it. Answered by Closed always, also by a
// host that runs nothing.
type Close struct {
	Removed bool // the uid is never served again
}

// Closed (up) says that no dispatcher of the changefeed runs on the host any more.
type Closed struct{}

// ListStatuses (down) asks for the statuses of all dispatchers, when a watermark's set did not match.
type ListStatuses struct {
	// Halve asks for the status of this dispatcher alone, with the key at which its traffic is halved. Zero asks for all.
	Halve fence.Token
}

// Statuses (up) tell what is. Full says that they are all that the host runs.
type Statuses struct {
	Full     bool
	Statuses []Status
}

// Heartbeat (up) is sent every 500 ms while something runs on the host, and at once when a dispatcher changed its state.
// It counts only if Number is above those seen before from that host in this epoch.
type Heartbeat struct {
	Number uint64
	Set    Digest // of the running dispatchers that the watermark covers
	// Checkpoint and Resolved are the minimum over the set.
	Checkpoint change.Position
	Resolved   change.Position
	Changed    []Status // states that changed since the last heartbeat
	Held       Held
}

// Held is what a host says of the barrier that it obeys.
type Held struct {
	// Number is that of the barrier which every dispatcher of the set obeys; 0: there is none, or not all do yet.
	Number uint64
	// Position is where the host's dispatchers stop, whoever decided it; 0: nowhere.
	Position change.Position
	// Highest is above or at what any dispatcher of the set has written. While Number is not 0 it does not rise above
	// Position, unless it was there before, or a snapshot is being read.
	Highest change.Position
	// Synced is the position that a dispatcher here recorded last, or found recorded: a hint to look into the sink.
	Synced change.Position
}

// Rejected (up) tells a sender that its command was refused: it reads the record and stops itself if it is stale.
type Rejected struct {
	Offered fence.Epoch
	Held    fence.Epoch
	Rule    string // as in "F9"
	Command Kind   // what was refused
	// Token is that of the Place or Stop that was refused; zero for other commands.
	Token fence.Token
}

// DispatcherState is what a dispatcher does. The zero value is invalid.
type DispatcherState uint8

// The states of a dispatcher, as its host tells them.
const (
	DispatcherStarting DispatcherState = iota + 1 // claiming, or opening its source
	DispatcherRunning
	DispatcherStopping // asked to stop; a write may still be in flight
	DispatcherStopped  // has no effect any more; Mark is final
	DispatcherFailed   // stopped by itself; Fault says why
)

var dispatcherStateNames = [...]string{ //nolint:gochecknoglobals // read only
	DispatcherStarting: "starting", DispatcherRunning: "running", DispatcherStopping: "stopping",
	DispatcherStopped: "stopped", DispatcherFailed: "failed",
}

// String returns the state's name.
func (s DispatcherState) String() string {
	if int(s) < len(dispatcherStateNames) && dispatcherStateNames[s] != "" {
		return dispatcherStateNames[s]
	}
	return "unknown"
}

// Status is what a host says of one dispatcher.
type Status struct {
	Span         changefeed.Span
	Token        fence.Token
	SpecRevision int64
	State        DispatcherState
	// Mark is how far the whole span is durable in the sink: the lowest of its pieces. Final when stopped or failed.
	// Known is false while nothing is known, as before the claim was answered.
	Mark     change.Mark
	Known    bool
	Resolved change.Position
	Fault    *changefeed.Fault // for DispatcherFailed, or the error that a running one is retrying
	// SourceID is the identity of the source that it reads; "" while not known.
	SourceID string
	// Snapshot progress in rows; 0, 0 when none is being read.
	SnapshotRows  int64
	SnapshotTotal int64
	// Changes and Bytes count what was written to the sink since the dispatcher started.
	Changes uint64
	Bytes   uint64
	// WaitingOn says in a few words what a running dispatcher waits for, such as "sink write" or "source", and
	// WaitingFor how long already; for the state stalled.
	WaitingOn  string
	WaitingFor changefeed.Duration
	// Barrier is the position above which it writes nothing until it is told to pass; 0: it goes on.
	Barrier change.Position
	// Age is since when the dispatcher was placed on its host, in whole seconds.
	Age changefeed.Duration
	// Rate is how many changes a second it wrote lately.
	Rate uint32
	// Half is told when it was asked for, if it is known.
	Half *Half
}

// Half is where the traffic of a span is cut most evenly.
type Half struct {
	Key     []byte // the first of the upper part
	Percent uint8  // of the traffic that the larger part has
}

func (Bootstrap) Kind() Kind      { return KindBootstrap }
func (BootstrapReply) Kind() Kind { return KindBootstrapReply }
func (Place) Kind() Kind          { return KindPlace }
func (Stop) Kind() Kind           { return KindStop }
func (Barrier) Kind() Kind        { return KindBarrier }
func (Close) Kind() Kind          { return KindClose }
func (Closed) Kind() Kind         { return KindClosed }
func (ListStatuses) Kind() Kind   { return KindListStatuses }
func (Statuses) Kind() Kind       { return KindStatuses }
func (Heartbeat) Kind() Kind      { return KindHeartbeat }
func (Rejected) Kind() Kind       { return KindRejected }

// Token returns the token of the placement that a Place asks for under the epoch of its envelope.
func (p Place) Token(epoch fence.Epoch) fence.Token { return fence.Mint(epoch, p.Seq) }
