package epochstore_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/kv/kvmem"
	"fencerow/record"
)

// mirror is what a consumer of a watch knows.
type mirror struct {
	w        *world
	watch    *epochstore.Watch
	records  map[string]int64 // key → mod revision
	created  map[string]int64
	invalid  map[string]error
	revision int64
	updates  []epochstore.Update // with changes
}

// follow runs a watch for the rest of the test.
func (w *world) follow(kinds ...record.Kind) *mirror {
	w.t.Helper()
	watch := w.store.Watch(epochstore.WatchConfig{Kinds: kinds, Clock: epochstore.BootTime, Logger: zap.NewNop()})
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- watch.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); require.ErrorIs(w.t, <-done, context.Canceled) })
	return &mirror{
		w: w, watch: watch, records: map[string]int64{}, created: map[string]int64{}, invalid: map[string]error{},
	}
}

// next takes one update in, and holds it to the rules.
func (m *mirror) next() epochstore.Update {
	t := m.w.t
	t.Helper()
	var update epochstore.Update
	select {
	case update = <-m.watch.Updates():
	case <-m.w.ctx.Done():
		require.Fail(t, "no update")
	}
	require.Equal(t, m.revision == 0, update.Snapshot)
	require.GreaterOrEqual(t, update.Revision, m.revision)
	m.revision = update.Revision
	for _, change := range update.Changes {
		require.LessOrEqual(t, change.ModRevision, update.Revision)
		if change.Deleted {
			require.Contains(t, m.records, change.Key)
			delete(m.records, change.Key)
			delete(m.created, change.Key)
			delete(m.invalid, change.Key)
			continue
		}
		if created, known := m.created[change.Key]; known {
			require.Equal(t, created, change.CreateRevision, "a creation follows a deletion")
		}
		m.records[change.Key], m.created[change.Key] = change.ModRevision, change.CreateRevision
		delete(m.invalid, change.Key)
		if change.Err != nil {
			m.invalid[change.Key] = change.Err
		}
		require.Equal(t, change.Err == nil, change.Record != nil)
	}
	if len(update.Changes) > 0 {
		m.updates = append(m.updates, update)
	}
	return update
}

// stored returns what the store holds of some kinds now, and its revision.
func (w *world) stored(kinds ...record.Kind) (map[string]int64, int64) {
	out := map[string]int64{}
	var revision int64
	for _, kind := range kinds {
		prefix := w.keys.Of(kind)
		result, err := w.raw.Range(w.ctx, kv.Range{Key: prefix, End: kv.PrefixEnd(prefix)})
		require.NoError(w.t, err)
		for _, pair := range result.Pairs {
			out[pair.Key] = pair.ModRevision
		}
		revision = result.Revision
	}
	return out, revision
}

// settle takes updates in until the mirror is the store.
func (m *mirror) settle(kinds ...record.Kind) {
	m.w.t.Helper()
	want, revision := m.w.stored(kinds...)
	for m.revision < revision || !maps.Equal(want, m.records) {
		m.next()
	}
}

func TestAWatchListsAndFollows(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		kinds := []record.Kind{record.KindSpec, record.KindEpoch, record.KindStatus, record.KindHandoff, record.KindDrain}
		lead := w.lead("n1")
		w.create("a")
		m := w.follow(kinds...)
		require.Equal(t, epochstore.AgeUnknown, m.watch.Age())
		require.Len(t, m.next().Changes, 1)
		w.create("b")
		owned := w.own(lead, "a", "n1")
		require.NoError(t, w.write(statusOf(owned, seenStatus{}, 3)).Err)
		require.NoError(t, w.store.PutDrain(w.ctx, "n1", "ops"))
		w.own(lead, "a", "n2")
		require.NoError(t, w.store.ForceRemove(w.ctx, id("a")))
		m.settle(kinds...)
		last := m.updates[len(m.updates)-1]
		require.GreaterOrEqual(t, len(last.Changes), 3) // a response may bring revisions before it along
		for _, change := range last.Changes[len(last.Changes)-3:] {
			require.True(t, change.Deleted, "a removal is one revision: spec, epoch and status")
			require.Equal(t, last.Revision, change.ModRevision)
		}
		require.Eventually(t, func() bool { return m.watch.Revision() == m.revision }, testLimit, time.Millisecond)
		require.Less(t, m.watch.Age(), testLimit)
	})
}

// One record that does not parse stops no other.
func TestAWatchDeliversWhatDoesNotParse(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		bad, odd := w.keys.Epoch(id("bad")), w.keys.Of(record.KindEpoch)+"odd"
		w.put(bad, `{"uid":`)
		lead := w.lead("n1")
		w.create("a")
		m := w.follow(record.KindEpoch)
		require.Len(t, m.next().Changes, 1)
		require.Contains(t, m.invalid, bad)
		w.put(odd, "{}")
		w.own(lead, "a", "n1")
		m.settle(record.KindEpoch)
		require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(m.invalid[odd], "").Code)
		require.Contains(t, m.records, w.keys.Epoch(id("a")))
		w.drop(bad)
		m.settle(record.KindEpoch)
		require.NotContains(t, m.invalid, bad)
	})
}

func (w *world) compact(revision int64) {
	w.t.Helper()
	switch store := w.raw.(type) {
	case *kvmem.Store:
		require.NoError(w.t, store.Compact(w.ctx, revision))
	case *kvetcd.Store:
		require.NoError(w.t, store.Compact(w.ctx, revision))
	}
}

