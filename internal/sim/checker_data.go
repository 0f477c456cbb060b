package sim

import (
	"maps"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

func newFeed(id changefeed.ID, spec *record.Spec) *feed {
	f := &feed{
		uid: spec.UID, id: id, claims: claiming(spec.Sink), applied: map[int]bool{}, last: map[string]int{},
		begins: map[fence.Token]int{}, placed: map[fence.Token]*placement{},
	}
	switch {
	case spec.StartPosition != nil:
		f.begin(*spec.StartPosition, nil)
	case spec.Start == record.StartSnapshot:
		f.begin(0, nil)
	}
	return f
}

func (c *Checker) judgeData(fact Fact) error {
	switch fact := fact.(type) {
	case ForgetFact:
		if feed := c.feeds[fact.UID]; feed == nil || fact.UpTo > feed.checkpoint {
			return violated(10, "the source was let forget what is up to %d for %s, which no stored checkpoint covers", fact.UpTo, fact.UID)
		}
	case SourceFact:
		c.byKey[fact.Key] = append(c.byKey[fact.Key], len(c.source))
		c.source = append(c.source, fact)
	case HeadFact:
		return c.head(fact)
	case ClaimFact:
		return c.claim(fact)
	case WriteFact:
		return c.write(fact)
	case MarksFact:
		if feed := c.feeds[fact.UID]; feed != nil {
			feed.marks = fact.Marks
		}
	case SyncFact:
		return c.sync(fact)
	case BeginFact:
		return c.begin(fact)
	case LandFact:
		return c.land(fact)
	}
	return nil
}

// head: its floor never sinks, and what was removed stays so.
func (c *Checker) head(fact HeadFact) error {
	name := c.name(fact.ID)
	if fact.Floor.OlderThan(name.head.Floor) {
		return violated(3, "the floor of %v sank from %d to %d", fact.ID, name.head.Floor, fact.Floor)
	}
	if name.head.UID == fact.UID && name.head.Removed && !fact.Removed {
		return violated(3, "%v, uid %s, was removed from the sink and came back", fact.ID, fact.UID)
	}
	if feed := c.feeds[fact.UID]; feed != nil && feed.reopened && name.head.UID != fact.UID {
		feed.last = map[string]int{} // a creation of before took the sink back: it knows nothing of what it has written there
	}
	name.head = fact
	return nil
}

// claim: not below the floor, not below a token that holds a part of the span, and not of what was removed.
func (c *Checker) claim(fact ClaimFact) error {
	feed := c.feeds[fact.UID]
	if feed == nil {
		return violated(3, "a claim of uid %s, which was never wanted", fact.UID)
	}
	head := c.name(feed.id).head
	if head.UID != fact.UID || head.Removed {
		return violated(3, "claim %v of %s was granted, the sink is uid %s's, removed %t", fact.Token, fact.UID, head.UID, head.Removed)
	}
	renewal := false
	for _, other := range feed.claimed {
		if !other.Span.Overlaps(fact.Span) {
			continue
		}
		if fact.Token.OlderThan(other.Token) {
			return violated(3, "claim %v of %v was granted over the newer %v", fact.Token, fact.Span, other.Token)
		}
		renewal = renewal || other.Token == fact.Token
	}
	if fact.Token.Epoch().OlderThan(head.Floor) && !renewal {
		return violated(3, "claim %v of %v was granted below the floor %d", fact.Token, fact.Span, head.Floor)
	}
	feed.claimed = append(feed.claimed, fact)
	return nil
}

// write: only the newest claim of a range has an effect there, and each change lands exactly once, in order per key.
func (c *Checker) write(fact WriteFact) error {
	feed := c.feeds[fact.UID]
	if feed == nil {
		return violated(3, "a write of uid %s, which was never wanted", fact.UID)
	}
	if head := c.name(feed.id).head; head.UID != fact.UID || head.Removed {
		return violated(3, "a write of uid %s had an effect, the sink is uid %s's, removed %t", fact.UID, head.UID, head.Removed)
	}
	at := -1
	for i, claim := range feed.claimed {
		if claim.Claim == fact.Claim {
			at = i
		}
	}
	if at < 0 {
		return violated(3, "a write under claim %d had an effect, which was never granted", fact.Claim)
	}
	mine := feed.claimed[at]
	for _, later := range feed.claimed[at+1:] {
		if later.Span.Overlaps(mine.Span) {
			return violated(3, "a write of %v over %v had an effect after %v claimed %v", mine.Token, mine.Span, later.Token, later.Span)
		}
	}
	for _, move := range fact.Moves {
		if !move.page() {
			continue
		}
		if err := c.page(feed, SpanMark{Span: move.Span, Mark: move.To}, fact.Changes); err != nil {
			return err
		}
	}
	for _, written := range fact.Changes {
		if !mine.Span.Contains([]byte(written.Key)) {
			return violated(3, "%v wrote key %q outside of its %v", mine.Token, written.Key, mine.Span)
		}
		at := slices.IndexFunc(fact.Moves, func(move Move) bool { return move.Span.Contains([]byte(written.Key)) })
		if at < 0 {
			return violated(5, "%v wrote key %q where it brought nothing further", mine.Token, written.Key)
		}
		if fact.Moves[at].page() {
			continue
		}
		if err := c.exactlyOnce(feed, written, fact.Moves[at]); err != nil {
			return err
		}
	}
	return nil
}

// page: a page of a snapshot holds exactly what the source held there, and no change that it stands for was written before.
func (c *Checker) page(feed *feed, page SpanMark, changes []Written) error {
	if feed.start != 0 {
		return violated(5, "%v, which starts at %d, has a snapshot of %v in the sink", feed.id, feed.start, page.Span)
	}
	written := map[string]Written{}
	for _, one := range changes {
		if page.Span.Contains([]byte(one.Key)) {
			written[one.Key] = one
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.byKey)) {
		if !page.Span.Contains([]byte(key)) {
			continue
		}
		all := c.byKey[key]
		due := 0
		for due < len(all) && c.source[all[due]].Position <= page.Mark.Position {
			feed.applied[all[due]] = true
			due++
		}
		if feed.last[key] > due {
			return violated(5, "%v: a snapshot at %v brings key %q after later changes of it", feed.id, page.Mark, key)
		}
		feed.last[key] = due
		lives := due > 0 && !c.source[all[due-1]].Deleted
		one, found := written[key]
		if lives != (found && !one.Deleted) || lives && one.Position != c.source[all[due-1]].Position {
			return violated(5, "%v: of a snapshot at %v key %q was written as %+v (found %t), the source holds it %t", feed.id, page.Mark, key, one,
				found, lives)
		}
		delete(written, key)
	}
	for key, one := range written { // any one is enough
		if !one.Deleted {
			return violated(5, "%v: a snapshot at %v brings key %q, which the source never had", feed.id, page.Mark, key)
		}
	}
	return nil
}

// exactlyOnce takes the next change of a key, which must be this one, and of those that the write brought.
func (c *Checker) exactlyOnce(feed *feed, written Written, move Move) error {
	if !feed.started {
		return violated(5, "%v, uid %s, writes before it is known where it starts", feed.id, feed.uid)
	}
	all := c.byKey[written.Key]
	next, seen := feed.last[written.Key]
	if !seen {
		for next < len(all) && c.source[all[next]].Position <= feed.start {
			next++
		}
	}
	if !seen && feed.later > 0 && (next >= len(all) || !c.source[all[next]].is(written, move)) {
		for next < len(all) && c.source[all[next]].Position <= feed.later {
			next++
		}
	}
	if next >= len(all) {
		return violated(5, "%v: a change of key %q was written that is not due (position %d)", feed.id, written.Key, written.Position)
	}
	if want := c.source[all[next]]; !want.is(written, move) {
		return violated(5, "%v: of key %q position %d (delete %t) was written from %v to %v, the next is %d (delete %t)", feed.id, written.Key,
			written.Position, written.Deleted, move.From, move.To, want.Position, want.Deleted)
	}
	feed.last[written.Key] = next + 1
	feed.applied[all[next]] = true
	return nil
}

// is reports whether this change may be the one that was written. A sink keeps no position of what it has deleted, but the
// write says with it from where to where it brought the key.
func (s SourceFact) is(written Written, move Move) bool {
	return s.Deleted == written.Deleted && (s.Deleted || s.Position == written.Position) && move.over(s.Position)
}

// covered: every change at or below a stored checkpoint is in the sink, and a range that nobody has brought so far holds
// the checkpoint.
func (c *Checker) covered(feed *feed, checkpoint change.Position) error {
	if checkpoint == 0 {
		return nil
	}
	if !feed.started {
		return violated(4, "checkpoint %d of %v is stored before it is known where it starts", checkpoint, feed.id)
	}
	for feed.frontier < len(c.source) {
		at := c.source[feed.frontier]
		if at.Position > checkpoint {
			break
		}
		if at.Position > feed.start && !feed.applied[feed.frontier] {
			return violated(4, "checkpoint %d of %v is stored, position %d of key %q is not in the sink", checkpoint, feed.id,
				at.Position, at.Key)
		}
		feed.frontier++
	}
	if !feed.claims || checkpoint <= max(feed.start, feed.later) || c.name(feed.id).head.Removed ||
		feed.reopened && c.name(feed.id).head.UID != feed.uid {
		return nil // a sink that was removed, or that a newer creation has, keeps no marks
	}
	spans := make([]changefeed.Span, 0, len(feed.marks))
	for _, piece := range feed.marks {
		spans = append(spans, piece.Span)
		if piece.Mark.Whole() < checkpoint {
			return violated(6, "checkpoint %d of %v is stored, %v stands at %v", checkpoint, feed.id, piece.Span, piece.Mark)
		}
	}
	for _, gap := range changefeed.Gaps(c.space, spans) {
		return violated(6, "checkpoint %d of %v is stored, nobody ever claimed %v", checkpoint, feed.id, gap)
	}
	return nil
}

// forgotten: a source that forgets no more than it was let forget has nothing lost, so nobody fails for that.
func (c *Checker) forgotten(feed *feed, put *record.Status) error {
	if put.State != changefeed.StateFailed || put.Error == nil || put.Error.Code != changefeed.CodeSourceSlotLost || feed.reopened {
		return nil
	}
	return violated(8, "%v has failed for changes that its source has forgotten, and its sink has: %s", feed.id, put.Error.Message)
}

// begin: where nothing compares tokens, a write of an older token does not begin after one of a newer token that
// overlaps.
func (c *Checker) begin(fact BeginFact) error {
	feed := c.feeds[fact.UID]
	if feed == nil {
		return violated(3, "a write of uid %s, which was never wanted", fact.UID)
	}
	if void, found := c.evicted[evictedKey{fact.Node, fact.UID}]; found && !void.OlderThan(fact.Token) {
		return violated(3, "%v began to write on %s, which has acknowledged that %v is void", fact.Token, fact.Node, void)
	}
	if feed.reopened {
		return nil // who has not noticed yet that the records went back may have written under a token of before
	}
	for _, other := range feed.begun {
		if fact.Token.OlderThan(other.Token) && other.Span.Overlaps(fact.Span) {
			return violated(3, "%v began to write %v of %v after %v began to write %v", fact.Token, fact.Span, feed.id, other.Token,
				other.Span)
		}
	}
	if _, found := feed.begins[fact.Token]; !found {
		feed.begins[fact.Token] = len(feed.begun)
		feed.begun = append(feed.begun, fact)
	}
	return nil
}

func (c *Checker) land(fact LandFact) error {
	feed := c.feeds[fact.UID]
	for _, page := range fact.Pages {
		for key, all := range c.byKey { // each by itself
			for _, at := range all {
				if page.Span.Contains([]byte(key)) && c.source[at].Position <= page.Mark.Position {
					feed.applied[at] = true
				}
			}
		}
	}
	for _, written := range fact.Changes {
		found := false
		for _, at := range c.byKey[written.Key] {
			if c.source[at].Position == written.Position {
				feed.applied[at], found = true, true
			}
		}
		if !found {
			return violated(5, "%v: position %d of key %q was written, which the source never had", feed.id, written.Position, written.Key)
		}
	}
	return nil
}

// placement is a span that an owner asked a host to run.
type placement struct {
	node changefeed.NodeID
	span changefeed.Span
}

// sent: an owner that places a span again uses a new token, never one token for two spans or two hosts.
func (c *Checker) sent(env message.Envelope) error {
	body, ok := env.Body.(message.Place)
	if !ok {
		return nil
	}
	feed := c.feeds[env.UID]
	if feed == nil {
		return violated(6, "a place for uid %s, which was never wanted", env.UID)
	}
	token := body.Token(env.Epoch)
	if feed.reopened {
		return nil // a token of before may come again; the sink tells the two apart by their claims
	}
	if before := feed.placed[token]; before != nil {
		if before.node != env.To || !before.span.Equal(body.Span) {
			return violated(6, "token %v of %v was placed on %s over %v, and on %s over %v", token, env.ID, before.node, before.span, env.To, body.Span)
		}
		return nil
	}
	feed.placed[token] = &placement{node: env.To, span: body.Span}
	return nil
}

// Wanted returns what a copy of the source holds at its end, where the feed brought it: of each key where its value comes
// from, 0 for one that must not be there.
func (c *Checker) Wanted(uid changefeed.UID) map[string]change.Position {
	feed := c.feeds[uid]
	out := map[string]change.Position{}
	for key, all := range c.byKey {
		last := c.source[all[len(all)-1]]
		switch {
		case last.Position <= max(feed.start, feed.later):
		case last.Deleted:
			out[key] = 0
		default:
			out[key] = last.Position
		}
	}
	return out
}

// Behind returns how far below a position the stored checkpoint of a feed is.
func (c *Checker) Behind(uid changefeed.UID, head change.Position) bool {
	feed := c.feeds[uid]
	return feed == nil || feed.checkpoint < head
}
