package epochstore_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

type (
	seenStatus = epochstore.Seen[record.Status]
	seenEpoch  = epochstore.Seen[record.Epoch]
)

func statusOf(owned seenEpoch, last seenStatus, checkpoint change.Position) epochstore.StatusWrite {
	return statusOfName("a", owned, last, checkpoint)
}

func statusOfName(name string, owned seenEpoch, last seenStatus, checkpoint change.Position) epochstore.StatusWrite {
	return epochstore.StatusWrite{
		ID: id(name), Ownership: owned, Last: last,
		Status: record.Status{
			UID: owned.Record.UID, Epoch: owned.Record.Epoch, State: changefeed.StateRunning,
			Checkpoint: checkpoint, Resolved: checkpoint, SourceID: "s", Spans: 1, At: owned.Record.At,
		},
	}
}

func (w *world) write(write epochstore.StatusWrite) epochstore.StatusResult {
	w.t.Helper()
	return w.store.WriteStatuses(w.ctx, []epochstore.StatusWrite{write})[0]
}

// Fence F4: who was bumped over stores nothing, whatever else is right.
func TestAFencedOwnerStoresNoStatus(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		first := w.write(statusOf(owned, seenStatus{}, 5))
		require.NoError(t, first.Err)
		w.own(lead, "a", "n2")
		result := w.write(statusOf(owned, first.Status, 6))
		require.ErrorIs(t, result.Err, epochstore.ErrFenced)
		require.ErrorIs(t, result.Err, fence.ErrStale)
		require.EqualValues(t, 5, w.view("a").Status.Record.Checkpoint)

		// Evictions are writes of a maintainer too.
		_, err := w.store.PutEviction(w.ctx, epochstore.EvictionWrite{
			ID: id("a"), Ownership: owned, Node: "n9", Token: fence.Mint(owned.Record.Epoch, 1),
		})
		require.ErrorIs(t, err, epochstore.ErrFenced)
		require.Zero(t, w.get(w.keys.Eviction(owned.Record.UID, "n9")).ModRevision)
	})
}

// Fence F5: a status decided on an older one is refused, also under the right ownership.
func TestAStatusDecidedOnAnOldOneIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		first := w.write(statusOf(owned, seenStatus{}, 5))
		second := w.write(statusOf(owned, first.Status, 9))
		require.NoError(t, second.Err)
		late := w.write(statusOf(owned, first.Status, 6))
		require.ErrorIs(t, late.Err, epochstore.ErrConflict)
		require.EqualValues(t, 9, late.Status.Record.Checkpoint, "what is stored comes back")
		require.Equal(t, second.Status.ModRevision, late.Status.ModRevision)
		require.EqualValues(t, 9, w.view("a").Status.Record.Checkpoint)
		require.NoError(t, w.write(statusOf(owned, late.Status, 10)).Err)
	})
}

// Fence F5, its other half: a checkpoint never decreases, not even by the owner, nor over a takeover.
func TestACheckpointNeverGoesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		first := w.write(statusOf(w.own(lead, "a", "n1"), seenStatus{}, 5))
		require.ErrorIs(t, w.write(statusOf(w.own(lead, "a", "n2"), first.Status, 4)).Err, epochstore.ErrCheckpointBack)
		require.EqualValues(t, 5, w.view("a").Status.Record.Checkpoint)
	})
}

// After an unknown answer a status is read, never sent again: a late duplicate must not take a checkpoint back.
func TestAStatusWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		first := w.write(statusOf(owned, seenStatus{}, 5))

		w.flaky.inject(nil, once(lost))
		before := w.flaky.writes.Load()
		done := w.write(statusOf(owned, first.Status, 6))
		require.NoError(t, done.Err, "it was done, and was found")
		require.Equal(t, w.get(w.keys.Status(id("a"))).ModRevision, done.Status.ModRevision)
		require.EqualValues(t, 1, w.flaky.writes.Load()-before)

		var held kv.Txn
		w.flaky.inject(func(txn kv.Txn) error {
			if len(held.Then) > 0 {
				return nil
			}
			held = txn // it is on its way, slowly
			return lost()
		}, nil)
		before = w.flaky.writes.Load()
		unknown := w.write(statusOf(owned, done.Status, 7))
		require.ErrorIs(t, unknown.Err, fence.ErrUnknown)
		require.EqualValues(t, 1, w.flaky.writes.Load()-before)
		require.EqualValues(t, 6, unknown.Status.Record.Checkpoint)
		require.NoError(t, w.write(statusOf(owned, unknown.Status, 8)).Err)
		late, err := w.raw.Txn(w.ctx, held)
		require.NoError(t, err)
		require.False(t, late.Succeeded)
		require.EqualValues(t, 8, w.view("a").Status.Record.Checkpoint)
	})
}

