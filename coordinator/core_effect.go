package coordinator

import (
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// Effect is something that the driver does for the core.
type Effect interface{ effect() }

// Decision is one bump: everything that its transaction compares and writes. A decision that is sent again, because
// its answer was lost, is the same value, so that one decision never bumps twice.
type Decision struct {
	ID  changefeed.ID
	UID changefeed.UID
	// Previous is the epoch record that ends, nil if there is none; PreviousRevision its mod revision, 0 if the record
	// must not exist.
	Previous         *record.Epoch
	PreviousRevision int64
	// Spec is what it was decided on, and SpecRevision its mod revision.
	Spec         *record.Spec
	SpecRevision int64
	// SeenRevision is the newest revision at which the records of this changefeed were observed.
	SeenRevision int64
	// MetaRevision is the mod revision of meta, and Floor what it says.
	MetaRevision int64
	Floor        fence.Epoch
	// Status is the last status that was seen, nil if there is none, and StatusRevision its mod revision. Its checkpoint
	// goes to the history. Planned says that it is a release of the previous epoch; then it is compared too. A bump that
	// isn't planned must not compare the status, or a busy owner could never be bumped over.
	Status         *record.Status
	StatusRevision int64
	Planned        bool
	// Unanswered says that the previous owner was asked to release and did not in time; for the history.
	Unanswered bool
	// Owner is "" only after a release for pause or removal.
	Owner     changefeed.NodeID
	OwnerName string
	// Reason is that of the new epoch, and why the previous one ended.
	Reason changefeed.Reason
	Nonce  string
}

// Handoff asks the owner of an epoch to release. There is one per epoch, so that a release is known by what was asked.
type Handoff struct {
	ID     changefeed.ID
	UID    changefeed.UID
	Epoch  fence.Epoch
	To     changefeed.NodeID
	ToName string
	Reason changefeed.Reason
	// Record is the epoch record, and EpochRevision its mod revision, to be compared.
	Record        *record.Epoch
	EpochRevision int64
}

// Removal deletes spec, epoch, status, handoff and evictions of a uid in one transaction.
type Removal struct {
	ID  changefeed.ID
	UID changefeed.UID
	// Spec and EpochRecord are what it was decided on. Their mod revisions are compared; an EpochRevision of 0 says that
	// there must be no record.
	Spec          *record.Spec
	SpecRevision  int64
	EpochRecord   *record.Epoch
	EpochRevision int64
}

// The effects. The answer to each of the first six is an input.
type (
	// Bump is answered by BumpAnswered.
	Bump struct{ Decision Decision }
	// RequestHandoff is answered by HandoffAnswered.
	RequestHandoff struct{ Handoff Handoff }
	// Remove is answered by RemoveAnswered.
	Remove struct{ Removal Removal }
	// TrimHistory is answered by TrimAnswered.
	TrimHistory struct{ ID changefeed.ID }
	// RaiseLevel raises the feature level in meta, comparing its mod revision. It is answered by LevelAnswered.
	RaiseLevel struct {
		MetaRevision int64
		Level        int
	}
	// Probe is a write of this term that changes no record. An owner is called silent only after one succeeded. It is
	// answered by ProbeAnswered.
	Probe struct{}

	// Bumped reports that a decision of this core was committed, once for each.
	Bumped struct {
		ID     changefeed.ID
		Record record.Epoch
	}
	// Invalid reports a changefeed that is left alone because one of its records does not parse.
	Invalid struct {
		ID     changefeed.ID
		Record string // as in "spec"
		Fault  string
	}
	// Distrust says that the records refuse again and again what was decided on what is watched, without any news: what is
	// watched is not what is stored, as after etcd was restored to revisions that only rise. The term ends, and the next one
	// lists anew.
	Distrust struct{ ID changefeed.ID }
	// WritesFailing reports that writes began to fail, or, with a nil Err, that they succeed again.
	WritesFailing struct{ Err error }
)

func (Bump) effect()           {}
func (RequestHandoff) effect() {}
func (Remove) effect()         {}
func (TrimHistory) effect()    {}
func (RaiseLevel) effect()     {}
func (Probe) effect()          {}
func (Bumped) effect()         {}
func (Invalid) effect()        {}
func (WritesFailing) effect()  {}
func (Distrust) effect()       {}
