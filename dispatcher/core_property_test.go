package dispatcher

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// model watches what a core does, and knows what it must never do.
type model struct {
	core     *Core
	now      changefeed.Time
	running  map[fence.Token]changefeed.Span
	uids     map[fence.Token]changefeed.UID
	covered  map[fence.Token]bool // claimed, and not asked to stop
	started  map[fence.Token]bool
	stopped  map[fence.Token]bool // asked to, by an owner at its epoch
	void     fence.Token
	asked    []uint64
	number   uint64
	acked    int
	finished bool

	told  map[fence.Token]HoldPump // the last of each
	obeys map[fence.Token]Progress // what it reported last
}

func newModel() *model {
	return &model{
		core: NewCore(CoreConfig{ID: testID, Node: "host"}), now: 1,
		running: map[fence.Token]changefeed.Span{}, uids: map[fence.Token]changefeed.UID{},
		covered: map[fence.Token]bool{}, started: map[fence.Token]bool{}, stopped: map[fence.Token]bool{},
		told: map[fence.Token]HoldPump{}, obeys: map[fence.Token]Progress{},
	}
}

func (m *model) step(t *rapid.T, input Input) {
	switch in := input.(type) {
	case DispatcherEnded:
		delete(m.running, in.Token)
		delete(m.covered, in.Token)
	case Reported:
		if _, runs := m.running[in.Token]; runs && !m.stopped[in.Token] {
			m.covered[in.Token] = true
		}
		m.obeys[in.Token] = in.Progress
	case Evicted:
		if m.void.OlderThan(in.Token) {
			m.void = in.Token
		}
	}
	for _, effect := range m.core.Step(m.now, input) {
		if err := m.check(effect); err != nil {
			t.Fatalf("%T %+v: %v", input, input, err)
		}
	}
	held := m.core.gate.Held()
	for token := range m.running {
		if m.stopped[token] {
			continue
		}
		if string(m.uids[token]) != held.UID || held.Owner == "" || m.core.gate.Removed() || !m.void.OlderThan(token) {
			t.Fatalf("%T %+v: %v goes on although the gate holds %+v, void %v", input, input, token, held, m.void)
		}
	}
	if m.core.Running() != len(m.running) {
		t.Fatalf("the core counts %d pumps, %d run", m.core.Running(), len(m.running))
	}
}

func (m *model) check(effect Effect) error {
	held := m.core.gate.Held()
	switch e := effect.(type) {
	case StartPump:
		for token, span := range m.running {
			if span.Overlaps(e.Span) {
				return fmt.Errorf("starts %v beside %v that overlaps", e.Token, token)
			}
		}
		switch {
		case m.started[e.Token]:
			return fmt.Errorf("starts %v twice", e.Token)
		case m.stopped[e.Token]:
			return fmt.Errorf("starts %v that was stopped", e.Token)
		case !m.void.OlderThan(e.Token):
			return fmt.Errorf("starts %v that is void", e.Token)
		case e.Token.Epoch() != held.Epoch || string(e.UID) != held.UID || m.core.gate.Removed() || m.finished:
			return fmt.Errorf("starts %v while %+v is held", e.Token, held)
		}
		m.started[e.Token] = true
		m.running[e.Token], m.uids[e.Token] = e.Span, e.UID
		m.told[e.Token] = HoldPump{Token: e.Token, Order: e.Order, At: e.Hold}
	case HoldPump, SyncPump:
		return m.checkHold(effect)
	case StopPump:
		return m.ends(e.Token)
	case CancelPump:
		return m.ends(e.Token)
	case AcknowledgeEviction:
		for token := range m.running {
			if !e.Token.OlderThan(token) {
				return fmt.Errorf("acknowledges an eviction up to %v while %v runs", e.Token, token)
			}
		}
		m.acked++
	case ReadRecord:
		m.asked = append(m.asked, e.Request)
	case Send:
		return m.checkSend(e.Envelope, held)
	}
	return nil
}

