package sim

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

var testFeed = changefeed.ID{Namespace: "default", Name: "a"}

const testUID = "uid-1"

func testSpec(sink string) SpecFact {
	start := change.Position(10)
	return SpecFact{ID: testFeed, Revision: 5, Put: &record.Spec{UID: testUID, Sink: sink, StartPosition: &start, Desired: changefeed.DesiredRunning}}
}

func testEpoch(epoch fence.Epoch, owner changefeed.NodeID) EpochFact {
	return EpochFact{ID: testFeed, Put: &record.Epoch{UID: testUID, Epoch: epoch, Owner: owner, Term: 3, SpecRevision: 5}}
}

// nobody is the end of an ownership that no other follows.
func nobody(reason changefeed.Reason) EpochFact {
	out := testEpoch(21, "")
	out.Put.Reason = reason
	return out
}

func testStatus(epoch fence.Epoch, by changefeed.NodeID, checkpoint change.Position) StatusFact {
	return StatusFact{ID: testFeed, By: by, Put: &record.Status{UID: testUID, Epoch: epoch, Checkpoint: checkpoint, State: changefeed.StateRunning}}
}

func span(start, end string) changefeed.Span {
	return changefeed.Span{Start: []byte(sourcePrefix + start), End: []byte(sourcePrefix + end)}
}

func testClaim(n uint64, of changefeed.Span, epoch fence.Epoch, seq fence.Seq) ClaimFact {
	return ClaimFact{UID: testUID, Claim: n, Span: of, Token: fence.Mint(epoch, seq)}
}

func put(key string, position change.Position) Written {
	return Written{Key: sourcePrefix + key, Position: position}
}

func marks(pieces ...SpanMark) MarksFact { return MarksFact{UID: testUID, Marks: pieces} }

func upTo(of changefeed.Span, position change.Position) SpanMark {
	return SpanMark{Span: of, Mark: change.At(position)}
}

// running is a history in which nothing is wrong: n1 owns epoch 20, claims everything and writes what there is.
func running(sink string) []Fact {
	return []Fact{
		CandidateFact{Key: "c1", Revision: 3},
		CandidateFact{Key: "c2", Revision: 8},
		testSpec(sink),
		testEpoch(20, "n1"),
		CommitFact{},
		SourceFact{Position: 9, Key: "s/k"},
		SourceFact{Position: 11, Key: "s/k"},
		SourceFact{Position: 12, Key: "s/m"},
		SourceFact{Position: 15, Key: "s/k", Deleted: true},
		SourceFact{Position: 17, Key: "s/k"},
	}
}

func claimed() []Fact {
	return append(running("etcd:"),
		HeadFact{ID: testFeed, UID: testUID, Floor: 20}, testClaim(1, keySpace, 20, 1), marks(upTo(keySpace, 10)),
		wrote(10, 12, put("k", 11), put("m", 12)), marks(upTo(keySpace, 12)),
		testStatus(20, "n1", 12), CommitFact{By: "n1"})
}

// snapshotted is a history of a changefeed that starts with a snapshot, none of which is in the sink yet.
func snapshotted() []Fact {
	facts := running("etcd:")
	for i, fact := range facts {
		if spec, ok := fact.(SpecFact); ok {
			spec.Put.Start, spec.Put.StartPosition = record.StartSnapshot, nil
			facts[i] = spec
		}
	}
	return append(facts, HeadFact{ID: testFeed, UID: testUID, Floor: 20}, testClaim(1, keySpace, 20, 1), marks(SpanMark{Span: keySpace}))
}

// startedLater is a history in which a changefeed that starts now was given a start, was put back to before that by a restore of
// the records, and was given a later one. Between the two, and after both, a key was deleted.
func startedLater() []Fact {
	now := func() SpecFact {
		spec := testSpec("etcd:")
		spec.Put.Start, spec.Put.StartPosition = record.StartNow, nil
		return spec
	}
	starts := func(at change.Position) StatusFact {
		status := testStatus(20, "n1", 0)
		status.Put.StartPosition = &at
		return status
	}
	facts := running("etcd:")
	facts[2] = now()
	return append(facts, SourceFact{Position: 19, Key: "s/k", Deleted: true}, HeadFact{ID: testFeed, UID: testUID, Floor: 20}, starts(14), CommitFact{By: "n1"},
		RestoreFact{}, now(), CandidateFact{Key: "c1", Revision: 3}, testEpoch(20, "n1"), CommitFact{}, starts(18), CommitFact{By: "n1"},
		testClaim(1, keySpace, 20, 1))
}

