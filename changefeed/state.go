package changefeed

// State is what a changefeed is doing, as people are shown it and as its status record says. The zero value is none.
type State string

// The states. Released is only ever seen in status records: the owner of that epoch has stopped for good.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	StateStalled  State = "stalled"  // running, but the checkpoint stands still; the reason is given
	StateRetrying State = "retrying" // an error that time may heal; the next try is given
	StatePaused   State = "paused"
	StateFailed   State = "failed" // an error that time cannot heal
	StateRemoving State = "removing"
	StateReleased State = "released"
)

// Desired is what users want of a changefeed. The zero value is none.
type Desired string

// What users can want.
const (
	DesiredRunning Desired = "running"
	DesiredPaused  Desired = "paused"
	DesiredRemoved Desired = "removed"
)

// Reason says why an epoch was bumped.
type Reason string

// The reasons of bumps and handoffs.
const (
	ReasonCreated     Reason = "created"
	ReasonResumed     Reason = "resumed"
	ReasonUpdated     Reason = "updated"
	ReasonPaused      Reason = "paused"
	ReasonRemoved     Reason = "removed"
	ReasonOwnerLost   Reason = "owner_lost"
	ReasonOwnerSilent Reason = "owner_silent"
	// ReasonOwnerUnreachable is an owner that lives, and reaches fewer of the live nodes than another does.
	ReasonOwnerUnreachable Reason = "owner_unreachable"
	ReasonOwnerFailed      Reason = "owner_failed"
	ReasonReleased         Reason = "released"
	ReasonMoved            Reason = "moved"
	ReasonDrained          Reason = "drained"
	ReasonManual           Reason = "manual"
)
