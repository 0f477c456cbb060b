package epochstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
)

// A floor far above the store's revision, as after a restore, hands out epochs that no revision remembers once their
// records are deleted. The model bump.pml found that they came again.
func TestAnEpochAboveTheRevisionIsNotReusedAfterARemoval(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		w.create("a")
		require.NoError(t, w.store.RaiseFloor(w.ctx, 5_000_000))
		first := w.own(lead, "a", "n1").Record.Epoch
		require.NoError(t, w.store.ForceRemove(w.ctx, id("a")))

		w.create("a")
		second := w.own(lead, "a", "n1").Record.Epoch
		require.True(t, first.OlderThan(second), "%d after %d", second, first)
		_, err := w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredRemoved)
		require.NoError(t, err)
		w.own(lead, "a", "")
		view := w.view("a")
		require.NoError(t, lead.Remove(w.ctx, epochstore.Removal{
			ID: view.ID, Spec: view.Spec, Epoch: view.Epoch, Status: view.Status,
		}))

		w.create("a")
		third := w.own(lead, "a", "n1").Record.Epoch
		require.True(t, view.Epoch.Record.Epoch.OlderThan(third), "%d after %d", third, second)
	})
}