// Hazards 10 and 16: history is compacted away while the watch is down: it lists again, and delivers what was deleted,
// changed, and deleted and created anew.
func TestAWatchSurvivesCompaction(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, name := range []string{"gone", "kept", "changed", "anew"} {
			w.create(name)
		}
		m := w.follow(record.KindSpec)
		require.Len(t, m.next().Changes, 4)
		w.flaky.cutWatches(true)
		require.NoError(t, w.store.ForceRemove(w.ctx, id("gone")))
		require.NoError(t, w.store.ForceRemove(w.ctx, id("anew")))
		w.create("anew")
		w.create("new")
		_, err := w.store.SetDesired(w.ctx, id("changed"), changefeed.DesiredPaused)
		require.NoError(t, err)
		_, revision := w.stored(record.KindSpec)
		w.compact(revision)
		w.flaky.cutWatches(false)
		m.settle(record.KindSpec)
		require.Len(t, m.updates, 2)
		var got []string
		for _, change := range m.updates[1].Changes {
			got = append(got, fmt.Sprintf("%s deleted=%v", change.Ref.ID.Name, change.Deleted))
		}
		require.Equal(t, []string{
			"anew deleted=true", "gone deleted=true", "anew deleted=false", "new deleted=false", "changed deleted=false",
		}, got)
		w.create("later")
		m.settle(record.KindSpec)
	})
}

// Hazard 16: a watch that broke goes on from the next revision, and misses nothing.
func TestAWatchGoesOnAfterItBroke(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		m := w.follow(record.KindSpec)
		m.next()
		for i := range 20 {
			w.flaky.cutWatches(true)
			w.create(fmt.Sprintf("c%d", i))
			w.flaky.cutWatches(false)
			w.create(fmt.Sprintf("d%d", i))
			if i%5 == 0 {
				m.settle(record.KindSpec)
			}
		}
		m.settle(record.KindSpec)
		puts := 0
		for _, update := range m.updates {
			puts += len(update.Changes)
		}
		require.Equal(t, 40, puts, "nothing twice")
	})
}

// Hazard 16: a revision that comes in fragments is delivered whole.
func TestARevisionIsDeliveredWhole(t *testing.T) {
	w := memoryWorld(t)
	w.raw.(*kvmem.Store).FragmentWatches(1)
	lead := w.lead("n1")
	m := w.follow(record.KindEpoch)
	m.next()
	var bumps []epochstore.Bump
	for i := range 30 {
		bumps = append(bumps, bumpOf(w.create(fmt.Sprintf("c%02d", i)), "n1"))
	}
	for _, result := range lead.Bump(w.ctx, bumps) {
		require.NoError(t, result.Err)
	}
	m.settle(record.KindEpoch)
	require.Len(t, m.updates, 1)
	require.Len(t, m.updates[0].Changes, 30)
}

// A silent watch is not a healthy one: its age says so, and it is started anew.
func TestASilentWatchGrowsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		server, clock := kvmem.NewServer(kvmem.Config{}), &turned{start: time.Now()}
		raw, writer := server.Open(), server.Open()
		keys, err := record.NewKeys("silent")
		require.NoError(t, err)
		watch := epochstore.New(raw, keys, time.Now).Watch(epochstore.WatchConfig{
			Kinds: []record.Kind{record.KindSpec}, Clock: clock.now, Logger: zap.NewNop(),
		})
		go func() { _ = watch.Run(ctx) }()
		seen := map[string]bool{}
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case update := <-watch.Updates():
					for _, change := range update.Changes {
						seen[change.Ref.ID.Name] = true
					}
				}
			}
		}()
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		require.LessOrEqual(t, watch.Age(), 2*time.Second, "idle, and known to be current")
		raw.HoldWatches()
		put := kv.Put(keys.Spec(id("a")), []byte("{}"))
		_, err = writer.Txn(ctx, kv.Txn{Then: []kv.Op{put}})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.GreaterOrEqual(t, watch.Age(), 29*time.Second)
		require.Empty(t, seen)
		raw.ReleaseWatches()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.True(t, seen["a"])
		require.LessOrEqual(t, watch.Age(), 2*time.Second)
		cancel()
		_ = raw.Close()
		_ = writer.Close()
		synctest.Wait()
	})
}

// unanswering is a store whose watches never say how far they are: so does etcd as long as they are behind.
type unanswering struct{ kv.Store }

type unansweringWatch struct{ kv.Watch }

func (u unanswering) Watch(ctx context.Context, request kv.WatchRequest) kv.Watch {
	return unansweringWatch{u.Store.Watch(ctx, request)}
}

func (unansweringWatch) RequestProgress(context.Context) error { return nil }

// A coordinator decides nothing on what is old. What a busy store's watch delivers is not.
func TestAWatchThatDeliversIsYoungAlthoughItNeverSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := kvmem.NewServer(kvmem.Config{}).Open()
		defer func() { _ = raw.Close() }()
		keys, err := record.NewKeys("c")
		require.NoError(t, err)
		start := time.Now()
		watch := epochstore.New(unanswering{raw}, keys, time.Now).Watch(epochstore.WatchConfig{
			Kinds: []record.Kind{record.KindDrain}, Logger: zap.NewNop(),
			Clock: func() changefeed.Time { return changefeed.Time(time.Since(start)) + 1 },
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- watch.Run(ctx) }()
		go func() {
			for {
				select {
				case <-watch.Updates():
				case <-ctx.Done():
					return
				}
			}
		}()
		for i := range 600 {
			_, err := raw.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(keys.Drain(fmt.Sprintf("n%d", i)), []byte("{}"))}})
			require.NoError(t, err)
			time.Sleep(100 * time.Millisecond) // virtual
			synctest.Wait()
			require.Less(t, watch.Age(), 4*time.Second, "after %v", time.Since(start))
		}
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}
