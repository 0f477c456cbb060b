package epochstore_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

func TestABumpAssignsRecordsAndEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		view := w.create("a")
		first := w.own(lead, "a", "n1")
		require.Equal(t, lead.Term(), first.Record.Term)
		require.Equal(t, view.Spec.ModRevision, first.Record.SpecRevision)
		require.Equal(t, fence.Epoch(view.Revision), first.Record.Epoch)
		require.Equal(t, w.get(w.keys.Epoch(id("a"))).ModRevision, first.ModRevision)

		status := w.store.WriteStatuses(w.ctx, []epochstore.StatusWrite{statusOf(first, epochstore.Seen[record.Status]{}, 7)})
		require.NoError(t, status[0].Err)
		errs := lead.RequestHandoffs(w.ctx, []epochstore.Handoff{{
			ID: id("a"), Epoch: first, To: "n2", ToName: "two", Reason: changefeed.ReasonMoved,
		}})
		require.NoError(t, errs[0])
		require.Equal(t, changefeed.NodeID("n2"), w.view("a").Handoff.Record.To)

		second := w.own(lead, "a", "n2")
		require.True(t, first.Record.Epoch.OlderThan(second.Record.Epoch))
		require.False(t, w.view("a").Handoff.Exists(), "the bump deletes the handoff")
		history, err := w.store.History(w.ctx, id("a"))
		require.NoError(t, err)
		require.Len(t, history, 1)
		require.Equal(t, first.Record.Epoch, history[0].Record.Epoch.Epoch)
		require.EqualValues(t, 7, history[0].Record.FinalCheckpoint)
		require.Equal(t, string(changefeed.ReasonCreated), history[0].Record.Ended)
		require.False(t, history[0].Record.Unanswered)
		require.EqualValues(t, 7, w.view("a").Status.Record.Checkpoint, "no bump writes a status")

		over := bumpOf(w.view("a"), "n1")
		over.Unanswered = true
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{over})[0].Err)
		history, err = w.store.History(w.ctx, id("a"))
		require.NoError(t, err)
		require.True(t, history[0].Record.Unanswered, "newest first")
	})
}

// Fence F1, hazards 4 and 6: the coordinator of an earlier term does nothing, even with fresh records.
func TestADeposedCoordinatorWritesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		old := w.lead("n1")
		w.create("a")
		owned := w.own(old, "a", "n1")
		require.NoError(t, old.Resign(w.ctx))
		lead := w.lead("n2")
		require.Greater(t, lead.Term(), old.Term())

		view := w.view("a")
		revision := w.get(w.keys.Epoch(id("a"))).ModRevision
		require.ErrorIs(t, old.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n1")})[0].Err, epochstore.ErrTermOver)
		require.Equal(t, revision, w.get(w.keys.Epoch(id("a"))).ModRevision)
		errs := old.RequestHandoffs(w.ctx, []epochstore.Handoff{{ID: id("a"), Epoch: owned, Reason: changefeed.ReasonMoved}})
		require.ErrorIs(t, errs[0], epochstore.ErrTermOver)
		require.ErrorIs(t, old.RaiseFloor(w.ctx, 1<<40), epochstore.ErrTermOver)
		removal := epochstore.Removal{ID: id("a"), Spec: view.Spec, Epoch: view.Epoch}
		require.ErrorIs(t, old.ForceRemove(w.ctx, removal), epochstore.ErrTermOver)
		require.ErrorIs(t, old.Wait(w.ctx), epochstore.ErrTermOver)
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n2")})[0].Err)
	})
}

// Fence F2, hazard 7: of two bumps decided on one record only one is done.
func TestABumpDecidedOnAnOldRecordIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		w.own(lead, "a", "n1")
		view := w.view("a")
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n2")})[0].Err)
		result := lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n3")})[0]
		require.ErrorIs(t, result.Err, epochstore.ErrConflict)
		require.ErrorIs(t, result.Err, fence.ErrStale)
		require.Equal(t, changefeed.NodeID("n2"), w.view("a").Epoch.Record.Owner)
	})
}

// Fence F3, hazards 8 and 10: a bump decided on another wish, or on another creation of the name, is refused.
func TestABumpDecidedOnAnOldSpecIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		view := w.create("a")
		_, err := w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredPaused)
		require.NoError(t, err)
		require.ErrorIs(t, lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n1")})[0].Err, epochstore.ErrConflict)
		require.False(t, w.view("a").Epoch.Exists())

		view = w.view("a")
		require.NoError(t, w.store.ForceRemove(w.ctx, id("a")))
		again := w.create("a")
		require.NotEqual(t, view.Spec.Record.UID, again.Spec.Record.UID)
		require.ErrorIs(t, lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n1")})[0].Err, epochstore.ErrConflict)
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{bumpOf(again, "n1")})[0].Err)
	})
}

