package maintainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

func owned(epoch fence.Epoch, owner changefeed.NodeID, uid changefeed.UID) Ownership {
	return Ownership{
		ID: testID, Revision: int64(epoch), Record: record.Epoch{UID: uid, Epoch: epoch, Owner: owner},
	}
}

func starts(effects []HostEffect) []fence.Epoch {
	var out []fence.Epoch
	for _, effect := range effects {
		if start, ok := effect.(StartMaintainer); ok {
			out = append(out, start.Ownership.Record.Epoch)
		}
	}
	return out
}

func stops(effects []HostEffect) []fence.Epoch {
	var out []fence.Epoch
	for _, effect := range effects {
		if stop, ok := effect.(StopMaintainer); ok {
			out = append(out, stop.Epoch)
		}
	}
	return out
}

func TestF6NewEpochWaitsUntilTheOlderMaintainerHasStopped(t *testing.T) {
	core := NewHostCore("n1")
	require.Equal(t, []fence.Epoch{5}, starts(core.Step(RecordObserved{Record: owned(5, "n1", "u1")})))
	effects := core.Step(RecordObserved{Record: owned(6, "n1", "u1")})
	require.Empty(t, starts(effects))
	require.Equal(t, []fence.Epoch{5}, stops(effects))
	require.Empty(t, core.Step(RecordObserved{Record: owned(7, "n1", "u1")}), "told to stop once")
	require.Equal(t, []fence.Epoch{7}, starts(core.Step(MaintainerEnded{ID: testID, Epoch: 5})))
}

func TestF6AnEpochStartsAtMostOncePerNode(t *testing.T) {
	core := NewHostCore("n1")
	require.Len(t, starts(core.Step(RecordObserved{Record: owned(5, "n1", "u1")})), 1)
	require.Empty(t, core.Step(MaintainerEnded{ID: testID, Epoch: 5}))
	require.Empty(t, core.Step(RecordObserved{Record: owned(5, "n1", "u1")}))
	require.Empty(t, core.Step(RecordsListed{Records: []Ownership{owned(5, "n1", "u1")}}))
}

func TestF7OnlyTheNamedOwnerStarts(t *testing.T) {
	core := NewHostCore("n1")
	require.Empty(t, core.Step(RecordObserved{Record: owned(5, "n2", "u1")}))
	require.Empty(t, core.Step(RecordObserved{Record: owned(6, "", "u1")}))
	require.Equal(t, []fence.Epoch{7}, starts(core.Step(RecordObserved{Record: owned(7, "n1", "u1")})))
}

func TestF8WhatIsSupersededStops(t *testing.T) {
	for name, in := range map[string]HostInput{
		"a higher epoch":               RecordObserved{Record: owned(6, "n1", "u1")},
		"another owner at an epoch":    RecordObserved{Record: owned(5, "n2", "u1")},
		"another uid at an epoch":      RecordObserved{Record: owned(5, "n1", "u2")},
		"deletion":                     RecordDeleted{ID: testID},
		"deletion seen by a new list":  RecordsListed{},
		"the end of the session":       SessionEnded{},
		"nobody owns it any more":      RecordObserved{Record: owned(6, "", "u1")},
		"created again, another owner": RecordObserved{Record: owned(9, "n2", "u2")},
	} {
		t.Run(name, func(t *testing.T) {
			core := NewHostCore("n1")
			core.Step(RecordObserved{Record: owned(5, "n1", "u1")})
			require.Equal(t, []fence.Epoch{5}, stops(core.Step(in)))
		})
	}
	core := NewHostCore("n1")
	core.Step(RecordObserved{Record: owned(5, "n1", "u1")})
	require.Empty(t, core.Step(RecordObserved{Record: owned(4, "n2", "u1")}), "an older record changes nothing")
}

// hazard 31
func TestSlowStopHoldsUpNoOtherChangefeed(t *testing.T) {
	core := NewHostCore("n1")
	core.Step(RecordObserved{Record: owned(5, "n1", "u1")})
	core.Step(RecordDeleted{ID: testID})
	other := owned(8, "n1", "u8")
	other.ID.Name = "b"
	require.Equal(t, []fence.Epoch{8}, starts(core.Step(RecordObserved{Record: other})))
}

