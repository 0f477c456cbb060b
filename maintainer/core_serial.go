package maintainer

import (
	"fencerow/change"
	"fencerow/changefeed"
)

// serialLog is what a core knows of a source with one log.
type serialLog struct {
	is           bool
	served       bool            // the log is read from now on
	acknowledged change.Position // the highest stored checkpoint that the source was told
}

// resolved reports whether the source was asked for what a changefeed that has not begun needs to know.
func (c *Core) resolved() bool {
	if c.serial.is {
		return c.report.sourceID != ""
	}
	return c.report.start != nil
}

// serveLog has the log of a serial source served from now on. Dispatchers that still run need it before anything is placed.
// Crash before the status with the source's identity was stored: the next owner prepares again, which finds what is there.
func (c *Core) serveLog() {
	stored := &c.report.stored.Status
	if !c.serial.is || c.serial.served || stored.SourceID == "" || c.wish == wishPause || c.wish == wishRemove {
		return
	}
	c.serial.served, c.serial.acknowledged = true, stored.Checkpoint
	c.emit(ServeLog{SourceID: stored.SourceID, Stored: stored.Checkpoint})
}

// acknowledge lets the source forget what a stored checkpoint covers: only what a status says that is known to be stored, so
// that no later owner begins below it.
func (c *Core) acknowledge() {
	stored := &c.report.stored.Status
	if !c.serial.served || stored.UID != c.own.Record.UID || stored.Checkpoint <= c.serial.acknowledged {
		return
	}
	c.serial.acknowledged = stored.Checkpoint
	c.emit(Acknowledge{Stored: stored.Checkpoint})
}

// onSourceDropped takes in that the source keeps nothing for the changefeed any more.
func (c *Core) onSourceDropped(in SourceDropped) {
	if c.phase != phaseShutting {
		return
	}
	if in.Err != nil {
		c.sourceFailed(in.Err)
		return
	}
	c.closeHosts()
}

// sourceFailed has the source asked again later, or gives up.
func (c *Core) sourceFailed(err error) {
	fault := changefeed.AsFault(err, changefeed.CodeSourceUnreachable)
	if c.later(&c.step) >= triesMax || fault.Permanent {
		c.fail(fault)
	}
}