// A delete has no position in the sink. Two restores of etcd had a changefeed start twice, and the checker take the delete after
// the later start for the one before it.
func TestADeleteIsTheOneThatTheWriteBrought(t *testing.T) {
	t.Parallel()
	checker := NewChecker(keySpace)
	for i, fact := range append(startedLater(), marks(upTo(keySpace, 18)), wrote(18, 19, gone("k")), marks(upTo(keySpace, 19)), testStatus(20, "n1", 19)) {
		require.NoError(t, checker.See(fact), "fact %d", i)
	}
}

func synced(at change.Position) SyncFact { return SyncFact{UID: testUID, At: at} }

// wrote is a write of the first claim, which brought everything from one position to another.
func wrote(from, to change.Position, changes ...Written) WriteFact {
	return WriteFact{UID: testUID, Claim: 1, Changes: changes, Moves: []Move{{Span: keySpace, From: change.At(from), To: change.At(to)}}}
}

func gone(key string) Written { return Written{Key: sourcePrefix + key, Deleted: true} }

// deletedK is the write that follows in claimed.
func deletedK() WriteFact { return wrote(12, 15, gone("k")) }

// page is a part of a snapshot as of a position.
func page(of changefeed.Span, at change.Position, changes ...Written) WriteFact {
	return WriteFact{UID: testUID, Claim: 1, Changes: changes, Moves: []Move{{Span: of, To: change.At(at)}}}
}