// active brings a bench to a running changefeed: everything on n1 under token 5.1.
func active(t *testing.T, nodes ...string) (*bench, message.Status) {
	t.Helper()
	b := newBench(5, append([]string{"n1"}, nodes...)...)
	b.step(Started{})
	for _, node := range b.nodes.Nodes {
		b.from(string(node.ID), message.BootstrapReply{})
	}
	placed, found := b.lastSent(message.KindPlace)
	require.True(t, found)
	require.Equal(t, changefeed.NodeID("n1"), placed.To)
	running := statusOf(changefeed.Whole(), fence.Mint(5, 1), message.DispatcherRunning, 100)
	b.from("n1", message.Statuses{Statuses: []message.Status{running}})
	b.from("n1", message.Heartbeat{Number: 1, Set: digestOf(running), Checkpoint: 100, Resolved: 100})
	b.pass(1200 * time.Millisecond)
	require.Equal(t, "running at 100, spans 1", describeStatus(&b.status.Status))
	b.taken()
	b.sent = nil
	return b, running
}

// hazard 21
func TestF17ReplyOfAnotherEpochCompletesNothing(t *testing.T) {
	b := newBench(5, "n1")
	b.step(Started{})
	old := message.Envelope{ID: testID, UID: "u1", Epoch: 4, From: "n1", To: "n1", Body: message.BootstrapReply{}}
	b.step(Received{Envelope: old})
	b.pass(time.Second)
	require.Zero(t, b.countSent(message.KindPlace), "an answer to an older owner is none to this one")
	other := old
	other.Epoch, other.UID = 5, "u0"
	b.step(Received{Envelope: other})
	require.Zero(t, b.countSent(message.KindPlace), "another uid is another changefeed")
	b.from("n1", message.BootstrapReply{})
	require.Equal(t, 1, b.countSent(message.KindPlace))
}

func TestF17HeartbeatOfAnOlderEpochMovesNothing(t *testing.T) {
	b, running := active(t)
	b.step(Received{Envelope: message.Envelope{
		ID: testID, UID: "u1", Epoch: 4, From: "n1",
		Body: message.Heartbeat{Number: 9, Set: digestOf(running), Checkpoint: 300, Resolved: 300},
	}})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(100), b.status.Status.Checkpoint)
}

func TestF17ReportOfANewerEpochDeposes(t *testing.T) {
	b, _ := active(t)
	writes := len(b.writes)
	b.current.Revision++
	b.step(Received{Envelope: message.Envelope{ID: testID, UID: "u1", Epoch: 6, From: "n1", Body: message.Closed{}}})
	require.Equal(t, OutcomeDeposed, b.outcome, "the record says so too")
	b.pass(30 * time.Second)
	require.Len(t, b.writes, writes, "nothing is stored after it")
	require.Empty(t, b.sent)
}

// hazard 25
func TestF18StatusOfAnotherPlacementMovesNothing(t *testing.T) {
	for name, status := range map[string]message.Status{
		"an older token":   statusOf(changefeed.Whole(), fence.Mint(4, 9), message.DispatcherStopped, 900),
		"another seq":      statusOf(changefeed.Whole(), fence.Mint(5, 2), message.DispatcherRunning, 900),
		"another span":     statusOf(span("a", "b"), fence.Mint(5, 1), message.DispatcherStopped, 900),
		"no token, failed": statusOf(changefeed.Whole(), fence.Token{}, message.DispatcherFailed, 900),
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := active(t, "n2")
			b.from("n1", message.Statuses{Statuses: []message.Status{status}})
			b.pass(1200 * time.Millisecond)
			require.Equal(t, "running at 100, spans 1", describeStatus(&b.status.Status))
			require.Zero(t, b.countSent(message.KindPlace))
		})
	}
	b, running := active(t, "n2")
	running.State, running.Mark = message.DispatcherStopped, change.At(900)
	b.from("n2", message.Statuses{Statuses: []message.Status{running}})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(100), b.status.Status.Checkpoint, "another host does not speak for it")
}

