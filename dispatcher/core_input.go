package dispatcher

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// Input is something that a [Core] is told.
type Input interface{ input() }

// Listed says that the host has listed the records at a revision at or after the creation of its own node record.
// Before it nothing is admitted.
type Listed struct{}

// Upgraded says that the cluster's feature level is above that of an upgrade from a version without epochs (F14).
type Upgraded struct{}

// Deliver brings a message of a maintainer.
type Deliver struct{ Envelope message.Envelope }

// Observed brings an epoch record as it was listed or watched.
type Observed struct{ Record record.Epoch }

// RecordDeleted says that the epoch record is gone. Record is the last that the watch knew, so that a deletion which
// is told late does not remove a changefeed that was created since under the same name.
type RecordDeleted struct{ Record record.Epoch }

// RecordAnswer is the answer of the linearizable read that [ReadRecord] asked for.
type RecordAnswer struct {
	Request uint64
	Record  record.Epoch // when Found
	Found   bool
	Failed  bool // the read failed: nothing is known
}

// Evicted voids every token of the changefeed up to Token on this host.
type Evicted struct {
	UID          changefeed.UID
	Token        fence.Token
	Acknowledged bool // the record says so already: it still voids, and needs no answer
}

// Reported is what a running pump says of itself.
type Reported struct {
	Token    fence.Token
	Progress Progress
}

// DispatcherEnded says that a pump has no effect any more: no write of it is in flight.
type DispatcherEnded struct { //nolint:revive // a dispatcher ended, not the package
	Token    fence.Token
	Progress Progress          // the last; Known false after a write of unknown outcome
	Fault    *changefeed.Fault // why it ended by itself; nil when it was asked to
	Fenced   bool              // it ended because the sink's fence shut it out, which is nobody's fault
}

// Tick says that time has passed: what is due is done. [Core.Due] tells when.
type Tick struct{}

// Leaving says that the node goes in good order, its session alive: what is in flight is finished, nothing new begins.
type Leaving struct{}

// SessionEnded says that the node's session is over: everything stops, for good.
type SessionEnded struct{}

func (Listed) input()          {}
func (Upgraded) input()        {}
func (Deliver) input()         {}
func (Observed) input()        {}
func (RecordDeleted) input()   {}
func (RecordAnswer) input()    {}
func (Evicted) input()         {}
func (Reported) input()        {}
func (DispatcherEnded) input() {}
func (Tick) input()            {}
func (Leaving) input()         {}
func (SessionEnded) input()    {}

// Progress is what a pump knows of itself. The zero value is a pump that has not claimed yet.
type Progress struct {
	Claimed  bool // the sink answered the claim: Mark is known from then on
	Known    bool // false before the claim, and at the end after a write of unknown outcome
	Mark     change.Mark
	Resolved change.Position
	Fault    *changefeed.Fault // the error that is being retried
	SourceID string

	SnapshotRows  int64
	SnapshotTotal int64
	Changes       uint64
	Bytes         uint64

	WaitingOn    string
	WaitingSince changefeed.Time

	// Order is the last [HoldPump] or [StartPump] whose hold it obeys, Highest is where the piece is that is furthest, and
	// Synced the position that it recorded last, or found recorded.
	Order   uint64
	Highest change.Position
	Synced  change.Position
	Rate    uint32          // changes a second, at RateAt
	RateAt  changefeed.Time // 0: not measured
	Half    *message.Half   // where its traffic is halved; nil while it has little, or that is not known
}

// Effect is something that a [Core] decided. Effects are executed in order.
type Effect interface{ effect() }

// Send hands a message to the peers. It may be lost.
type Send struct{ Envelope message.Envelope }

// ReadRecord asks for one linearizable read of the changefeed's epoch record, answered by [RecordAnswer]. At most one
// is under way.
type ReadRecord struct{ Request uint64 }

// StartPump starts the pump of a span. No pump of an overlapping span runs.
type StartPump struct {
	UID          changefeed.UID
	Token        fence.Token
	Span         changefeed.Span
	From         change.Mark
	Floor        change.Position
	Spec         record.Spec
	SpecRevision int64
	SourceID     string // the source's identity must be this one; "" if none was stored
	// Hold is the position above which it writes nothing, and Order counts what pumps are told of it, as in [HoldPump].
	Order uint64
	Hold  change.Position
}

// HoldPump has a pump stop at a position and stay alive: it brings everything at or below to the sink, and nothing above,
// but for what it has written before and for a snapshot. At 0 lets it go on. Its progress says so with the order.
type HoldPump struct {
	Token fence.Token
	Order uint64
	At    change.Position
}

// SyncPump has a pump that holds at a position record it in the sink. Another HoldPump takes it back if it was not begun.
type SyncPump struct {
	Token fence.Token
	At    change.Position
}

// StopPump stops a pump: when everything at or below At is done and nothing above, or, if At is the zero mark, as soon
// as the write in flight has returned. Answered by [DispatcherEnded].
type StopPump struct {
	Token fence.Token
	At    change.Mark
}

// CancelPump revokes a pump's token: no write begins any more, and the one in flight is cancelled and waited for.
// Answered by [DispatcherEnded].
type CancelPump struct{ Token fence.Token }

// AcknowledgeEviction says in the records that no token of this changefeed up to Token has an effect on this host.
type AcknowledgeEviction struct {
	UID    changefeed.UID
	Token  fence.Token
	Finals []message.Status // how far the evicted dispatchers came
}

// Refused counts a refusal.
type Refused struct {
	Refusal fence.Refusal
	Command message.Kind
	UID     changefeed.UID
	From    changefeed.NodeID
	Offered fence.Epoch
	Held    fence.Epoch
}

func (Send) effect()                {}
func (ReadRecord) effect()          {}
func (StartPump) effect()           {}
func (StopPump) effect()            {}
func (CancelPump) effect()          {}
func (HoldPump) effect()            {}
func (SyncPump) effect()            {}
func (AcknowledgeEviction) effect() {}
func (Refused) effect()             {}