// A planned bump follows the release that was seen; an owner that writes again is not bumped over by it.
func TestAPlannedBumpComparesTheStatus(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		stored := w.store.WriteStatuses(w.ctx, []epochstore.StatusWrite{statusOf(owned, epochstore.Seen[record.Status]{}, 7)})[0]
		planned := bumpOf(w.view("a"), "n2")
		planned.Planned = true
		unplanned := bumpOf(w.view("a"), "n2")
		require.NoError(t, w.store.WriteStatuses(w.ctx, []epochstore.StatusWrite{statusOf(owned, stored.Status, 8)})[0].Err)
		require.ErrorIs(t, lead.Bump(w.ctx, []epochstore.Bump{planned})[0].Err, epochstore.ErrConflict)
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{unplanned})[0].Err, "a busy owner can be bumped over")
	})
}

// Hazards 1 and 2: the answer is lost, whether the bump was done or not; it is done once.
func TestABumpWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	for _, lostPart := range []string{"request", "answer", "answer and then a late duplicate"} {
		t.Run(lostPart, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				lead := w.lead("n1")
				w.create("a")
				w.own(lead, "a", "n1")
				bump := bumpOf(w.view("a"), "n2")
				bump.Nonce = "the-decision"
				var sent kv.Txn
				switch lostPart {
				case "request":
					w.flaky.inject(once(lost), nil)
				case "answer":
					w.flaky.inject(nil, once(lost))
				default:
					w.flaky.inject(func(txn kv.Txn) error { sent = txn; return nil }, once(lost))
				}
				result := lead.Bump(w.ctx, []epochstore.Bump{bump})[0]
				require.NoError(t, result.Err)
				w.flaky.inject(nil, nil)
				if len(sent.Then) > 0 {
					late, err := w.raw.Txn(w.ctx, sent)
					require.NoError(t, err)
					require.False(t, late.Succeeded)
				}
				pair := w.get(w.keys.Epoch(id("a")))
				require.EqualValues(t, 2, pair.Version, "created, and bumped once")
				require.Equal(t, pair.ModRevision, result.Epoch.ModRevision)
				require.Equal(t, result.Epoch.Record.Epoch, w.view("a").Epoch.Record.Epoch)
				// Hazard 2: what is sent again under the same nonce finds itself.
				require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{bump})[0].Err)
				require.EqualValues(t, 2, w.get(w.keys.Epoch(id("a"))).Version)
			})
		})
	}
}

// One that fails its compares is taken out of its transaction, and the others are done.
func TestPackedBumpsAreTakenApart(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		const count = 100
		var bumps []epochstore.Bump
		for i := range count {
			bumps = append(bumps, bumpOf(w.create(fmt.Sprintf("c%03d", i)), "n1"))
		}
		for _, i := range []int{3, 4, 50, 99} {
			_, err := w.store.SetDesired(w.ctx, bumps[i].ID, changefeed.DesiredPaused)
			require.NoError(t, err)
		}
		bumps[70].Spec = epochstore.Seen[record.Spec]{}
		bumps = append(bumps, bumps[0]) // the same twice: a transaction takes a key once
		before := w.flaky.writes.Load()
		results := lead.Bump(w.ctx, bumps)
		for i, result := range results {
			switch i {
			case 0, count:
			case 3, 4, 50, 99:
				require.ErrorIs(t, result.Err, fence.ErrStale, "%d", i)
			case 70:
				require.ErrorIs(t, result.Err, epochstore.ErrRefused)
			default:
				require.NoError(t, result.Err, "%d", i)
				require.Equal(t, result.Epoch.ModRevision, w.get(w.keys.Epoch(bumps[i].ID)).ModRevision)
			}
		}
		require.NotEqual(t, results[0].Err == nil, results[count].Err == nil, "one of the two")
		require.LessOrEqual(t, w.flaky.writes.Load()-before, int64(12))
	})
}

// The floor holds for epochs, also when it is raised between the reading and the bump.
func TestEpochsLieAboveTheFloor(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		require.NoError(t, w.store.RaiseFloor(w.ctx, 5_000_000))
		require.EqualValues(t, 5_000_001, w.own(lead, "a", "n1").Record.Epoch)
		require.NoError(t, lead.RaiseFloor(w.ctx, 4_000_000), "never down")
		require.EqualValues(t, 5_000_002, w.own(lead, "a", "n1").Record.Epoch)
		require.NoError(t, lead.RaiseFloor(w.ctx, 6_000_000))
		require.EqualValues(t, 6_000_001, w.own(lead, "a", "n1").Record.Epoch)
		require.ErrorIs(t, lead.RaiseLevel(w.ctx, 99), epochstore.ErrRefused)
		require.NoError(t, lead.RaiseLevel(w.ctx, 0))
		require.Equal(t, record.LevelCurrent, lead.Meta().Record.Level)
	})
}

// An epoch is never reused, not even after the changefeed and its record are gone.
func TestAnEpochIsNeverReused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		seen := map[fence.Epoch]bool{}
		for range 3 {
			w.create("a")
			for range 4 {
				epoch := w.own(lead, "a", "n1").Record.Epoch
				require.False(t, seen[epoch])
				seen[epoch] = true
			}
			require.NoError(t, w.store.ForceRemove(w.ctx, id("a")))
		}
	})
}

