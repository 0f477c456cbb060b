package maintainer

import (
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
)

// Config is what a maintainer core is told once.
type Config struct {
	Node           changefeed.NodeID
	SessionTTL     changefeed.Duration // how long a lost node's lease must have been gone (F19)
	Heartbeat      changefeed.Duration // how often hosts report
	StatusInterval changefeed.Duration // a changed status is stored at most this often
	StatusRefresh  changefeed.Duration // an unchanged one is stored this often
	ResendMin      changefeed.Duration // first delay before anything is asked again; doubles
	ResendMax      changefeed.Duration
	AnswerWait     changefeed.Duration // how long hosts that do not answer are waited for where the sink has claims
	StopWait       changefeed.Duration // how long a stop of everything may take before it is an error
	HeadsMax       int                 // moments of the source's head that are remembered, to tell lag in time; at least 2
}

// The defaults of a Config, and limits. The delays of errors are what users are promised.
const (
	heartbeatDefault      = 500 * millisecond
	statusIntervalDefault = 1000 * millisecond
	statusRefreshDefault  = 10_000 * millisecond
	resendMinDefault      = 250 * millisecond
	resendMaxDefault      = 5_000 * millisecond
	answerWaitDefault     = 3_000 * millisecond
	stopWaitDefault       = 20_000 * millisecond
	sessionTTLDefault     = 5_000 * millisecond
	millisecond           = changefeed.Duration(1_000_000)

	retryDelayMin = 10_000 * millisecond
	retryDelayMax = 600_000 * millisecond

	stalledHeartbeats = 3    // silent for so many heartbeats is stalled
	triesMax          = 3    // of one step at the sink or the source, before the changefeed is retried later as a whole
	refusalsMax       = 5    // of one span's placement, before the changefeed is retried later as a whole
	staleMax          = 3    // stale answers in a row, although the record says that the epoch is held
	placeBurstMax     = 1024 // placements of one step: more than a host starts in a tick
	missingMax        = 2    // full lists in a row without a running span
	pollMin           = 10_000 * millisecond
	pollSpans         = 1000             // of one changefeed for which the statuses of all are asked for every pollMin
	tickBusy          = 50 * millisecond // while something is under way
	closeTriesMax     = 3                // a host that never answers Close learns from the deleted record
)

// DefaultConfig returns the timing of a node that says nothing else.
func DefaultConfig(node changefeed.NodeID) Config {
	return Config{
		Node: node, SessionTTL: sessionTTLDefault, Heartbeat: heartbeatDefault, StatusInterval: statusIntervalDefault,
		StatusRefresh: statusRefreshDefault, ResendMin: resendMinDefault, ResendMax: resendMaxDefault,
		AnswerWait: answerWaitDefault, StopWait: stopWaitDefault, HeadsMax: headsMax,
	}
}

// Ownership is an epoch record and the mod revision that makes it the ownership.
type Ownership struct {
	ID       changefeed.ID
	Record   record.Epoch
	Revision int64
}

// Fencing says how a sink keeps stale writers out.
type Fencing uint8

// The kinds of fencing. The zero value promises nothing.
const (
	FencedByNothing Fencing = iota // what was in flight may still land
	FencedByClaims                 // a claim shuts out every earlier writer of the span
)

// StoredStatus is a status record and its mod revision; revision 0 means that there is none.
type StoredStatus struct {
	Status   record.Status
	Revision int64
}

// StoredSpec is a spec record and its mod revision; revision 0 means that there is none.
type StoredSpec struct {
	Spec     record.Spec
	Revision int64
}

// Nodes are all node records as of a store revision.
type Nodes struct {
	Revision int64
	Nodes    []record.Node
}

// SameAs reports whether both name the same nodes, with the same liveness and the same links: that none has come or gone.
func (n *Nodes) SameAs(other *Nodes) bool {
	return slices.EqualFunc(n.Nodes, other.Nodes, func(a, b record.Node) bool {
		return a.ID == b.ID && a.Liveness == b.Liveness && slices.Equal(a.Unreachable, b.Unreachable)
	})
}

// Input is what happened. One of the types below.
type Input interface{ input() }

// The inputs of a maintainer core. Those with an Err answer the effect of the similar name.
type (
	// Started is the first input. NodesChangedAt is when nodes came or went last, as far as this node has seen, whoever was
	// the owner; 0 if it has not seen any do so.
	Started struct{ NodesChangedAt changefeed.Time }
	// Ticked lets time pass. What arrived by Listened has been told before; 0: by now.
	Ticked struct{ Listened changefeed.Time }
	// HandoffRequested asks the owner of the epoch that it names to release.
	HandoffRequested struct{ Handoff record.Handoff }
	// NodesWatched is what the watch of node records says; older than what is known changes nothing.
	NodesWatched struct{ Nodes Nodes }
	// Received is a message from a dispatcher host.
	Received struct{ Envelope message.Envelope }

	// RecordsRead answers ReadRecords.
	RecordsRead struct {
		Spec   StoredSpec
		Status StoredStatus
		Err    error
	}
	// Opened answers Open.
	Opened struct {
		Whole   changefeed.Span // what the source holds
		Fencing Fencing
		Syncs   bool // the sink keeps sync points
		Serial  bool // the source has one log, which its owner reads for all
		Err     error
	}
	// Raised answers Raise.
	Raised struct {
		Epoch fence.Epoch
		Err   error
	}
	// StartResolved answers ResolveStart.
	StartResolved struct {
		Position change.Position
		SourceID string
		Err      error
	}
	// NodesListed answers ListNodes.
	NodesListed struct {
		Nodes Nodes
		Err   error
	}
	// SinkRemoved answers RemoveSink.
	SinkRemoved struct{ Err error }
	// SourceDropped answers DropSource.
	SourceDropped struct{ Err error }
	// StatusWritten answers WriteStatus.
	StatusWritten struct {
		Revision int64
		Err      error
	}
	// StatusRead answers ReadStatus.
	StatusRead struct {
		Stored StoredStatus
		Err    error
	}
	// EpochRead answers ReadEpoch.
	EpochRead struct {
		Ownership Ownership // Revision 0: there is no record
		Err       error
	}
)

