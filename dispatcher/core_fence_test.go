package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// probe drives a core directly, for one direct test per fence.
type probe struct {
	t    *testing.T
	core *Core
	now  changefeed.Time
}

func newProbe(t *testing.T) *probe {
	t.Helper()
	return &probe{t: t, core: NewCore(CoreConfig{ID: testID, Node: "host"}), now: 1}
}

// owned returns a probe whose host n1 has bootstrapped at epoch 7.
func owned(t *testing.T) *probe {
	t.Helper()
	p := newProbe(t)
	p.step(Observed{Record: epochRecord("u", 7, "n1")})
	p.step(Listed{})
	p.step(from("n1", 7, message.Bootstrap{}))
	return p
}

func epochRecord(uid changefeed.UID, epoch fence.Epoch, owner changefeed.NodeID) record.Epoch {
	return record.Epoch{UID: uid, Epoch: epoch, Owner: owner}
}

func from(owner changefeed.NodeID, epoch fence.Epoch, body message.Body) Deliver {
	return Deliver{Envelope: message.Envelope{ID: testID, UID: "u", Epoch: epoch, From: owner, To: "host", Body: body}}
}

func (p *probe) step(input Input) []Effect {
	p.t.Helper()
	p.now++
	return p.core.Step(p.now, input)
}

// acts are the effects on pumps.
func acts(effects []Effect) []Effect {
	return slices.DeleteFunc(slices.Clone(effects), func(e Effect) bool {
		switch e.(type) {
		case StartPump, StopPump, CancelPump, HoldPump, SyncPump:
			return false
		default:
			return true
		}
	})
}

func rejection(effects []Effect) (message.Rejected, bool) {
	for _, effect := range effects {
		if send, ok := effect.(Send); ok {
			if rejected, ok := send.Envelope.Body.(message.Rejected); ok {
				return rejected, true
			}
		}
	}
	return message.Rejected{}, false
}

// refused asserts that an input has no effect but its refusal.
func (p *probe) refused(rule string, input Input) {
	p.t.Helper()
	effects := p.step(input)
	rejected, found := rejection(effects)
	require.True(p.t, found, "no refusal among %v", effects)
	require.Equal(p.t, rule, rejected.Rule)
	require.Empty(p.t, acts(effects))
}

func place(seq fence.Seq, span string) message.Place {
	return message.Place{Seq: seq, Span: parseSpan(span)}
}

// run places a span and reports its claim.
func (p *probe) run(seq fence.Seq, span string) fence.Token {
	p.t.Helper()
	token := fence.Mint(7, seq)
	require.Len(p.t, acts(p.step(from("n1", 7, place(seq, span)))), 1)
	p.step(Reported{Token: token, Progress: Progress{Claimed: true, Known: true, Mark: change.At(5)}})
	return token
}

// everyCommand is what an owner can say beside Bootstrap.
func everyCommand(token fence.Token) []message.Body {
	return []message.Body{
		place(9, "x-z"),
		message.Stop{Token: token},
		message.Close{},
		message.Close{Removed: true},
		message.ListStatuses{},
		message.Barrier{Number: 1, Position: 9, Action: message.BarrierStop},
	}
}

func TestF9RejectsAnOlderEpoch(t *testing.T) {
	t.Parallel()
	p := owned(t)
	token := p.run(1, "a-m")
	p.step(Observed{Record: epochRecord("u", 8, "n1")}) // the same owner, later
	p.step(from("n1", 8, message.Bootstrap{}))
	for _, body := range append(everyCommand(token), message.Bootstrap{}) {
		p.refused("F9", from("n1", 7, body))
	}
}

func TestF10RejectsAnotherSender(t *testing.T) {
	t.Parallel()
	p := owned(t)
	token := p.run(1, "a-m")
	for _, body := range append(everyCommand(token), message.Bootstrap{}) {
		p.refused("F10", from("n2", 7, body))
	}
}

func TestF11OnlyBootstrapRaises(t *testing.T) {
	t.Parallel()
	p := owned(t)
	token := p.run(1, "a-m")
	for _, body := range everyCommand(token) {
		p.refused("F11", from("n1", 8, body))
	}
	require.Equal(t, fence.Epoch(7), p.core.gate.Held().Epoch)
}

func TestF12NothingBeforeTheListing(t *testing.T) {
	t.Parallel()
	p := newProbe(t)
	p.step(Observed{Record: epochRecord("u", 7, "n1")})
	for _, body := range append(everyCommand(fence.Mint(7, 1)), message.Bootstrap{}) {
		p.refused("F12", from("n1", 7, body))
	}
}