func TestF18WatermarkOfAnotherSetMovesNothing(t *testing.T) {
	b, running := active(t)
	b.from("n1", message.Heartbeat{Number: 2, Set: message.Digest{}, Checkpoint: 900, Resolved: 900})
	b.from("n1", message.Heartbeat{Number: 3, Set: digestOf(running, running), Checkpoint: 900, Resolved: 900})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(100), b.status.Status.Checkpoint)
	require.NotZero(t, b.countSent(message.KindListStatuses), "a full list is asked for")
	b.from("n1", message.Heartbeat{Number: 4, Set: digestOf(running), Checkpoint: 200, Resolved: 200})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(200), b.status.Status.Checkpoint)
}

// hazard 26
func TestHeartbeatsThatComeLateMoveNothing(t *testing.T) {
	b, running := active(t)
	b.from("n1", message.Heartbeat{Number: 7, Set: digestOf(running), Checkpoint: 200, Resolved: 200})
	failed := running
	failed.State, failed.Fault = message.DispatcherFailed, &changefeed.Fault{Code: changefeed.CodeSinkFull}
	b.from("n1", message.Heartbeat{Number: 6, Set: digestOf(running), Checkpoint: 150, Resolved: 150, Changed: []message.Status{failed}})
	b.pass(1200 * time.Millisecond)
	require.Equal(t, "running at 200, spans 1", describeStatus(&b.status.Status))
}

// hazard 23
func TestF19SpansOfALostNodeWait(t *testing.T) {
	lose := func(b *bench) {
		b.nodes = Nodes{Revision: b.nodes.Revision + 1, Nodes: b.nodes.Nodes[1:]}
		b.step(NodesWatched{Nodes: b.nodes})
	}
	t.Run("one TTL where the sink keeps nobody out", func(t *testing.T) {
		b, _ := active(t, "n2")
		b.core.fencing = FencedByNothing
		lose(b)
		b.pass(4900 * time.Millisecond)
		require.Zero(t, b.countSent(message.KindPlace))
		b.pass(200 * time.Millisecond)
		require.Equal(t, 1, b.countSent(message.KindPlace))
	})
	t.Run("not at all where the node ended by itself", func(t *testing.T) {
		b, _ := active(t, "n2")
		b.core.fencing = FencedByNothing
		b.nodes.Nodes[0].Liveness, b.nodes.Revision = record.Stopping, 2
		b.step(NodesWatched{Nodes: b.nodes})
		lose(b)
		require.Equal(t, 1, b.countSent(message.KindPlace))
	})
	t.Run("not at all under claims", func(t *testing.T) {
		b, _ := active(t, "n2")
		lose(b)
		require.Equal(t, 1, b.countSent(message.KindPlace))
	})
	t.Run("a list that is older than what is known loses nobody", func(t *testing.T) {
		b, _ := active(t, "n2")
		b.step(NodesWatched{Nodes: Nodes{Revision: 0, Nodes: b.nodes.Nodes[1:]}})
		b.pass(3 * time.Second) // less than the silence for which a node is given up under claims
		require.Zero(t, b.countSent(message.KindPlace))
	})
}

// hazard 23: the node that ran it was gone before the new owner listed.
func TestF19RangesOfNodesThatWereNeverSeenWait(t *testing.T) {
	for fencing, wait := range map[Fencing]time.Duration{FencedByNothing: 5 * time.Second, FencedByClaims: 0} {
		b := newBench(5, "n1").ran(100, 1)
		b.fencing = fencing
		b.step(Started{})
		b.from("n1", message.BootstrapReply{})
		if wait > 0 {
			b.pass(wait - 100*time.Millisecond)
			require.Zero(t, b.countSent(message.KindPlace))
			b.pass(200 * time.Millisecond)
		}
		require.Equal(t, 1, b.countSent(message.KindPlace))
	}
	b := newBench(5, "n1").ran(100, 0)
	b.fencing = FencedByNothing
	b.step(Started{})
	b.from("n1", message.BootstrapReply{})
	require.Equal(t, 1, b.countSent(message.KindPlace), "the last owner said that nothing ran")
}

