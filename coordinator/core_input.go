package coordinator

import (
	"fencerow/changefeed"
	"fencerow/record"
)

// Input is something that the core takes in: a record that was observed, the passing of time, or the answer to one of
// its writes.
type Input interface{ input() }

// Observed is a record as it was read or watched.
type Observed[T any] struct {
	// Value is nil if the record was deleted, or does not parse.
	Value *T
	// Revision is the mod revision of the value, or the revision of its deletion.
	Revision int64
	// Fault says why the record does not parse; "" if it does.
	Fault string
}

// Inputs that are records. Those of one record come in order of their revisions; what is older than what is known is
// ignored.
type (
	// SpecSeen is the record specs/<namespace>/<name>.
	SpecSeen struct {
		ID changefeed.ID
		Observed[record.Spec]
	}
	// EpochSeen is the record epochs/<namespace>/<name>.
	EpochSeen struct {
		ID changefeed.ID
		Observed[record.Epoch]
	}
	// StatusSeen is the record status/<namespace>/<name>.
	StatusSeen struct {
		ID changefeed.ID
		Observed[record.Status]
	}
	// HandoffSeen is the record handoffs/<namespace>/<name>.
	HandoffSeen struct {
		ID changefeed.ID
		Observed[record.Handoff]
	}
	// NodeSeen is the record nodes/<node-id>. A node whose record was deleted is gone, and never comes back.
	NodeSeen struct {
		ID changefeed.NodeID
		Observed[record.Node]
	}
	// DrainSeen is the record drains/<name>.
	DrainSeen struct {
		Name string
		Observed[record.Drain]
	}
	// MetaSeen is the record meta.
	MetaSeen struct{ Observed[record.Meta] }
)

// Listed says that every record was given to the core once, as it stood after the election. Nothing is decided before.
type Listed struct{}

// Tick is the passing of time.
type Tick struct {
	// WatchAge is how old what was observed is: everything that was committed longer ago has been given to the core.
	WatchAge changefeed.Duration
}

// Inputs that are answers. Err is nil (done), [fence.ErrStale] (not done: what it was decided on is no longer so),
// [fence.ErrUnknown] (may have been done), or anything else (not done, may be tried again).
type (
	// BumpAnswered is the answer to a Bump.
	BumpAnswered struct {
		ID      changefeed.ID
		Nonce   string
		Outcome Outcome
	}
	// HandoffAnswered is the answer to a RequestHandoff.
	HandoffAnswered struct {
		Handoff Handoff
		Err     error
	}
	// RemoveAnswered is the answer to a Remove.
	RemoveAnswered struct {
		Removal Removal
		Err     error
	}
	// TrimAnswered is the answer to a TrimHistory.
	TrimAnswered struct {
		ID  changefeed.ID
		Err error
	}
	// LevelAnswered is the answer to a RaiseLevel.
	LevelAnswered struct{ Err error }
	// ProbeAnswered is the answer to a Probe.
	ProbeAnswered struct{ Err error }
)

// Outcome is what became of a bump. Err is of the four classes of an answer.
type Outcome struct {
	Record   record.Epoch // as it was written
	Revision int64        // its mod revision
	Err      error
}

func (SpecSeen) input()        {}
func (EpochSeen) input()       {}
func (StatusSeen) input()      {}
func (HandoffSeen) input()     {}
func (NodeSeen) input()        {}
func (DrainSeen) input()       {}
func (MetaSeen) input()        {}
func (Listed) input()          {}
func (Tick) input()            {}
func (BumpAnswered) input()    {}
func (HandoffAnswered) input() {}
func (RemoveAnswered) input()  {}
func (TrimAnswered) input()    {}
func (LevelAnswered) input()   {}
func (ProbeAnswered) input()   {}
