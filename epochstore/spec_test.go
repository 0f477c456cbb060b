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

// Fence F25: an update that was made from an older reading is refused.
func TestAnUpdateMadeFromAnOldReadingIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		read := w.create("a").Spec
		first, second := *read.Record, *read.Record
		first.Sink, second.Sink = "stdout:", "file:///tmp/x"
		w.flaky.inject(nil, once(lost))
		stored, err := w.store.UpdateSpec(w.ctx, read, first)
		require.NoError(t, err)
		require.Equal(t, w.get(w.keys.Spec(id("a"))).ModRevision, stored.ModRevision)
		_, err = w.store.UpdateSpec(w.ctx, read, second)
		require.Equal(t, changefeed.CodeSpecConflict, changefeed.AsFault(err, "").Code)
		require.ErrorIs(t, err, fence.ErrStale)
		require.Equal(t, "stdout:", w.view("a").Spec.Record.Sink)

		require.NoError(t, w.store.ForceRemove(w.ctx, id("a")))
		_, err = w.store.UpdateSpec(w.ctx, stored, second)
		require.Equal(t, changefeed.CodeNotFound, changefeed.AsFault(err, "").Code)
		w.create("a")
		_, err = w.store.UpdateSpec(w.ctx, stored, second)
		require.Equal(t, changefeed.CodeNotFound, changefeed.AsFault(err, "").Code, "another creation")
	})
}

func TestANameIsCreatedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.flaky.inject(nil, once(lost))
		view := w.create("a")
		require.NotEmpty(t, view.Spec.Record.UID)
		require.Equal(t, view.Spec.Record.Created, view.Spec.Record.Updated)
		_, err := w.store.CreateSpec(w.ctx, *view.Spec.Record)
		require.Equal(t, changefeed.CodeExists, changefeed.AsFault(err, "").Code)
		_, err = w.store.CreateSpec(w.ctx, record.Spec{Namespace: "default", Name: "a/b"})
		require.Equal(t, changefeed.CodeRequestInvalid, changefeed.AsFault(err, "").Code)
	})
}

func TestWishesMeet(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.create("a")
		paused, err := w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredPaused)
		require.NoError(t, err)
		again, err := w.store.SetDesired(w.ctx, id("a"), changefeed.DesiredPaused)
		require.NoError(t, err)
		require.Equal(t, paused.ModRevision, again.ModRevision, "paused already: nothing is written")
		// Somebody else writes between the reading and the writing.
		w.flaky.inject(once(func() error {
			pair := w.get(w.keys.Spec(id("a")))
			w.put(pair.Key, string(pair.Value))
			return nil
		}), nil)
		moved, err := w.store.SetMove(w.ctx, id("a"), "n2")
		require.NoError(t, err)
		require.Equal(t, changefeed.NodeID("n2"), moved.Record.Move.To)
		require.Equal(t, changefeed.DesiredPaused, moved.Record.Desired)
		_, err = w.store.SetMove(w.ctx, id("nobody"), "n2")
		require.Equal(t, changefeed.CodeNotFound, changefeed.AsFault(err, "").Code)
	})
}

func TestTheListIsPaged(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		lead := w.lead("n1")
		const count = 25
		for i := range count {
			w.create(fmt.Sprintf("c%02d", i))
		}
		for _, name := range []string{"c00", "c13", "c24"} {
			w.own(lead, name, "n1")
		}
		w.put(w.keys.Status(id("c07")), "not JSON")
		w.put(w.keys.Spec(changefeed.ID{Namespace: "other", Name: "x"}), "{}")
		var items []epochstore.View
		var after changefeed.ID
		for {
			page, err := w.store.List(w.ctx, "", after, 10)
			require.NoError(t, err)
			items = append(items, page.Items...)
			if !page.More {
				break
			}
			after = page.Items[len(page.Items)-1].ID
		}
		require.Len(t, items, count+1)
		for i, item := range items[:count] {
			require.Equal(t, fmt.Sprintf("c%02d", i), item.ID.Name)
			require.Equal(t, i == 0 || i == 13 || i == 24, item.Epoch.Exists())
		}
		require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(items[7].Status.Err, "").Code)
		require.Error(t, items[count].Spec.Err, "what does not parse is listed all the same")
		page, err := w.store.List(w.ctx, "other", changefeed.ID{}, 10)
		require.NoError(t, err)
		require.Len(t, page.Items, 1)
		page, err = w.store.List(w.ctx, "nobody", changefeed.ID{}, 10)
		require.NoError(t, err)
		require.Empty(t, page.Items)
	})
}

// Many nodes start at once: one of them creates the cluster's record.
func TestTheClustersRecordIsCreatedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		before := w.get(w.keys.Meta())
		w.drop(w.keys.Meta())
		ids := make(chan string, 8)
		for range cap(ids) {
			go func() {
				meta, err := w.store.EnsureMeta(w.ctx)
				if err != nil || meta.Record == nil {
					ids <- fmt.Sprint(err)
					return
				}
				ids <- meta.Record.ClusterID
			}()
		}
		first := <-ids
		for range cap(ids) - 1 {
			require.Equal(t, first, <-ids)
		}
		meta := w.get(w.keys.Meta())
		require.EqualValues(t, 1, meta.Version)
		require.NotEqual(t, before.Value, meta.Value)
	})
}

// A record of a newer format stops everything, and says so.
func TestANewerFormatIsRefused(t *testing.T) {
	w := memoryWorld(t)
	w.put(w.keys.Meta(), `{"format":2,"level":1,"cluster_id":"x","epoch_floor":0,"created":"2026-01-01T00:00:00Z"}`)
	_, err := w.store.EnsureMeta(w.ctx)
	require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(err, "").Code)
}

// Hazard 3: the store that is given sends each transaction once; what is sent again is sent by this package, with
// compares that let it be applied once. A bump without faults is one transaction, and a status is.
func TestOneWriteIsOneTransaction(t *testing.T) {
	w := memoryWorld(t)
	lead := w.lead("n1")
	w.create("a")
	before := w.flaky.writes.Load()
	owned := w.own(lead, "a", "n1")
	require.EqualValues(t, 1, w.flaky.writes.Load()-before)
	require.NoError(t, w.write(statusOf(owned, seenStatus{}, 1)).Err)
	require.EqualValues(t, 2, w.flaky.writes.Load()-before)
	_, err := w.raw.Txn(w.ctx, kv.Txn{})
	require.NoError(t, err)
}