func TestABumpRefusesWhatContradictsItself(t *testing.T) {
	w := memoryWorld(t)
	lead := w.lead("n1")
	w.create("a")
	w.put(w.keys.Epoch(id("a")), "{}")
	require.Equal(t, changefeed.CodeRecordInvalid,
		changefeed.AsFault(lead.Bump(w.ctx, []epochstore.Bump{bumpOf(w.view("a"), "n1")})[0].Err, "").Code)
	w.create("b")
	early := bumpOf(w.view("b"), "n1")
	early.SeenRevision = 1
	planned := bumpOf(w.view("b"), "n1")
	planned.Planned = true
	for _, result := range lead.Bump(w.ctx, []epochstore.Bump{early, planned}) {
		require.ErrorIs(t, result.Err, epochstore.ErrRefused)
	}
}

// Hazard 14: etcd refuses writes for lack of space. Nothing is done, the error says why, and it heals.
func TestABumpRefusedForSpaceMayBeTriedAgain(t *testing.T) {
	w := memoryWorld(t)
	lead := w.lead("n1")
	w.create("a")
	full := fmt.Errorf("no space")
	w.flaky.inject(func(kv.Txn) error { return full }, nil)
	result := lead.Bump(w.ctx, []epochstore.Bump{bumpOf(w.view("a"), "n1")})[0]
	require.ErrorIs(t, result.Err, full)
	require.NotErrorIs(t, result.Err, fence.ErrStale)
	require.NotErrorIs(t, result.Err, fence.ErrUnknown)
	require.ErrorIs(t, lead.Probe(w.ctx), full)
	w.flaky.inject(nil, nil)
	w.own(lead, "a", "n1")
}

// Hazard 11: the wish to remove is a record; the deletion of everything is one step, and only the last.
func TestRemovalIsOneStepAndOnlyOfWhatNobodyOwns(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		_, err := w.store.PutEviction(w.ctx, epochstore.EvictionWrite{
			ID: id("a"), Ownership: owned, Node: "n9", Token: fence.Mint(owned.Record.Epoch, 1),
		})
		require.NoError(t, err)
		remove := func() error {
			view := w.view("a")
			return lead.Remove(w.ctx, epochstore.Removal{ID: view.ID, Spec: view.Spec, Epoch: view.Epoch, Status: view.Status})
		}
		require.ErrorIs(t, remove(), epochstore.ErrRefused, "nobody wants it removed")
		_, err = w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredRemoved)
		require.NoError(t, err)
		require.ErrorIs(t, remove(), epochstore.ErrRefused, "it has an owner")
		_, err = w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredRunning)
		require.Equal(t, changefeed.CodeSpecConflict, changefeed.AsFault(err, "").Code, "nothing brings it back")
		w.own(lead, "a", "")
		w.flaky.inject(nil, once(lost))
		require.NoError(t, remove())
		for _, key := range []string{
			w.keys.Spec(id("a")), w.keys.Epoch(id("a")), w.keys.Status(id("a")), w.keys.Eviction(owned.Record.UID, "n9"),
		} {
			require.Zero(t, w.get(key).ModRevision, key)
		}
		history, err := w.store.History(w.ctx, id("a"))
		require.NoError(t, err)
		require.Len(t, history, 2, "history stays")
		_, err = w.store.Changefeed(w.ctx, id("a"))
		require.Equal(t, changefeed.CodeNotFound, changefeed.AsFault(err, "").Code)
	})
}

func TestHistoryIsTrimmed(t *testing.T) {
	w := memoryWorld(t)
	lead := w.lead("n1")
	for _, name := range []string{"a", "b", "c"} {
		w.create(name)
	}
	for range epochstore.HistoryMax + 10 {
		w.own(lead, "a", "n1")
		w.own(lead, "c", "n1")
	}
	w.own(lead, "b", "n1")
	newest := w.view("a").Epoch.Record.Epoch
	require.NoError(t, lead.TrimHistory(w.ctx, id("a")))
	count := func(name string) int {
		prefix := w.keys.HistoryOf(id(name))
		result, err := w.raw.Range(w.ctx, kv.Range{Key: prefix, End: kv.PrefixEnd(prefix), KeysOnly: true})
		require.NoError(t, err)
		return len(result.Pairs)
	}
	require.Equal(t, epochstore.HistoryMax, count("a"))
	trimmed, err := lead.TrimAllHistory(w.ctx)
	require.NoError(t, err)
	require.Equal(t, 1, trimmed)
	require.Equal(t, epochstore.HistoryMax, count("c"))
	history, err := w.store.History(w.ctx, id("a"))
	require.NoError(t, err)
	require.Len(t, history, epochstore.HistoryMax)
	require.True(t, history[0].Record.Epoch.Epoch.OlderThan(newest))
	require.True(t, history[1].Record.Epoch.Epoch.OlderThan(history[0].Record.Epoch.Epoch))
}
