package maintainer

// suspect reads the record, since somebody said that this epoch is over. Until it is confirmed nothing is placed.
func (c *Core) suspect() {
	if c.doubt.effect == nil {
		c.doubt = retried{effect: ReadEpoch{}, asked: true}
		c.emit(ReadEpoch{})
	}
}

// doubtHearsay is suspect for what a message says, which may be forged: it ends nobody, and many of them cost a few
// reads.
func (c *Core) doubtHearsay() { c.hearsay = true }

func (c *Core) weighHearsay() {
	if c.hearsay && c.now.At >= c.nextHearsay {
		c.hearsay, c.nextHearsay = false, c.now.At.Add(c.cfg.ResendMin)
		c.suspect()
	}
}

// onEpoch ends the doubt about the ownership.
func (c *Core) onEpoch(in EpochRead) {
	if in.Err != nil {
		c.later(&c.doubt)
		return
	}
	if in.Ownership.Revision != c.own.Revision {
		c.end(OutcomeDeposed)
		return
	}
	c.doubt = retried{}
	if c.report.stale {
		c.report.stale = false
		c.readBack()
	}
}