// hazard 22
func TestF19LiveNodeThatNeverAnswersIsWaitedFor(t *testing.T) {
	for fencing, placed := range map[Fencing]int{FencedByNothing: 0, FencedByClaims: 1} {
		b := newBench(5, "n1", "n2").ran(100, 1)
		b.fencing = fencing
		b.step(Started{})
		b.from("n1", message.BootstrapReply{})
		b.pass(2 * time.Second)
		require.Zero(t, b.countSent(message.KindPlace))
		require.Contains(t, describeStatus(&b.status.Status), `stalled: the node does not answer the bootstrap (node "n2"`)
		b.pass(20 * time.Second)
		require.Equal(t, placed > 0, b.countSent(message.KindPlace) > 0)
		require.Less(t, b.countSent(message.KindBootstrap), 14, "asked again with growing delays")
		require.Equal(t, changefeed.StateStalled, b.status.Status.State)
	}
}

func TestF20GapHoldsTheCheckpoint(t *testing.T) {
	left := statusOf(span("", "m"), fence.Mint(4, 1), message.DispatcherRunning, 200)
	b := newBench(5, "n1").ran(100, 2)
	b.fencing = FencedByNothing
	b.step(Started{})
	b.from("n1", message.BootstrapReply{Dispatchers: []message.Status{left}})
	b.from("n1", message.Heartbeat{Number: 1, Set: digestOf(left), Checkpoint: 300, Resolved: 300})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(100), b.status.Status.Checkpoint, "the gap from m on holds it")
	b.pass(4 * time.Second)
	right := statusOf(span("m", ""), fence.Mint(5, 1), message.DispatcherRunning, 250)
	b.from("n1", message.Statuses{Statuses: []message.Status{right}})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(250), b.status.Status.Checkpoint)
}

func TestF20StoppedSpanHoldsTheCheckpointWhereItWasLeft(t *testing.T) {
	b, running := active(t)
	b.core.doubt.effect = ReadEpoch{} // nothing is placed while the ownership is in doubt
	b.core.doubt.asked = true
	running.State, running.Mark = message.DispatcherStopped, change.At(150)
	b.from("n1", message.Statuses{Statuses: []message.Status{running}})
	b.from("n1", message.Heartbeat{Number: 3, Checkpoint: 900, Resolved: 900})
	b.pass(2 * time.Second)
	require.Equal(t, change.Position(150), b.status.Status.Checkpoint)
}

func TestF26FloorIsRaisedBeforeAnything(t *testing.T) {
	b := newBench(5, "n1").ran(100, 1)
	b.fails["raise"] = errUnreachable
	b.step(Started{})
	require.Empty(t, b.sent)
	require.Contains(t, b.taken(), "raise the floor to 5")
	b.pass(200 * time.Millisecond)
	require.Empty(t, b.sent, "nobody is asked, nothing adopted or placed while the floor is not up")
	delete(b.fails, "raise")
	b.pass(time.Second)
	require.Equal(t, message.KindBootstrap, b.sent[0].Body.Kind())
}

func TestF26PauseRaisesTheFloorAboveItsEpoch(t *testing.T) {
	b, running := active(t)
	b.step(HandoffRequested{Handoff: record.Handoff{UID: "u1", Epoch: 5, Reason: changefeed.ReasonPaused}})
	running.State, running.Mark = message.DispatcherStopped, change.At(170)
	b.from("n1", message.Statuses{Statuses: []message.Status{running}})
	require.Equal(t, []string{
		"stop → n1: 5.1", "store running at 170, spans 0", "raise the floor to 6", "store released at 170, spans 0, done for paused",
		"end: released",
	}, b.taken())
}
