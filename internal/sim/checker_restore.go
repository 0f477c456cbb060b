package sim

import (
	"fencerow/change"
	"fencerow/fence"
)

// restore forgets what the records said: they are those of a backup, and epochs, tokens and checkpoints of before may come
// again. What sinks hold is as it was, and must stay right.
func (c *Checker) restore() {
	c.restoring = true
	c.candidates, c.evicted = map[string]int64{}, map[evictedKey]fence.Token{}
	c.known = map[knownKey]fence.Claimant{} // a host that asks the records is told an epoch of before again
	for _, name := range c.names {          // each by itself
		*name = named{head: name.head}
	}
	for _, feed := range c.feeds { // each by itself
		feed.checkpoint, feed.reopened = 0, true
		feed.begun, feed.begins, feed.placed = nil, map[fence.Token]int{}, map[fence.Token]*placement{}
	}
}

// restored takes in a record of the backup.
func (c *Checker) restored(fact Fact) {
	switch fact := fact.(type) {
	case CommitFact:
		c.restoring = false
	case CandidateFact:
		c.candidate(fact)
	case EpochFact:
		name := c.name(fact.ID)
		name.epoch, name.highest = fact.Put, fact.Put.Epoch
	case SpecFact:
		name := c.name(fact.ID)
		name.spec, name.specAt = fact.Put, fact.Revision
	case StatusFact:
		name := c.name(fact.ID)
		name.status = fact.Put
		if feed := c.feeds[fact.Put.UID]; feed != nil {
			feed.checkpoint = fact.Put.Checkpoint
		}
	}
}

// begin notes where the feed starts: changes at or below it are none of its. One whose start was stored only after the
// backup may be given another one, from which on everything counts that the sink does not hold already.
func (f *feed) begin(position change.Position, source []SourceFact) {
	switch {
	case !f.started:
		f.start, f.started = position, true
	case f.reopened && position > f.start:
		for at := range source {
			if source[at].Position <= position {
				f.applied[at] = true
			}
		}
		f.later = max(f.later, position)
	}
}
