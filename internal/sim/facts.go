package sim

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// Fact is something that anybody outside of the processes could see: a record, a message, a claim, a write. A checker
// judges histories of facts, and nothing else.
type Fact interface{ fact() }

// Facts about records, in the order of their commits. Put is nil where the record was deleted.
type (
	// EpochFact is an epoch record that was written or deleted.
	EpochFact struct {
		ID  changefeed.ID
		Put *record.Epoch
	}
	// LegacyFact is an epoch record that was there before anything of this version ran.
	LegacyFact struct {
		ID  changefeed.ID
		Put *record.Epoch
	}
	// StatusFact is a status record that was written or deleted. By is the process that sent the write.
	StatusFact struct {
		ID  changefeed.ID
		By  changefeed.NodeID
		Put *record.Status
	}
	// SpecFact is a spec record that was written or deleted.
	SpecFact struct {
		ID       changefeed.ID
		Put      *record.Spec
		Revision int64 // mod revision of the put
	}
	// HandoffFact is a handoff record that was written or deleted.
	HandoffFact struct {
		ID  changefeed.ID
		Put *record.Handoff
	}
	// HistoryFact is an ownership that was put into the history.
	HistoryFact struct {
		ID  changefeed.ID
		Put *record.History
	}
	// EvictionFact is an eviction record that was written or deleted. By is the process that sent the write.
	EvictionFact struct {
		UID  changefeed.UID
		Node changefeed.NodeID
		By   changefeed.NodeID
		Put  *record.Eviction
	}
	// CandidateFact is an election key that was created or deleted. The one with the lowest revision is the coordinator.
	CandidateFact struct {
		Key      string
		Revision int64 // create revision; 0: deleted
	}
	// NodeFact is a node record that was created or deleted.
	NodeFact struct {
		Node changefeed.NodeID
		Gone bool
	}
	// RestoreFact says that the records are those of an old backup. The facts that follow up to a CommitFact are all of
	// them.
	RestoreFact struct{}
	// ForceFact says that an operator is about to delete the records of a changefeed, whoever owns it.
	ForceFact struct{ ID changefeed.ID }
	// CommitFact ends the facts of one transaction. By is who sent it, "" for operators and for etcd itself.
	CommitFact struct{ By changefeed.NodeID }
)

// Facts about what a source holds and what sinks were told.
type (
	// SourceFact is a change of the source.
	SourceFact struct {
		Position change.Position
		Key      string
		Deleted  bool
	}
	// ForgetFact says that a source with one log has forgotten everything up to a position, as it was let.
	ForgetFact struct {
		UID  changefeed.UID
		UpTo change.Position
	}
	// HeadFact is the head of a sink. UID is who it belongs to from now on.
	HeadFact struct {
		ID      changefeed.ID
		UID     changefeed.UID
		Floor   fence.Epoch
		Removed bool
	}
	// ClaimFact is a claim that was granted.
	ClaimFact struct {
		UID   changefeed.UID
		Claim uint64 // names it
		Span  changefeed.Span
		Token fence.Token
	}
	// WriteFact is a write that had an effect in a claiming sink.
	WriteFact struct {
		UID     changefeed.UID
		Claim   uint64
		Changes []Written
		Moves   []Move // of the parts of the claim, in the same step as the data
	}
	// MarksFact is how far a sink says that each part of the key space is.
	MarksFact struct {
		UID   changefeed.UID
		Marks []SpanMark
	}
	// SyncFact is a sync point that a claiming sink recorded: it says that everything up to there, and nothing above, is in it.
	SyncFact struct {
		UID changefeed.UID
		At  change.Position
	}
	// BeginFact is a write to a sink without claims that was allowed to begin.
	BeginFact struct {
		Node  changefeed.NodeID
		UID   changefeed.UID
		Token fence.Token
		Span  changefeed.Span
	}
	// LandFact is a write that landed in a sink without claims.
	LandFact struct {
		UID     changefeed.UID
		Changes []Written
		Pages   []SpanMark // parts of which this is a snapshot as of the mark
	}
)

// Facts about messages, and about what runs.
type (
	// SentFact is a message that was sent.
	SentFact struct{ Envelope message.Envelope }
	// KnownFact says that a process has been told an epoch record.
	KnownFact struct {
		Node  changefeed.NodeID
		ID    changefeed.ID
		UID   changefeed.UID
		Epoch fence.Epoch
	}
	// StartFact is a dispatcher that a host started.
	StartFact struct {
		Node  changefeed.NodeID
		ID    changefeed.ID
		UID   changefeed.UID
		Token fence.Token
		Span  changefeed.Span
	}
	// EndFact is a dispatcher that has no effect any more on a host.
	EndFact struct {
		Node  changefeed.NodeID
		UID   changefeed.UID
		Token fence.Token
	}
)

// Written is one change in a sink. For a delete of a sink that keeps no positions, Position is 0.
type Written struct {
	Key      string
	Deleted  bool
	Position change.Position
}

// SpanMark is how far a part of the key space is.
type SpanMark struct {
	Span changefeed.Span
	Mark change.Mark
}

// Move is how far a write brought a part of the key space, and from where.
type Move struct {
	Span     changefeed.Span
	From, To change.Mark
}

// page reports whether the write brought a snapshot as of To: nothing of the part was in the sink before.
func (m Move) page() bool { return m.From == change.Mark{} }

// over reports whether a change at the position can be one that the write brought: it was not done before, and is now. A
// position that is done in parts is on both sides.
func (m Move) over(position change.Position) bool {
	return m.From.Whole() < position && position <= m.To.Position
}

func (EpochFact) fact()     {}
func (LegacyFact) fact()    {}
func (StatusFact) fact()    {}
func (SpecFact) fact()      {}
func (HandoffFact) fact()   {}
func (HistoryFact) fact()   {}
func (EvictionFact) fact()  {}
func (CandidateFact) fact() {}
func (NodeFact) fact()      {}
func (RestoreFact) fact()   {}
func (ForceFact) fact()     {}
func (CommitFact) fact()    {}
func (SourceFact) fact()    {}
func (ForgetFact) fact()    {}
func (HeadFact) fact()      {}
func (ClaimFact) fact()     {}
func (WriteFact) fact()     {}
func (MarksFact) fact()     {}
func (SyncFact) fact()      {}
func (BeginFact) fact()     {}
func (LandFact) fact()      {}
func (SentFact) fact()      {}
func (KnownFact) fact()     {}
func (StartFact) fact()     {}
func (EndFact) fact()       {}