// Every bad history is the good one with one thing more, or one in another order. Hazard 73.
func TestTheCheckerRefusesBadHistories(t *testing.T) {
	t.Parallel()
	left, right := span("", "m"), changefeed.Span{Start: []byte("s/m"), End: keySpace.End}
	forgot := testStatus(20, "n1", 12)
	forgot.Put.State, forgot.Put.Error = changefeed.StateFailed, &record.Error{Code: changefeed.CodeSourceSlotLost}
	released := testStatus(20, "n1", 12)
	released.Put.State = changefeed.StateReleased
	otherTerm, otherUID, otherSpec := testEpoch(21, "n2"), testEpoch(21, "n2"), testEpoch(21, "n2")
	otherTerm.Put.Term, otherUID.Put.UID, otherSpec.Put.SpecRevision = 8, "uid-2", 4
	place := func(of changefeed.Span, to changefeed.NodeID) SentFact {
		return SentFact{Envelope: message.Envelope{ID: testFeed, UID: testUID, Epoch: 20, From: "n1", To: to, Body: message.Place{Seq: 1, Span: of}}}
	}
	placeAs := func(seq fence.Seq, of changefeed.Span) SentFact {
		fact := place(of, "n1")
		fact.Envelope.Body = message.Place{Seq: seq, Span: of}
		return fact
	}
	start := func(seq fence.Seq, of changefeed.Span) StartFact {
		return StartFact{Node: "n1", ID: testFeed, UID: testUID, Token: fence.Mint(20, seq), Span: of}
	}
	for name, test := range map[string]struct {
		invariant int
		good      []Fact
		bad       []Fact
	}{
		"a source that forgets too much":         {10, claimed(), []Fact{ForgetFact{UID: testUID, UpTo: 13}}},
		"a pause that leaves the sink open":      {10, claimed(), []Fact{nobody(changefeed.ReasonPaused)}},
		"a removal that the sink is not told of": {10, claimed(), []Fact{nobody(changefeed.ReasonRemoved)}},
		"an epoch twice":                         {1, claimed(), []Fact{testEpoch(20, "n2")}},
		"an epoch that falls":                    {1, claimed(), []Fact{testEpoch(19, "n2")}},
		"an epoch twice, over a removal":         {1, claimed(), []Fact{testEpoch(22, ""), EpochFact{ID: testFeed}, CommitFact{}, testEpoch(21, "n2")}},
		"a bump of a former term":                {2, claimed(), []Fact{CandidateFact{Key: "c1"}, testEpoch(21, "n2")}},
		"a bump of a term to come":               {2, claimed(), []Fact{otherTerm}},
		"a bump of another uid":                  {2, claimed(), []Fact{otherUID}},
		"a bump for a spec that was changed":     {2, claimed(), []Fact{otherSpec}},
		"a status of an epoch that ended":        {2, claimed(), []Fact{testEpoch(21, "n2"), CommitFact{}, testStatus(20, "n1", 12)}},
		"a status of a node that owns nothing": {2, claimed(), []Fact{
			testStatus(20, "n2", 12),
		}},
		"a status after the final one":       {2, claimed(), []Fact{released, testStatus(20, "n1", 12)}},
		"a status without a record":          {2, running("etcd:")[:3], []Fact{testStatus(20, "n1", 0)}},
		"a handoff of an epoch that ended":   {2, claimed(), []Fact{HandoffFact{ID: testFeed, Put: &record.Handoff{UID: testUID, Epoch: 19}}}},
		"a history of what did not end":      {2, claimed(), []Fact{HistoryFact{ID: testFeed, Put: &record.History{Epoch: *testEpoch(20, "n1").Put}}}},
		"a spec deleted under its owner":     {2, claimed(), []Fact{SpecFact{ID: testFeed}}},
		"a record deleted under its owner":   {2, claimed(), []Fact{EpochFact{ID: testFeed}}},
		"a write of a claim that was passed": {3, claimed(), []Fact{testClaim(2, right, 20, 2), WriteFact{UID: testUID, Claim: 1}}},
		"a write that nobody claimed":        {3, claimed(), []Fact{WriteFact{UID: testUID, Claim: 7}}},
		"a write outside of the claim": {3, claimed(), []Fact{
			testClaim(2, left, 20, 2), WriteFact{UID: testUID, Claim: 2, Changes: []Written{{Key: "s/z"}}},
		}},
		"a claim over a newer one": {3, claimed(), []Fact{testClaim(2, keySpace, 20, 3), testClaim(3, left, 20, 2)}},
		"a claim below the floor": {3, claimed(), []Fact{
			HeadFact{ID: testFeed, UID: testUID, Floor: 21}, testClaim(2, keySpace, 20, 2),
		}},
		"a claim of what was removed": {3, claimed(), []Fact{
			HeadFact{ID: testFeed, UID: testUID, Floor: 21, Removed: true}, testClaim(2, keySpace, 21, 1),
		}},
		"a write to what was removed": {3, claimed(), []Fact{
			HeadFact{ID: testFeed, UID: testUID, Floor: 21, Removed: true}, WriteFact{UID: testUID, Claim: 1},
		}},
		"a write after a newer creation": {3, claimed(), []Fact{
			HeadFact{ID: testFeed, UID: "uid-2", Floor: 30}, WriteFact{UID: testUID, Claim: 1},
		}},
		"a floor that sinks": {3, claimed(), []Fact{HeadFact{ID: testFeed, UID: testUID, Floor: 19}}},
		"a start below what the host was told": {3, claimed(), []Fact{
			KnownFact{Node: "n1", ID: testFeed, UID: testUID, Epoch: 21}, start(1, keySpace),
		}},
		"an older token begins after a newer one, without claims": {3, running("stdout:"), []Fact{
			BeginFact{UID: testUID, Token: fence.Mint(20, 2), Span: keySpace}, BeginFact{UID: testUID, Token: fence.Mint(20, 1), Span: left},
		}},
		"a checkpoint above what was written": {4, claimed(), []Fact{testStatus(20, "n1", 15)}},
		"a checkpoint above what landed, without claims": {4, running("stdout:"), []Fact{
			LandFact{UID: testUID, Changes: []Written{put("k", 11)}}, testStatus(20, "n1", 12),
		}},
		"a change twice":                               {5, claimed(), []Fact{wrote(12, 15, put("k", 11))}},
		"a change left out":                            {5, claimed(), []Fact{wrote(12, 17, put("k", 17))}},
		"a change above what the write brought":        {5, claimed(), []Fact{wrote(12, 14, gone("k"))}},
		"a change below what the write brought":        {5, claimed(), []Fact{wrote(15, 17, gone("k"))}},
		"a change where nothing was brought":           {5, claimed(), []Fact{WriteFact{UID: testUID, Claim: 1, Changes: []Written{gone("k")}}}},
		"a delete made up":                             {5, claimed(), []Fact{wrote(12, 15, gone("m"))}},
		"a put for a delete":                           {5, claimed(), []Fact{wrote(12, 15, put("k", 15))}},
		"a change too old":                             {5, running("etcd:"), []Fact{HeadFact{ID: testFeed, UID: testUID, Floor: 20}, testClaim(1, keySpace, 20, 1), wrote(8, 9, put("k", 9))}},
		"a snapshot without a key that there was":      {5, snapshotted(), []Fact{page(keySpace, 12, put("k", 11))}},
		"a snapshot with an older value":               {5, snapshotted(), []Fact{page(keySpace, 12, put("k", 9), put("m", 12))}},
		"a snapshot with what was deleted":             {5, snapshotted(), []Fact{page(keySpace, 15, put("k", 11), put("m", 12))}},
		"a snapshot with a key that never was":         {5, snapshotted(), []Fact{page(keySpace, 12, put("k", 11), put("m", 12), put("n", 12))}},
		"a snapshot after a later change":              {5, append(snapshotted(), page(left, 12, put("k", 11)), deletedK()), []Fact{page(left, 12, put("k", 11))}},
		"a snapshot of what does not begin with one":   {5, claimed(), []Fact{page(left, 12, put("k", 11))}},
		"a page that was not read, under a checkpoint": {4, append(snapshotted(), page(left, 12, put("k", 11))), []Fact{testStatus(20, "n1", 12)}},
		"a write of before a restore that comes again": {5, append(claimed(), RestoreFact{}, testSpec("etcd:"), testEpoch(20, "n1"), CommitFact{}), []Fact{
			wrote(10, 12, put("k", 11)),
		}},
		"a delete of before a later start, under a checkpoint above the next": {4, append(startedLater(), wrote(14, 15, gone("k")), marks(upTo(keySpace, 19))), []Fact{
			testStatus(20, "n1", 19),
		}},
		"a delete of before a later start, by who starts later": {5, startedLater(), []Fact{wrote(18, 18, gone("k"))}},
		"a change that is not": {5, running("stdout:"), []Fact{LandFact{UID: testUID, Changes: []Written{put("k", 14)}}}},
		"one token for two spans": {6, claimed(), []Fact{
			place(left, "n1"), place(right, "n1"),
		}},
		"one token for two hosts": {6, claimed(), []Fact{place(left, "n1"), place(left, "n2")}},
		"two dispatchers for one range": {6, claimed(), []Fact{
			place(keySpace, "n1"), start(1, keySpace), placeAs(2, left), start(2, left),
		}},
		"a dispatcher that nobody placed":  {3, claimed(), []Fact{start(1, keySpace)}},
		"a checkpoint above a piece":       {6, claimed(), []Fact{marks(upTo(left, 12), upTo(right, 11)), testStatus(20, "n1", 12)}},
		"a checkpoint over a gap":          {6, claimed(), []Fact{marks(upTo(left, 12)), testStatus(20, "n1", 12)}},
		"a sync point twice":               {9, append(claimed(), synced(12)), []Fact{synced(12)}},
		"a sync point of before the last":  {9, append(claimed(), deletedK(), synced(15)), []Fact{synced(12)}},
		"a sync point without a change":    {9, claimed(), []Fact{synced(15)}},
		"a sync point with a change above": {9, append(claimed(), deletedK()), []Fact{synced(12)}},
		"a sync point of what was removed": {9, append(claimed(), HeadFact{ID: testFeed, UID: testUID, Floor: 21, Removed: true}), []Fact{synced(12)}},
		"a sync point in another's sink":   {9, append(claimed(), HeadFact{ID: testFeed, UID: "uid-2", Floor: 30}), []Fact{synced(12)}},
		"a sync point of nobody":           {9, claimed(), []Fact{SyncFact{UID: "uid-7", At: 12}}},
		"a sync point in a snapshot":       {9, append(snapshotted(), page(left, 12, put("k", 11))), []Fact{synced(12)}},
		"a checkpoint that goes back":      {7, claimed(), []Fact{testStatus(20, "n1", 11)}},
		"a failure for what is not lost":   {8, claimed(), []Fact{forgot}},
		"a checkpoint lost by a new owner": {7, claimed(), []Fact{testEpoch(21, "n2"), CommitFact{}, testStatus(21, "n2", 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checker := NewChecker(keySpace)
			facts := append(append([]Fact(nil), test.good...), test.bad...)
			for i, fact := range facts[:len(facts)-1] {
				require.NoError(t, checker.See(fact), "fact %d of the history is good", i)
			}
			err := checker.See(facts[len(facts)-1])
			var violation *Violation
			require.True(t, errors.As(err, &violation), "the last fact is bad")
			require.Equal(t, test.invariant, violation.Invariant, "%v", err)
			require.Equal(t, err, checker.See(CommitFact{}), "a verdict stands")
		})
	}
}

// Invariant 8 is judged at the end of a run: a cluster in which nobody lives never catches up.
func TestAClusterThatDoesNotCatchUpIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(draw(3, StepsMin))
	w.begins()
	for w.steps < StepsMin && w.next(faultsMax) {
	}
	for _, n := range w.nodes {
		if n.life != nil {
			n.life.die()
		}
		n.buried = true
	}
	w.settle()
	var violation *Violation
	require.ErrorAs(t, w.failed, &violation)
	require.Equal(t, 8, violation.Invariant)
	w.close()
}