func TestF12BootstrapIsConfirmedByTheRecords(t *testing.T) {
	t.Parallel()
	p := owned(t)
	effects := p.step(from("n2", 8, message.Bootstrap{}))
	require.Equal(t, []Effect{ReadRecord{Request: 1}}, effects)
	require.Equal(t, fence.Epoch(7), p.core.gate.Held().Epoch, "not raised by the message alone")
	p.refused("F12", RecordAnswer{Request: 1, Record: epochRecord("u", 7, "n1"), Found: true})

	p.step(from("n2", 8, message.Bootstrap{}))
	p.refused("F12", RecordAnswer{Request: 2})

	p.step(from("n2", 8, message.Bootstrap{}))
	p.step(RecordAnswer{Request: 3, Record: epochRecord("u", 8, "n2"), Found: true})
	require.Equal(t, fence.Epoch(8), p.core.gate.Held().Epoch)
	p.refused("F9", from("n1", 7, place(1, "a-")))
}

func TestF12PlaceNeedsABootstrapOfItsEpoch(t *testing.T) {
	t.Parallel()
	p := owned(t)
	p.step(Observed{Record: epochRecord("u", 8, "n1")})
	p.refused("F12", from("n1", 8, place(1, "a-")))
}

func TestF13RecordRaisesAtOnce(t *testing.T) {
	t.Parallel()
	p := owned(t)
	p.run(1, "a-m")
	require.Empty(t, acts(p.step(Observed{Record: epochRecord("u", 8, "n2")})), "what runs goes on")
	p.refused("F9", from("n1", 7, place(2, "m-")))
	require.Empty(t, p.step(Observed{Record: epochRecord("u", 6, "n0")}), "an older record lowers nothing")
	require.Equal(t, fence.Epoch(8), p.core.gate.Held().Epoch)
}

func TestF13StopsWithoutOwner(t *testing.T) {
	t.Parallel()
	for name, input := range map[string]Input{
		"a record without owner": Observed{Record: epochRecord("u", 8, "")},
		"a record of a new uid":  Observed{Record: epochRecord("v", 8, "n1")},
		"a deletion":             RecordDeleted{Record: epochRecord("u", 7, "n1")},
		"a deletion of a record that this host had not seen yet": RecordDeleted{Record: epochRecord("u", 9, "n2")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := owned(t)
			token := p.run(1, "a-m")
			require.Equal(t, []Effect{CancelPump{Token: token}}, acts(p.step(input)))
		})
	}
}

func TestF13ARaiseDropsWhatWaits(t *testing.T) {
	t.Parallel()
	p := owned(t)
	lower := p.run(1, "a-m")
	require.Equal(t, []Effect{CancelPump{Token: lower}}, acts(p.step(from("n1", 7, place(2, "a-m")))))
	p.step(Observed{Record: epochRecord("u", 8, "n2")})
	require.Empty(t, acts(p.step(DispatcherEnded{Token: lower})), "the old owner's placement starts nothing any more")
	require.Zero(t, p.core.Running())
}

func TestF14EpochZeroIsInvalid(t *testing.T) {
	t.Parallel()
	p := owned(t)
	for _, body := range append(everyCommand(fence.Mint(0, 1)), message.Bootstrap{}) {
		p.refused("F14", from("n1", 0, body))
	}
}

func TestF15AnotherOrRemovedUID(t *testing.T) {
	t.Parallel()
	p := owned(t)
	for _, body := range everyCommand(fence.Mint(7, 1)) {
		deliver := from("n1", 7, body)
		deliver.Envelope.UID = "v"
		p.refused("F15", deliver)
	}
	p.step(from("n1", 7, message.Close{Removed: true}))
	p.refused("F15", from("n1", 7, place(1, "a-")))
	p.refused("F15", from("n1", 7, message.Bootstrap{}))
	p.refused("F15", from("n1", 8, message.Bootstrap{}))
}

func TestF16StoppedTokens(t *testing.T) {
	t.Parallel()
	p := owned(t)
	p.step(from("n1", 7, message.Stop{Token: fence.Mint(7, 4)}))
	p.refused("F16", from("n1", 7, place(4, "x-z"))) // unknown when it was stopped

	token := p.run(5, "a-m")
	p.step(from("n1", 7, message.Stop{Token: token}))
	p.step(DispatcherEnded{Token: token})
	p.refused("F16", from("n1", 7, place(5, "a-m")))
	p.refused("F16", from("n1", 7, place(5, "x-z"))) // whatever its span
}

