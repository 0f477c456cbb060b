package kvmem_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
)

func put(key string) kv.Txn { return kv.Txn{Then: []kv.Op{kv.Put(key, []byte("v"))}} }

func TestLostRequestsAndAnswersLookTheSame(t *testing.T) {
	store := kvmem.New(kvmem.Config{})
	defer func() { require.NoError(t, store.Close()) }()
	for _, fault := range []kvmem.Fault{kvmem.LoseRequest, kvmem.LoseAnswer} {
		store.FailNextTxn(fault)
		_, err := store.Txn(t.Context(), put("k"))
		require.ErrorIs(t, err, fence.ErrUnknown)
		result, err := store.Range(t.Context(), kv.Range{Key: "k"})
		require.NoError(t, err)
		require.Equal(t, fault == kvmem.LoseAnswer, result.Count == 1)
	}
	store.FailNextTxn(kvmem.Refuse)
	_, err := store.Txn(t.Context(), put("k"))
	require.ErrorIs(t, err, kvmem.ErrNoSpace)
	require.NotErrorIs(t, err, fence.ErrUnknown)
	_, err = store.Txn(t.Context(), put("k"))
	require.NoError(t, err, "only the next one")
}

func TestAStoreThatIsCutOffIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := kvmem.NewServer(kvmem.Config{})
		cut, well := server.Open(), server.Open()
		watch := cut.Watch(t.Context(), kv.WatchRequest{Key: "k", From: 1})
		cut.Cut()
		_, err := well.Txn(t.Context(), put("k"))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = cut.Txn(ctx, put("other"))
		cancel()
		require.ErrorIs(t, err, fence.ErrUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		select {
		case response := <-watch.Responses():
			require.Fail(t, "not silent", "%+v", response)
		default:
		}
		cut.Heal()
		require.Len(t, (<-watch.Responses()).Events, 1)
		cut.CutWatches()
		require.Error(t, (<-watch.Responses()).Err)
		_, open := <-watch.Responses()
		require.False(t, open)
		require.NoError(t, cut.Close())
		require.NoError(t, well.Close())
	})
}

func TestLeasesEndByVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := kvmem.New(kvmem.Config{})
		lease, err := store.Grant(t.Context(), 5*time.Second)
		require.NoError(t, err)
		_, err = store.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.PutLeased("k", nil, lease.ID)}})
		require.NoError(t, err)
		watch := store.Watch(t.Context(), kv.WatchRequest{Key: "k", From: 1})
		<-watch.Responses()
		began := time.Now()
		require.True(t, (<-watch.Responses()).Events[0].Deleted)
		require.Equal(t, lease.TTL, time.Since(began))
		require.NoError(t, store.Close())
	})
}

func TestAWatchThatWasHeldBackLosesWhatIsCompacted(t *testing.T) {
	store := kvmem.New(kvmem.Config{})
	watch := store.Watch(t.Context(), kv.WatchRequest{Key: "k", From: 1})
	store.HoldWatches()
	var last kv.Result
	for range 3 {
		var err error
		last, err = store.Txn(t.Context(), put("k"))
		require.NoError(t, err)
	}
	require.NoError(t, store.Compact(t.Context(), last.Revision))
	store.ReleaseWatches()
	response := <-watch.Responses()
	require.ErrorIs(t, response.Err, kv.ErrCompacted)
	require.Equal(t, last.Revision, response.Compacted)
	require.NoError(t, store.Close())
}

func TestARestoredBackupIsAnotherPast(t *testing.T) {
	m := kvmem.NewMachine(1)
	_, err := m.Apply(put("a"))
	require.NoError(t, err)
	backup := m.Clone(2, 0)
	bumped := m.Clone(0, 1000)
	_, err = m.Apply(put("b"))
	require.NoError(t, err)
	require.Equal(t, []int64{3, 2, 1002}, []int64{m.Revision(), backup.Revision(), bumped.Revision()})
	require.Equal(t, uint64(2), backup.ClusterID())
	require.Equal(t, uint64(1), bumped.ClusterID())
	result, err := backup.Range(kv.Range{Key: "b"})
	require.NoError(t, err)
	require.Zero(t, result.Count)
	response, found := bumped.Watch(kv.WatchRequest{Key: "a", From: 1}).Next(0)
	require.True(t, found)
	require.ErrorIs(t, response.Err, kv.ErrCompacted)
}

// Found by the simulation: a watch that a compaction has overtaken stood in the way of the next one.
func TestAWatchThatWasOvertakenOutlivesAnotherCompaction(t *testing.T) {
	machine := kvmem.NewMachine(1)
	cursor := machine.Watch(kv.WatchRequest{Key: "k", From: 1})
	for range 2 {
		for range 3 {
			_, err := machine.Apply(put("k"))
			require.NoError(t, err)
		}
		require.NoError(t, machine.Compact(machine.Revision()))
	}
	response, found := cursor.Next(0)
	require.True(t, found)
	require.ErrorIs(t, response.Err, kv.ErrCompacted)
}
