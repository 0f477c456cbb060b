package maintainer

import (
	"cmp"
	"errors"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// report is what a core tells the records: the stored status is the authority, and everything here serves to replace
// it by a newer one.
type report struct {
	known    bool // the status was read
	stored   StoredStatus
	writing  bool // a WriteStatus is under way
	reading  retried
	stale    bool // an answer said that somebody else wrote: the record is being read
	wroteAt  changefeed.Time
	nextTry  changefeed.Time // of a write that failed
	tries    uint8
	armed    bool // a status of this epoch with a number of spans is stored: dispatchers may be placed
	final    bool // the status that is being written is the last
	writings record.Status

	state       changefeed.State
	checkpoint  change.Position // never decreases
	movedAt     changefeed.Time // when it last did, or something else showed progress
	resolved    change.Position // the highest head known
	sourceID    string
	start       *change.Position
	spans       int
	err         *record.Error
	errorAt     change.Position // the checkpoint when the error was carried on or made
	stalled     *record.Stalled
	heads       heads
	firstHead   change.Position    // the first that this owner knew of while everything was taken over; 0: none yet
	releasedFor changefeed.Desired // what was done before the release; "" before it
	unsettledAt changefeed.Time    // since when a span has not been running
	spansBefore int                // of the status when the cover was built: 0 says that nothing ran
	changes     uint64             // written to the sink under this epoch, as far as was told
	bytes       uint64
}

// adopt carries on the stored status.
func (r *report) adopt(stored StoredStatus) {
	status := &stored.Status
	r.known, r.stored = true, stored
	r.state = changefeed.StateStarting
	r.checkpoint = max(r.checkpoint, status.Checkpoint)
	r.resolved = max(r.resolved, status.Resolved)
	r.sourceID, r.start, r.spans = status.SourceID, status.StartPosition, status.Spans
	r.err, r.errorAt = status.Error, r.checkpoint
}

// draft is the status as it should be stored now.
func (c *Core) draft() record.Status {
	r := &c.report
	return record.Status{
		UID: c.own.Record.UID, Epoch: c.epoch(), State: r.state, Checkpoint: r.checkpoint,
		Resolved: max(r.resolved, r.checkpoint), SourceID: r.sourceID, StartPosition: r.start, Spans: r.spans,
		Stalled: r.stalled, Error: r.err, At: c.now.Wall, Extra: r.stored.Status.Extra,
		SyncPoint: max(c.sync.last, r.stored.Status.SyncPoint), ReleasedFor: r.releasedFor,
	}
}

// storeStatus writes the status if it is due: a changed state and the first checkpoint soon, other changes once per interval, and an
// unchanged one once per refresh.
func (c *Core) storeStatus() {
	c.askAgain(&c.report.reading)
	r := &c.report
	if !r.known || r.writing || r.reading.effect != nil || r.stale || c.phase == phaseEnded || c.now.At < r.nextTry {
		return
	}
	if c.phase == phaseReading && !r.final {
		return // it is being read
	}
	draft := c.draft()
	due := c.cfg.StatusRefresh
	switch {
	case r.final, c.phase == phaseStoring, c.needsArming(), c.phase == phaseResolving && c.resolved():
		due = 0
	case r.stored.Status.Checkpoint == 0 && draft.Checkpoint > 0, // a snapshot is whole
		draft.State != r.stored.Status.State || draft.Epoch.Compare(r.stored.Status.Epoch) != 0:
		due = c.cfg.StatusInterval / 4
	case !sameStatus(&draft, &r.stored.Status):
		due = c.cfg.StatusInterval
	}
	if r.wroteAt != 0 && c.now.At.Sub(r.wroteAt) < c.statusPause(due) {
		return
	}
	r.writing, r.writings, r.wroteAt = true, draft, c.now.At
	c.emit(WriteStatus{Previous: r.stored.Revision, Status: draft})
}

// needsArming reports whether dispatchers wait for a status with a number of spans. That status lets a later owner
// know that something may run, even if this one dies before it writes another.
func (c *Core) needsArming() bool { return c.phase == phaseActive && !c.report.armed }

// waitsForArming reports whether that status is being stored.
func (c *Core) waitsForArming() bool { return c.needsArming() && c.report.writing }

// onWritten takes in what became of a status write.
func (c *Core) onWritten(in StatusWritten) {
	r := &c.report
	if !r.writing {
		return
	}
	r.writing = false
	switch {
	case in.Err == nil:
		r.tries, r.nextTry = 0, 0
		c.stale = 0
		c.onStored(StoredStatus{Status: r.writings, Revision: in.Revision})
	case errors.Is(in.Err, fence.ErrStale):
		// Not stored. Only the record says whether this epoch is over, or a write of its own came through late.
		if c.stale++; c.stale > staleMax {
			c.end(OutcomeDeposed)
			return
		}
		r.stale = true
		r.pace(c.now.At.Add(c.delay(r.tries)))
		c.suspect()
	case errors.Is(in.Err, fence.ErrUnknown):
		r.pace(c.now.At.Add(c.delay(r.tries)))
		c.readBack()
	default:
		r.pace(c.now.At.Add(c.delay(r.tries)))
	}
}

// pace puts the next write off after one that failed, so that a store that fails is not stormed.
func (r *report) pace(next changefeed.Time) {
	r.nextTry, r.wroteAt = next, 0
	r.tries = raise(r.tries)
}

// readBack reads the status after a write of unknown outcome. It is never sent again as it was: a late duplicate must
// not take a checkpoint back.
func (c *Core) readBack() {
	c.report.reading = retried{effect: ReadStatus{}, asked: true}
	c.emit(ReadStatus{})
}

func (c *Core) onStatusRead(in StatusRead) {
	r := &c.report
	if r.reading.effect == nil {
		return
	}
	if in.Err != nil {
		c.later(&r.reading)
		return
	}
	r.reading = retried{}
	c.onStored(in.Stored)
}

// onStored takes in what is stored, and does what waited for it.
func (c *Core) onStored(stored StoredStatus) {
	r := &c.report
	r.stored = stored
	c.acknowledge()
	if stored.Status.UID != c.own.Record.UID || stored.Status.Epoch.Compare(c.epoch()) != 0 {
		return
	}
	r.armed = r.armed || (stored.Status.Spans > 0 && c.cover != nil)
	switch {
	case r.final:
		if stored.Status.State == r.state {
			c.end(OutcomeReleased)
		}
	case c.phase == phaseResolving && c.resolved() && stored.Status.SourceID == r.sourceID &&
		samePosition(stored.Status.StartPosition, r.start):
		c.list()
	case c.phase == phaseStoring && stored.Status.Checkpoint == r.checkpoint && stored.Status.State == r.state:
		c.shut()
	}
}

// progress recomputes the checkpoint: the minimum over the cover.
func (c *Core) progress() {
	if c.cover == nil || c.phase > phaseStopping {
		return
	}
	r := &c.report
	lowest, found := change.Position(0), false
	for _, h := range c.hosts {
		if h.set.Count > 0 && (!found || h.mark < lowest) {
			lowest, found = h.mark, true
		}
		r.resolved = max(r.resolved, h.resolved)
	}
	for _, cell := range c.cover.unsettled {
		if whole := cell.mark.Whole(); !found || whole < lowest { // fence:F20
			lowest, found = whole, true
		}
	}
	if lowest > r.checkpoint {
		r.checkpoint, r.movedAt = lowest, c.now.At
		if r.err != nil && r.checkpoint > r.errorAt && c.wish != wishFail {
			r.err = nil
		}
	}
	r.heads.see(max(r.resolved, r.checkpoint), c.now.At)
	r.heads.reach(r.checkpoint)
	if c.phase == phaseActive {
		r.spans = c.cover.len()
		r.firstHead = cmp.Or(r.firstHead, r.resolved, r.checkpoint)
	}
}

// sameStatus compares two statuses but for the moment at which they were stored.
func sameStatus(a, b *record.Status) bool {
	same := a.UID == b.UID && a.Epoch.Compare(b.Epoch) == 0 && a.State == b.State && a.Checkpoint == b.Checkpoint &&
		a.Resolved == b.Resolved && a.SourceID == b.SourceID && a.Spans == b.Spans && a.SyncPoint == b.SyncPoint
	return same && samePosition(a.StartPosition, b.StartPosition) && sameError(a.Error, b.Error) &&
		sameStalled(a.Stalled, b.Stalled)
}

func samePosition(a, b *change.Position) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameError(a, b *record.Error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Code == b.Code && a.Message == b.Message && a.Tries == b.Tries
}

func sameStalled(a, b *record.Stalled) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Reason == b.Reason && a.Node == b.Node && string(a.Start) == string(b.Start) && string(a.End) == string(b.End)
}