// Statuses of a node go out together; stale ones are dropped and starve nobody.
func TestAStaleStatusStarvesNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		const count = 130
		var writes []epochstore.StatusWrite
		var bumps []epochstore.Bump
		for i := range count {
			bumps = append(bumps, bumpOf(w.create(fmt.Sprintf("c%03d", i)), "n1"))
		}
		for i, result := range lead.Bump(w.ctx, bumps) {
			require.NoError(t, result.Err)
			writes = append(writes, statusOfName(bumps[i].ID.Name, result.Epoch, seenStatus{}, 5))
		}
		for _, i := range []int{0, 77} {
			w.own(lead, bumps[i].ID.Name, "n2")
		}
		before := w.flaky.writes.Load()
		for i, result := range w.store.WriteStatuses(w.ctx, writes) {
			if i == 0 || i == 77 {
				require.ErrorIs(t, result.Err, epochstore.ErrFenced)
				continue
			}
			require.NoError(t, result.Err)
		}
		require.EqualValues(t, 3+2, w.flaky.writes.Load()-before)
	})
}

// Hazard 9: statuses and what users want are separate keys: neither loses a compare to the other.
func TestStatusesDoNotStarveUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		read := w.view("a").Spec
		last := seenStatus{}
		for checkpoint := range change.Position(20) {
			result := w.write(statusOf(owned, last, checkpoint))
			require.NoError(t, result.Err)
			last = result.Status
		}
		spec := *read.Record
		spec.Desired = changefeed.DesiredPaused
		_, err := w.store.UpdateSpec(w.ctx, read, spec)
		require.NoError(t, err)
		require.NoError(t, w.write(statusOf(owned, last, 30)).Err)
	})
}

func TestAStatusThatContradictsItselfIsRefused(t *testing.T) {
	w := memoryWorld(t)
	lead := w.lead("n1")
	w.create("a")
	owned := w.own(lead, "a", "n1")
	other := statusOf(owned, seenStatus{}, 1)
	other.Status.UID = "another"
	require.ErrorIs(t, w.write(other).Err, epochstore.ErrRefused)
	older := statusOf(owned, seenStatus{}, 1)
	older.Status.Epoch--
	require.ErrorIs(t, w.write(older).Err, epochstore.ErrRefused)
	nobody := w.own(lead, "a", "")
	require.ErrorIs(t, w.write(statusOf(nobody, seenStatus{}, 1)).Err, epochstore.ErrRefused)
}

func TestEvictionIsPutAcknowledgedAndDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		write := epochstore.EvictionWrite{
			ID: id("a"), Ownership: owned, Node: "n9", Token: fence.Mint(owned.Record.Epoch, 4),
		}
		first, err := w.store.PutEviction(w.ctx, write)
		require.NoError(t, err)
		write.Last = first
		w.put(w.keys.Node("n9"), "lives")
		require.ErrorIs(t, w.store.DeleteEviction(w.ctx, write), epochstore.ErrConflict, "not acknowledged")
		write.Token = fence.Mint(owned.Record.Epoch, 9)
		second, err := w.store.PutEviction(w.ctx, write)
		require.NoError(t, err)
		uid := owned.Record.UID
		require.ErrorIs(t, w.store.AcknowledgeEviction(w.ctx, uid, "n9", first, nil), epochstore.ErrConflict,
			"what was obeyed is not what is asked now")
		w.flaky.inject(nil, once(lost))
		require.NoError(t, w.store.AcknowledgeEviction(w.ctx, uid, "n9", second, nil))
		evictions, err := w.store.Evictions(w.ctx, uid)
		require.NoError(t, err)
		require.NotNil(t, evictions["n9"].Record.AcknowledgedAt)
		write.Last = evictions["n9"]
		w.flaky.inject(nil, once(lost))
		require.NoError(t, w.store.DeleteEviction(w.ctx, write))
		require.Zero(t, w.get(w.keys.Eviction(uid, "n9")).ModRevision)
	})
}