func (Started) input()          {}
func (Ticked) input()           {}
func (HandoffRequested) input() {}
func (NodesWatched) input()     {}
func (Received) input()         {}
func (RecordsRead) input()      {}
func (Opened) input()           {}
func (Raised) input()           {}
func (StartResolved) input()    {}
func (NodesListed) input()      {}
func (SinkRemoved) input()      {}
func (SourceDropped) input()    {}
func (StatusWritten) input()    {}
func (StatusRead) input()       {}
func (EpochRead) input()        {}

// Effect is what is to be done. Effects are started in their order; each that is answered is answered once.
type Effect interface{ effect() }

// The effects of a maintainer core.
type (
	// ReadRecords reads spec and status, linearizably.
	ReadRecords struct{}
	// Open makes the sink and the source of the spec; it does no I/O.
	Open struct{ Spec record.Spec }
	// Raise raises the floor in the sink.
	Raise struct {
		Epoch fence.Epoch
		Known sink.Known
	}
	// ResolveStart asks the source for its identity and its head. A serial source is prepared, and its position is the one
	// above which it loses nothing.
	ResolveStart struct{}
	// ServeLog has the log of a serial source read and served to dispatchers, until the maintainer ends. It is given once, when
	// a status of this ownership says that the source was prepared.
	ServeLog struct {
		SourceID string
		Stored   change.Position // the checkpoint as it is stored
	}
	// Acknowledge lets a serial source forget what is at or below a checkpoint that is stored.
	Acknowledge struct{ Stored change.Position }
	// ListNodes lists the node records, linearizably.
	ListNodes struct{}
	// Send sends a message; it may be lost.
	Send struct{ Envelope message.Envelope }
	// WriteStatus stores the status, guarded by the ownership and by the revision of the status that it replaces.
	WriteStatus struct {
		Previous int64
		Status   record.Status
	}
	// ReadStatus reads the status back after an unknown outcome.
	ReadStatus struct{}
	// ReadEpoch reads the epoch record, linearizably, after a doubt.
	ReadEpoch struct{}
	// RemoveSink removes the changefeed from the sink.
	RemoveSink struct{}
	// DropSource ends the reading of a serial source's log, and removes what the source keeps for the changefeed.
	DropSource struct{}
	// Refused counts a report that a fence refused.
	Refused struct{ Rule fence.Refusal }
	// Moved counts a motion that has begun.
	Moved struct{ Why Motion }
	// End is the last effect: the maintainer stops for good.
	End struct{ Outcome Outcome }
)

func (ReadRecords) effect()  {}
func (Open) effect()         {}
func (Raise) effect()        {}
func (ResolveStart) effect() {}
func (ServeLog) effect()     {}
func (Acknowledge) effect()  {}
func (ListNodes) effect()    {}
func (Send) effect()         {}
func (WriteStatus) effect()  {}
func (ReadStatus) effect()   {}
func (ReadEpoch) effect()    {}
func (RemoveSink) effect()   {}
func (DropSource) effect()   {}
func (Refused) effect()      {}
func (Moved) effect()        {}
func (End) effect()          {}

// Motion is why a span is set in motion. The zero value is none.
type Motion uint8

// The reasons of motions.
const (
	MovedForDrain   Motion = iota + 1 // its node is to be emptied
	MovedForBalance                   // its node has more than others
	MovedForSplit                     // users want a border
	MovedForMerge                     // users want none
	MovedForTraffic                   // it has much more than its share of the traffic
	MovedForQuiet                     // two neighbours have hardly any
)

var motionNames = [...]string{ //nolint:gochecknoglobals // read only
	MovedForDrain: "drain", MovedForBalance: "balance", MovedForSplit: "split", MovedForMerge: "merge",
	MovedForTraffic: "traffic", MovedForQuiet: "quiet",
}

// String returns the reason's name, as metrics label it.
func (m Motion) String() string {
	if int(m) < len(motionNames) && motionNames[m] != "" {
		return motionNames[m]
	}
	return "none"
}

// The fences of a maintainer and of its host, by their numbers.
const (
	refusedByRecord fence.Refusal = 8
	refusedEpoch    fence.Refusal = 17
	refusedStatus   fence.Refusal = 18
	refusedBarrier  fence.Refusal = 24
	refusedFloor    fence.Refusal = 26
)

// Outcome says how a maintainer ended. The zero value is none.
type Outcome uint8

// The outcomes.
const (
	OutcomeReleased Outcome = iota + 1 // a final status of this epoch is stored
	OutcomeDeposed                     // a newer owner is known, or the record is gone
	OutcomeStopped                     // by its host, or with the session
)

var outcomeNames = [...]string{OutcomeReleased: "released", OutcomeDeposed: "deposed", OutcomeStopped: "stopped"} //nolint:gochecknoglobals // read only

// String returns the outcome's name.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) && outcomeNames[o] != "" {
		return outcomeNames[o]
	}
	return "none"
}
