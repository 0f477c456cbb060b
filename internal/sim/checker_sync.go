package sim

// sync: at a sync point the sink holds exactly everything up to there, over all spans and nothing above; each is recorded once,
// and by a changefeed that has the sink.
func (c *Checker) sync(fact SyncFact) error {
	feed := c.feeds[fact.UID]
	if feed == nil {
		return violated(9, "sync point %d of uid %s was recorded, which was never wanted", fact.At, fact.UID)
	}
	if head := c.name(feed.id).head; head.UID != fact.UID || head.Removed {
		return violated(9, "sync point %d of uid %s was recorded, the sink is uid %s's, removed %t", fact.At, fact.UID, head.UID, head.Removed)
	}
	if fact.At <= feed.synced {
		return violated(9, "sync point %d of %v was recorded after %d", fact.At, feed.id, feed.synced)
	}
	feed.synced = fact.At
	for i, change := range c.source {
		if change.Position <= max(feed.start, feed.later) {
			continue
		}
		if done := feed.applied[i]; done != (change.Position <= fact.At) {
			return violated(9, "sync point %d of %v was recorded, and position %d of key %q is in the sink: %t", fact.At, feed.id,
				change.Position, change.Key, done)
		}
	}
	return nil
}