// What a maintainer and a node do about an eviction may be done again after any error, and never acknowledges more
// than was obeyed.
func TestEvictionsMayBeRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		uid, key := owned.Record.UID, w.keys.Eviction(owned.Record.UID, "n9")
		w.put(w.keys.Node("n9"), "lives")
		write := epochstore.EvictionWrite{ID: id("a"), Ownership: owned, Node: "n9", Token: fence.Mint(owned.Record.Epoch, 4)}
		w.flaky.inject(nil, once(lost))
		require.NoError(t, w.store.Evict(w.ctx, write))
		first := w.get(key).ModRevision
		require.NoError(t, w.store.Evict(w.ctx, write))
		require.Equal(t, first, w.get(key).ModRevision, "done again it changes nothing")
		require.ErrorIs(t, w.store.DropEviction(w.ctx, write), epochstore.ErrConflict, "the node lives, and did not acknowledge")

		obeyed := write.Token
		write.Token = fence.Mint(owned.Record.Epoch, 9)
		require.NoError(t, w.store.Evict(w.ctx, write))
		finals := []record.Final{{Start: changefeed.Key("a"), End: changefeed.Key("b"), Epoch: owned.Record.Epoch, Seq: 3, Position: 7}}
		require.NoError(t, w.store.Acknowledge(w.ctx, uid, "n9", obeyed, finals))
		evictions, err := w.store.Evictions(w.ctx, uid)
		require.NoError(t, err)
		require.Nil(t, evictions["n9"].Record.AcknowledgedAt, "more is voided by now than was obeyed")
		require.NoError(t, w.store.Acknowledge(w.ctx, uid, "n9", write.Token, finals))
		evictions, err = w.store.Evictions(w.ctx, uid)
		require.NoError(t, err)
		require.NotNil(t, evictions["n9"].Record.AcknowledgedAt)
		require.Equal(t, finals, evictions["n9"].Record.Finals)

		require.NoError(t, w.store.DropEviction(w.ctx, write))
		require.NoError(t, w.store.DropEviction(w.ctx, write))
		require.NoError(t, w.store.Acknowledge(w.ctx, uid, "n9", write.Token, nil), "it was taken back")
		require.Zero(t, w.get(key).ModRevision)

		// Of a node that is gone nobody acknowledges.
		require.NoError(t, w.store.Evict(w.ctx, write))
		w.drop(w.keys.Node("n9"))
		require.NoError(t, w.store.DropEviction(w.ctx, write))
		require.Zero(t, w.get(key).ModRevision)
	})
}

// A node that does not acknowledge in time loses its lease, by the coordinator of this term, and for the eviction that
// it saw.
func TestExpelRevokesTheLeaseOfANode(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		uid, session := owned.Record.UID, w.session()
		_, err := w.store.Join(w.ctx, session, record.Node{
			ID: "n9", Name: "n9", HTTP: "-", Peer: "-", Version: "1", Level: record.LevelCurrent, Liveness: record.Alive,
		})
		require.NoError(t, err)
		write := epochstore.EvictionWrite{ID: id("a"), Ownership: owned, Node: "n9", Token: fence.Mint(owned.Record.Epoch, 4)}
		require.NoError(t, w.store.Evict(w.ctx, write))
		revision := w.get(w.keys.Eviction(uid, "n9")).ModRevision
		require.ErrorIs(t, lead.Expel(w.ctx, "n9", uid, revision-1), epochstore.ErrConflict)
		require.NotZero(t, w.get(w.keys.Node("n9")).ModRevision)
		require.NoError(t, lead.Expel(w.ctx, "n9", uid, revision))
		require.Zero(t, w.get(w.keys.Node("n9")).ModRevision)
		require.NoError(t, lead.Expel(w.ctx, "n9", uid, revision), "it is gone already")
		require.NoError(t, lead.Resign(w.ctx))
		require.ErrorIs(t, lead.Expel(w.ctx, "n9", uid, revision), epochstore.ErrTermOver)
	})
}

// What a compare refuses is counted by its rule.
func TestRefusalsAreCountedByTheirRule(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		counts := map[string]int{}
		w.store = w.store.Counting(func(rule string) { counts[rule]++ })
		lead := w.lead("n1")
		view := w.create("a")
		owned := w.own(lead, "a", "n1")
		first := w.write(statusOf(owned, seenStatus{}, 5))
		require.NoError(t, first.Err)
		require.Error(t, w.write(statusOf(owned, seenStatus{}, 6)).Err)
		bump := epochstore.Bump{
			ID: id("a"), Previous: owned, Spec: view.Spec, SeenRevision: owned.ModRevision, Owner: "n2", OwnerName: "n2",
			Reason: changefeed.ReasonOwnerLost,
		}
		require.NoError(t, lead.Bump(w.ctx, []epochstore.Bump{bump})[0].Err)
		require.Error(t, w.write(statusOf(owned, first.Status, 6)).Err)
		require.Error(t, lead.Bump(w.ctx, []epochstore.Bump{bump})[0].Err)
		_, err := w.store.UpdateSpec(w.ctx, view.Spec, *view.Spec.Record)
		require.NoError(t, err)
		_, err = w.store.UpdateSpec(w.ctx, view.Spec, *view.Spec.Record)
		require.Error(t, err)
		now := w.view("a").Epoch
		bump.Previous, bump.SeenRevision = now, now.ModRevision
		require.Error(t, lead.Bump(w.ctx, []epochstore.Bump{bump})[0].Err)
		require.NoError(t, lead.Resign(w.ctx))
		require.Error(t, lead.Bump(w.ctx, []epochstore.Bump{bump})[0].Err)
		for _, rule := range []string{"F1", "F2", "F3", "F4", "F5", "F25"} {
			require.Positive(t, counts[rule], rule)
		}
	})
}
