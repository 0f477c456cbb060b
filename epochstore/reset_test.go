package epochstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/record"
)

// A reset is another creation under the same name: nothing of the former uid is left but its ended ownerships, and no
// epoch is handed out again.
func TestAResetForgetsAllButTheEpoch(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		owned := w.own(lead, "a", "n1")
		view := w.view("a")
		result := w.store.WriteStatuses(w.ctx, []epochstore.StatusWrite{{
			ID: id("a"), Ownership: owned, Status: record.Status{
				UID: owned.Record.UID, Epoch: owned.Record.Epoch, State: changefeed.StateReleased, Checkpoint: 77, Spans: 1,
			},
		}})
		require.NoError(t, result[0].Err)

		spec := *view.Spec.Record
		spec.Start = record.StartSnapshot
		_, err := w.store.ResetSpec(w.ctx, w.view("a"), "another", spec)
		require.ErrorIs(t, err, epochstore.ErrRefused, "it has an owner")

		before := w.own(lead, "a", "")
		read := w.view("a")
		_, err = w.store.ResetSpec(w.ctx, read, read.Spec.Record.UID, spec)
		require.ErrorIs(t, err, epochstore.ErrRefused, "the same uid")
		w.flaky.inject(nil, once(lost))
		stored, err := w.store.ResetSpec(w.ctx, read, "another", spec)
		require.NoError(t, err)
		after := w.view("a")
		require.Equal(t, changefeed.UID("another"), after.Spec.Record.UID)
		require.Equal(t, stored.ModRevision, after.Spec.ModRevision)
		require.False(t, after.Status.Exists(), "a later owner would carry its checkpoint on")
		require.Equal(t, before.ModRevision, after.Epoch.ModRevision, "the epoch record stays")
		_, err = w.store.ResetSpec(w.ctx, read, "third", spec)
		require.Equal(t, changefeed.CodeSpecConflict, changefeed.AsFault(err, "").Code, "read before the first")

		next := w.own(lead, "a", "n1")
		require.True(t, before.Record.Epoch.OlderThan(next.Record.Epoch))
		require.Equal(t, changefeed.UID("another"), next.Record.UID)
	})
}

// A reset that was decided before somebody resumed does nothing.
func TestAResetThatMeetsAnOwnerIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		read := w.create("a")
		w.own(lead, "a", "n1")
		_, err := w.store.ResetSpec(w.ctx, read, "another", *read.Spec.Record)
		require.Equal(t, changefeed.CodeSpecConflict, changefeed.AsFault(err, "").Code)
		require.Equal(t, read.Spec.Record.UID, w.view("a").Spec.Record.UID)
	})
}