func TestF16HigherTokensOfTheSpan(t *testing.T) {
	t.Parallel()
	p := owned(t)
	token := p.run(5, "a-m")
	p.refused("F16", from("n1", 7, place(4, "c-d")))
	p.step(from("n1", 7, message.Stop{Token: token}))
	p.refused("F16", from("n1", 7, place(3, "c-d")))
	p.step(DispatcherEnded{Token: token})
	p.refused("F16", from("n1", 7, place(2, "c-d"))) // also when the higher one is gone
	require.Len(t, acts(p.step(from("n1", 7, place(1, "m-p")))), 1, "a lower token beside it is welcome")
}

func TestF16EvictedTokens(t *testing.T) {
	t.Parallel()
	p := owned(t)
	token := p.run(5, "a-m")
	require.Empty(t, acts(p.step(from("n1", 7, place(6, "m-p"))))[1:], "one starts")
	p.step(from("n1", 7, place(7, "a-m"))) // waits for 5
	effects := p.step(Evicted{UID: "u", Token: fence.Mint(7, 7)})
	require.Equal(t, []Effect{CancelPump{Token: fence.Mint(7, 6)}}, acts(effects), "5 is revoked already")
	p.refused("F16", from("n1", 7, place(7, "x-z")))
	p.refused("F16", from("n1", 7, place(2, "x-z")))
	require.Empty(t, acts(p.step(DispatcherEnded{Token: token})), "what waited was voided too")
	effects = p.step(DispatcherEnded{Token: fence.Mint(7, 6)})
	require.IsType(t, AcknowledgeEviction{}, effects[0])
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	p := owned(t)
	for seq := fence.Seq(1); seq <= 3*stoppedMax; seq++ { // hazard 47
		p.step(from("n1", 7, message.Stop{Token: fence.Mint(7, seq)}))
		token := fence.Mint(7, seq+100_000)
		p.step(from("n1", 7, place(token.Seq(), "a-b")))
		p.step(DispatcherEnded{Token: token, Fenced: true})
	}
	m := &p.core.memory
	require.LessOrEqual(t, len(m.stopped)+len(m.unknown), stoppedMax)
	require.LessOrEqual(t, len(m.finals), finalsMax)
	for _, seq := range []fence.Seq{1, stoppedMax, 3 * stoppedMax, 100_001, 100_000 + 3*stoppedMax} {
		p.refused("F16", from("n1", 7, place(seq, "x-z")))
	}
}

// A million spans over a hundred hosts: an idle host's heartbeat does not look at its ten thousand dispatchers.
func TestHeartbeatTellsInTurn(t *testing.T) {
	t.Parallel()
	const spans = 10_000
	p := owned(t)
	for seq := fence.Seq(1); seq <= spans; seq++ {
		start, end := []byte{byte(seq >> 8), byte(seq)}, []byte{byte((seq + 1) >> 8), byte(seq + 1)}
		p.step(from("n1", 7, message.Place{Seq: seq, Span: changefeed.Span{Start: start, End: end}}))
		p.step(Reported{Token: fence.Mint(7, seq), Progress: Progress{Claimed: true, Known: true, Mark: change.At(5)}})
	}
	told := make(map[fence.Token]bool)
	var beats, last uint64
	for len(told) < spans {
		p.now = p.now.Add(heartbeatEvery)
		for _, effect := range p.step(Tick{}) {
			send, ok := effect.(Send)
			require.True(t, ok)
			beat, ok := send.Envelope.Body.(message.Heartbeat)
			require.True(t, ok)
			require.Greater(t, beat.Number, last)
			require.LessOrEqual(t, len(beat.Changed), changedMax+progressMax+1)
			require.EqualValues(t, spans, beat.Set.Count)
			require.EqualValues(t, 5, beat.Checkpoint)
			last = beat.Number
			beats++
			for i := range beat.Changed {
				told[beat.Changed[i].Token] = true
			}
		}
	}
	require.Less(t, beats, uint64(spans/progressMax+spans/changedMax+10))
}

func BenchmarkIdleHeartbeat(b *testing.B) {
	core := NewCore(CoreConfig{ID: testID, Node: "host"})
	core.Step(1, Observed{Record: epochRecord("u", 7, "n1")})
	core.Step(1, Listed{})
	core.Step(1, from("n1", 7, message.Bootstrap{}))
	now := changefeed.Time(1)
	for seq := fence.Seq(1); seq <= 10_000; seq++ {
		start, end := []byte{byte(seq >> 8), byte(seq)}, []byte{byte((seq + 1) >> 8), byte(seq + 1)}
		core.Step(now, from("n1", 7, message.Place{Seq: seq, Span: changefeed.Span{Start: start, End: end}}))
		core.Step(now, Reported{Token: fence.Mint(7, seq), Progress: Progress{Claimed: true, Known: true, Mark: change.At(5)}})
	}
	for range 1000 {
		now = now.Add(heartbeatEvery)
		core.Step(now, Tick{})
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		core.Step(now, Tick{})
	}
}
