package kvtest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/kv"
)

// askAgain is how long a request for progress is waited for.
const askAgain = 20 * time.Millisecond

func watchOrder(b *bench) {
	first := b.put("a", "1")
	live := b.watch(first)
	b.collect(live, 1)
	one := b.Watch(b.ctx, kv.WatchRequest{Key: b.key("c"), From: first})
	future := b.watch(first + 3)
	second := b.txn(kv.Txn{Then: []kv.Op{
		kv.Put(b.key("z"), []byte("2")), kv.Put(b.key("b"), []byte("2")), kv.Delete(b.key("a")),
		kv.Put(b.key("c"), nil),
	}}).Revision
	b.put("b", "3")
	fourth := b.txn(kv.Txn{Then: []kv.Op{kv.DeletePrefix(b.prefix)}}).Revision
	require.Equal(b.t, first+3, fourth)
	all := []kv.Event{
		{Pair: kv.Pair{Key: b.key("z"), Value: []byte("2"), CreateRevision: second, ModRevision: second, Version: 1}},
		{Pair: kv.Pair{Key: b.key("b"), Value: []byte("2"), CreateRevision: second, ModRevision: second, Version: 1}},
		{Deleted: true, Pair: kv.Pair{Key: b.key("a"), ModRevision: second}},
		{Pair: kv.Pair{Key: b.key("c"), CreateRevision: second, ModRevision: second, Version: 1}},
		{Pair: kv.Pair{Key: b.key("b"), Value: []byte("3"), CreateRevision: second, ModRevision: second + 1, Version: 2}},
		{Deleted: true, Pair: kv.Pair{Key: b.key("b"), ModRevision: fourth}},
		{Deleted: true, Pair: kv.Pair{Key: b.key("c"), ModRevision: fourth}},
		{Deleted: true, Pair: kv.Pair{Key: b.key("z"), ModRevision: fourth}},
	}
	require.Equal(b.t, all, b.collect(live, len(all)))
	require.Equal(b.t, all, b.collect(b.watch(second), len(all)), "the same again from history")
	require.Equal(b.t, all[5:], b.collect(future, 3))
	require.Equal(b.t, []kv.Event{all[3], all[6]}, b.collect(one, 2))
}

func watchBehind(b *bench) {
	// More than the 1000 revisions that etcd sends at a time to a watcher that is behind.
	const revisions = 1500
	first := b.put("k", "0")
	for i := 1; i < revisions; i++ {
		b.put("k", fmt.Sprint(i))
	}
	for i, event := range b.collect(b.watch(first), revisions) {
		require.Equal(b.t, first+int64(i), event.Pair.ModRevision)
	}
}

func watchFragments(b *bench) {
	const perTxn, txns, valueBytes = 100, 4, 10_000
	var first int64
	for range txns {
		var ops []kv.Op
		for i := range perTxn {
			ops = append(ops, kv.Put(b.key(fmt.Sprintf("%03d", i)), make([]byte, valueBytes)))
		}
		revision := b.txn(kv.Txn{Then: ops}).Revision
		if first == 0 {
			first = revision
		}
	}
	watch := b.watch(first)
	events, fragments, complete := 0, 0, int64(0)
	for events < perTxn*txns {
		response := b.next(watch)
		require.NoError(b.t, response.Err)
		for _, event := range response.Events {
			require.Greater(b.t, event.Pair.ModRevision, complete)
			require.Equal(b.t, b.key(fmt.Sprintf("%03d", events%perTxn)), event.Pair.Key)
			require.Equal(b.t, first+int64(events/perTxn), event.Pair.ModRevision)
			events++
		}
		if response.Fragment {
			fragments++
		} else {
			complete = response.Revision
			require.Zero(b.t, events%perTxn, "not a fragment, so a whole number of revisions")
		}
	}
	require.Positive(b.t, fragments, "there was nothing to put together")
}

func watchCompacted(b *bench) {
	first := b.put("a", "1")
	idle := b.Watch(b.ctx, kv.WatchRequest{Key: b.key("b"), From: first})
	b.put("a", "2")
	last := b.put("a", "3")
	b.synced(idle, last)
	require.NoError(b.t, b.Compact(b.ctx, last))
	lost := b.watch(last - 1)
	response := b.next(lost)
	require.ErrorIs(b.t, response.Err, kv.ErrCompacted)
	require.Equal(b.t, last, response.Compacted)
	_, open := <-lost.Responses()
	require.False(b.t, open)
	require.Equal(b.t, "3", string(b.collect(b.watch(last), 1)[0].Pair.Value), "the compacted revision itself is there")
	b.put("b", "1")
	require.Len(b.t, b.collect(idle, 1), 1, "a watch that missed nothing goes on")
}

// synced asks for progress until the watch has reached a revision; events are not expected. It asks again and again,
// since etcd drops a request while the watch is behind.
func (b *bench) synced(watch kv.Watch, revision int64) {
	b.t.Helper()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		require.NoError(b.t, watch.RequestProgress(b.ctx))
		select {
		case response, open := <-watch.Responses():
			require.True(b.t, open)
			require.NoError(b.t, response.Err)
			require.Empty(b.t, response.Events)
			if response.Revision >= revision {
				return
			}
		case <-again.C:
		case <-b.ctx.Done():
			require.FailNow(b.t, "the watch makes no progress")
		}
	}
}

func watchProgress(b *bench) {
	const puts = 200
	watch := b.watch(b.put("k", "0"))
	done := make(chan error, 1)
	go func() {
		for i := 1; i < puts; i++ {
			txn := kv.Txn{Then: []kv.Op{kv.Put(b.key("k"), fmt.Append(nil, i))}}
			if _, err := b.Txn(b.ctx, txn); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for events, complete := 0, int64(0); events < puts; {
		require.NoError(b.t, watch.RequestProgress(b.ctx))
		response := b.next(watch)
		require.NoError(b.t, response.Err)
		require.GreaterOrEqual(b.t, response.Revision, complete)
		for _, event := range response.Events {
			require.Greater(b.t, event.Pair.ModRevision, complete)
			events++
		}
		complete = response.Revision
	}
	require.NoError(b.t, <-done)
	// Others' changes move it too, without events.
	last := b.txn(kv.Txn{Then: []kv.Op{kv.Put("elsewhere", nil)}}).Revision
	b.synced(watch, last)
}

// watchIdle: a watch that begins after the newest revision is not behind, and says so although nothing ever happens.
func watchIdle(b *bench) {
	last := b.put("k", "1")
	watch := b.watch(last + 1)
	b.synced(watch, last)
	next := b.put("k", "2")
	require.Equal(b.t, next, b.collect(watch, 1)[0].Pair.ModRevision, "only what it was asked for")
	require.NoError(b.t, b.Compact(b.ctx, next))
	watch = b.watch(next)
	require.Equal(b.t, next, b.collect(watch, 1)[0].Pair.ModRevision, "the revision before is compacted")
	b.synced(watch, next)
}

func watchNothing(b *bench) {
	watch := b.Watch(b.ctx, kv.WatchRequest{Key: "b", End: "a", From: 1})
	require.Error(b.t, b.next(watch).Err)
	_, open := <-watch.Responses()
	require.False(b.t, open)
}