// checkHold: what a pump is told of barriers only goes on, and only one that says that it stands there is to record it.
func (m *model) checkHold(effect Effect) error {
	switch e := effect.(type) {
	case HoldPump:
		before, runs := m.told[e.Token]
		if _, running := m.running[e.Token]; !running || !runs || e.Order < before.Order || e.Order == before.Order && e.At != before.At {
			return fmt.Errorf("tells %v %+v after %+v", e.Token, e, before)
		}
		m.told[e.Token] = e
	case SyncPump:
		progress := m.obeys[e.Token]
		if told := m.told[e.Token]; told.At != e.At || progress.Order != told.Order || progress.Mark != change.At(e.At) {
			return fmt.Errorf("has %v record %d, which was told %+v and is at %+v", e.Token, e.At, told, progress)
		}
	}
	return nil
}

// checkHeld: a host that says that all obey a decision says so of dispatchers that were told of it, and have said that they obey.
func (m *model) checkHeld(held message.Held) error {
	if held.Number == 0 {
		return nil
	}
	for token := range m.covered {
		if told := m.told[token]; told.At != held.Position || m.obeys[token].Order != told.Order || held.Position == 0 {
			return fmt.Errorf("says %+v while %v was told %+v and obeys %d", held, token, told, m.obeys[token].Order)
		}
	}
	return nil
}

func (m *model) ends(token fence.Token) error {
	if _, runs := m.running[token]; !runs {
		return fmt.Errorf("ends %v that does not run", token)
	}
	m.stopped[token] = true
	delete(m.covered, token)
	return nil
}

func (m *model) checkSend(envelope message.Envelope, held fence.Claimant) error {
	if m.finished {
		return fmt.Errorf("says %v after the session", envelope.Body.Kind())
	}
	if _, closed := envelope.Body.(message.Closed); closed && m.core.gate.Removed() && len(m.running) == 0 &&
		string(envelope.UID) == held.UID && held.Epoch.OlderThan(envelope.Epoch) {
		return nil // a later owner is told that nothing of the removed uid runs
	}
	if envelope.Body.Kind() == message.KindRejected {
		return nil
	}
	if string(envelope.To) != held.Owner || envelope.Epoch != held.Epoch || string(envelope.UID) != held.UID {
		return fmt.Errorf("tells %s at %d while %+v is held", envelope.To, envelope.Epoch, held)
	}
	beat, ok := envelope.Body.(message.Heartbeat)
	if !ok {
		return nil
	}
	if beat.Number <= m.number {
		return fmt.Errorf("heartbeat %d after %d", beat.Number, m.number)
	}
	m.number = beat.Number
	var set message.Digest
	for token := range m.covered {
		set.Add(m.running[token], token)
	}
	if set != beat.Set {
		return fmt.Errorf("heartbeat of %d dispatchers, %d are claimed and go on", beat.Set.Count, set.Count)
	}
	return m.checkHeld(beat.Held)
}

// TestRandomInputs holds the invariants of the core over random inputs: lost, late, repeated and forged ones.
func TestRandomInputs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		if rapid.IntRange(0, 9).Draw(t, "listed first") > 0 {
			m.step(t, Listed{})
		}
		for range rapid.IntRange(1, 120).Draw(t, "inputs") {
			m.step(t, m.draw(t))
			m.now += changefeed.Time(rapid.SampledFrom([]int64{0, 1e6, 2e7, 6e8}).Draw(t, "pause"))
		}
	})
}

func (m *model) draw(t *rapid.T) Input {
	epoch := fence.Epoch(rapid.Uint64Range(0, 6).Draw(t, "epoch"))
	token := fence.Mint(epoch, fence.Seq(rapid.Uint64Range(0, 8).Draw(t, "seq")))
	// The owner and the uid of an epoch are mostly what the records say.
	owner := changefeed.NodeID(fmt.Sprintf("n%d", epoch%3))
	if rapid.IntRange(0, 9).Draw(t, "forged") == 0 {
		owner = "n9"
	}
	uid := changefeed.UID("u")
	if epoch > 4 {
		uid = "v"
	}
	kept := record.Epoch{UID: uid, Epoch: epoch, Owner: changefeed.NodeID(fmt.Sprintf("n%d", epoch%3))}
	if epoch == 3 {
		kept.Owner = ""
	}
	switch rapid.SampledFrom([]string{
		"observe", "answer", "bootstrap", "bootstrap", "place", "place", "place", "place", "stop", "close", "list", "report",
		"report", "ended", "ended", "evict", "tick", "tick", "deleted", "barrier", "end",
	}).Draw(t, "input") {
	case "observe":
		return Observed{Record: kept}
	case "deleted":
		return RecordDeleted{Record: kept}
	case "answer":
		if len(m.asked) == 0 {
			return Listed{}
		}
		request := rapid.SampledFrom(m.asked).Draw(t, "request")
		return RecordAnswer{Request: request, Record: kept, Found: rapid.Bool().Draw(t, "found")}
	case "report":
		reporter := m.one(t, token)
		progress := Progress{Claimed: true, Known: true, Mark: change.At(5), Order: m.obeys[reporter].Order}
		if rapid.IntRange(0, 2).Draw(t, "obeys") > 0 {
			progress.Order = m.told[reporter].Order
		}
		if rapid.Bool().Draw(t, "far") {
			progress.Mark = change.At(9)
		}
		return Reported{Token: reporter, Progress: progress}
	case "ended":
		return DispatcherEnded{Token: m.one(t, token), Fenced: rapid.Bool().Draw(t, "fenced")}
	case "evict":
		if rapid.IntRange(0, 4).Draw(t, "rarely") > 0 {
			return Tick{}
		}
		return Evicted{UID: uid, Token: token}
	case "tick":
		return Tick{}
	case "end":
		if rapid.IntRange(0, 19).Draw(t, "rarely") > 0 {
			return Listed{}
		}
		m.finished = true
		return SessionEnded{}
	}
	return Deliver{Envelope: message.Envelope{
		ID: testID, UID: uid, Epoch: epoch, From: owner, To: "host", Body: m.drawBody(t, token),
	}}
}

// one returns mostly a token that runs.
func (m *model) one(t *rapid.T, otherwise fence.Token) fence.Token {
	for epoch := range fence.Epoch(7) {
		for seq := range fence.Seq(9) {
			token := fence.Mint(epoch, seq)
			if _, runs := m.running[token]; runs && rapid.Bool().Draw(t, "this") {
				return token
			}
		}
	}
	return otherwise
}

func (m *model) drawBody(t *rapid.T, token fence.Token) message.Body {
	start := rapid.IntRange(0, 5).Draw(t, "start")
	span := changefeed.Span{Start: []byte{byte('a' + start)}, End: []byte{byte('a' + start + rapid.IntRange(0, 3).Draw(t, "width"))}}
	switch rapid.SampledFrom([]string{"bootstrap", "bootstrap", "place", "place", "place", "stop", "close", "list", "barrier"}).Draw(t, "body") {
	case "bootstrap":
		return message.Bootstrap{SpecRevision: 1}
	case "place":
		if rapid.IntRange(0, 3).Draw(t, "with a barrier") == 0 {
			return message.Place{Seq: token.Seq(), Span: span, Barrier: drawBarrier(t)}
		}
		return message.Place{Seq: token.Seq(), Span: span}
	case "stop":
		stopped := m.one(t, token)
		return message.Stop{Token: stopped, At: change.At(change.Position(rapid.SampledFrom([]uint64{0, 9}).Draw(t, "at")))}
	case "close":
		return message.Close{Removed: rapid.IntRange(0, 3).Draw(t, "removed") == 0}
	case "barrier":
		return drawBarrier(t)
	default:
		return message.ListStatuses{}
	}
}

func drawBarrier(t *rapid.T) message.Barrier {
	return message.Barrier{
		Number:   rapid.Uint64Range(0, 4).Draw(t, "number"),
		Position: change.Position(rapid.SampledFrom([]uint64{0, 5, 9, 9, 9}).Draw(t, "position")),
		Action:   message.BarrierAction(rapid.IntRange(0, 4).Draw(t, "action")), //nolint:gosec // small
	}
}
