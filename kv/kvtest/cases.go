package kvtest

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
	"fencerow/kv"
)

func everyCompare(b *bench) {
	b.put("there", "m")
	b.put("there", "m")
	pair := b.list().Pairs[0]
	require.Equal(b.t, int64(2), pair.Version)
	stored := map[kv.Target]int64{
		kv.ModRevision: pair.ModRevision, kv.CreateRevision: pair.CreateRevision, kv.Version: pair.Version,
	}
	holds := func(c kv.Compare) bool {
		return b.txn(kv.Txn{If: []kv.Compare{c}}).Succeeded
	}
	expected := func(relation kv.Relation, order int) bool {
		switch relation {
		case kv.Equal:
			return order == 0
		case kv.NotEqual:
			return order != 0
		case kv.Less:
			return order < 0
		default:
			return order > 0
		}
	}
	for _, relation := range []kv.Relation{kv.Equal, kv.NotEqual, kv.Less, kv.Greater} {
		for target, number := range stored {
			for _, offset := range []int64{-1, 0, 1} {
				c := kv.Compare{Key: b.key("there"), Target: target, Relation: relation, Number: number + offset}
				require.Equal(b.t, expected(relation, int(-offset)), holds(c), "%+v", c)
			}
			missing := kv.Compare{Key: b.key("missing"), Target: target, Relation: relation, Number: 1}
			require.Equal(b.t, expected(relation, -1), holds(missing), "%+v", missing)
		}
		for offset, value := range []string{"n", "m", "l"} { // stored is less, equal, greater
			c := kv.Compare{Key: b.key("there"), Target: kv.Value, Relation: relation, Value: []byte(value)}
			require.Equal(b.t, expected(relation, offset-1), holds(c), "%+v", c)
		}
		missing := kv.Compare{Key: b.key("missing"), Target: kv.Value, Relation: relation}
		require.False(b.t, holds(missing), "a missing value agrees with nothing: %+v", missing)
	}
	require.True(b.t, holds(kv.ModIs(b.key("missing"), 0)))
	require.True(b.t, b.txn(kv.Txn{}).Succeeded, "no compare holds")
}

func comparesOfRanges(b *bench) {
	b.put("r/a", "1")
	last := b.put("r/b", "1")
	b.put("s", "1")
	holds := func(c kv.Compare) bool { return b.txn(kv.Txn{If: []kv.Compare{c}}).Succeeded }
	every := func(target kv.Target, relation kv.Relation, number int64) kv.Compare {
		prefix := b.key("r/")
		return kv.Compare{Key: prefix, End: kv.PrefixEnd(prefix), Target: target, Relation: relation, Number: number}
	}
	require.True(b.t, holds(kv.ModAtMost(b.key("r/"), last)), "what lies outside does not count")
	require.False(b.t, holds(kv.ModAtMost(b.key("r/"), last-1)), "one key that does not meet it is enough")
	require.True(b.t, holds(every(kv.Version, kv.Equal, 1)))
	b.put("r/a", "2")
	require.False(b.t, holds(kv.ModAtMost(b.key("r/"), last)))
	require.False(b.t, holds(every(kv.Version, kv.Equal, 1)))
	require.True(b.t, holds(kv.ModAtMost(b.key("none/"), 0)), "no key: as one that does not exist")
	require.False(b.t, holds(kv.Compare{
		Key: b.key("none/"), End: kv.PrefixEnd(b.key("none/")), Target: kv.Value, Relation: kv.NotEqual, Value: []byte("x"),
	}))
}

func readsItsWrites(b *bench) {
	revision := b.put("a", "1")
	result := b.txn(kv.Txn{Then: []kv.Op{
		kv.Put(b.key("b"), []byte("2")), kv.GetPrefix(b.prefix), kv.Delete(b.key("a")), kv.GetPrefix(b.prefix),
		kv.Delete(b.key("a")),
		{Kind: kv.OpGet, Key: b.prefix, End: kv.PrefixEnd(b.prefix), Limit: 1},
	}})
	require.Equal(b.t, revision+1, result.Revision, "one transaction, one revision")
	require.Len(b.t, result.Responses, 6)
	require.Len(b.t, result.Responses[1].Pairs, 2)
	require.Equal(b.t, int64(1), result.Responses[2].Deleted)
	require.Len(b.t, result.Responses[3].Pairs, 1)
	require.Equal(b.t, int64(0), result.Responses[4].Deleted)
	require.False(b.t, result.Responses[5].More)

	result = b.txn(kv.Txn{
		If:   []kv.Compare{kv.ModIs(b.key("b"), 1)},
		Then: []kv.Op{kv.Put(b.key("never"), nil)},
		Else: []kv.Op{kv.Get(b.key("b")), kv.Delete(b.key("missing"))},
	})
	require.False(b.t, result.Succeeded)
	require.Equal(b.t, revision+1, result.Revision, "a transaction that changes nothing makes no revision")
	require.Equal(b.t, "2", string(result.Responses[0].Pairs[0].Value))
	require.Equal(b.t, []string{"b"}, b.names())
}

func refusals(b *bench) {
	b.put("a", "1")
	before := b.list()
	for name, c := range map[string]struct {
		txn   kv.Txn
		class string
	}{
		"a key put twice":             {kv.Txn{Then: []kv.Op{kv.Put(b.key("x"), nil), kv.Put(b.key("x"), nil)}}, "duplicate key"},
		"a key put and deleted":       {kv.Txn{Then: []kv.Op{kv.Put(b.key("x"), nil), kv.Delete(b.key("x"))}}, "duplicate key"},
		"a range deleted, a key put":  {kv.Txn{Else: []kv.Op{kv.DeletePrefix(b.prefix), kv.Put(b.key("x"), nil)}}, "duplicate key"},
		"a lease that does not exist": {kv.Txn{Then: []kv.Op{kv.Put(b.key("x"), nil), kv.PutLeased(b.key("y"), nil, 1<<60)}}, "lease not found"},
		"an empty key":                {kv.Txn{Then: []kv.Op{kv.Put("", nil)}}, "empty key"},
		"an empty key compared":       {kv.Txn{If: []kv.Compare{kv.ModIs("", 0)}}, "empty key"},
	} {
		_, err := b.Txn(b.ctx, c.txn)
		require.Equal(b.t, c.class, class(err), name)
		require.NotErrorIs(b.t, err, fence.ErrUnknown, name)
	}
	require.Equal(b.t, before, b.list(), "nothing was done")
	// The other branch may put the same key, and deletes may overlap.
	b.txn(kv.Txn{Then: []kv.Op{kv.Put(b.key("x"), nil)}, Else: []kv.Op{kv.Put(b.key("x"), nil)}})
	result := b.txn(kv.Txn{Then: []kv.Op{kv.DeletePrefix(b.prefix), kv.Delete(b.key("a"))}})
	require.Equal(b.t, int64(2), result.Responses[0].Deleted)
	// A refusal of the branch that is not taken is none, if it is about leases.
	b.txn(kv.Txn{Else: []kv.Op{kv.PutLeased(b.key("y"), nil, 1<<60)}})
	_, err := b.Txn(b.ctx, kv.Txn{If: []kv.Compare{{Key: "x", Target: 99, Relation: kv.Equal}}})
	require.Error(b.t, err)
	_, err = b.Txn(b.ctx, kv.Txn{Then: []kv.Op{{Kind: 99, Key: "x"}}})
	require.Error(b.t, err)
}

func bounds(b *bench) {
	var ops []kv.Op
	for i := range kv.TxnOpsMax {
		ops = append(ops, kv.Put(b.key(fmt.Sprintf("%03d", i)), nil))
	}
	b.txn(kv.Txn{Then: ops})
	_, err := b.Txn(b.ctx, kv.Txn{Then: append(ops, kv.Put(b.key("more"), nil))})
	require.ErrorIs(b.t, err, kv.ErrTooLarge)
	b.txn(kv.Txn{Then: []kv.Op{kv.Put(b.key("big"), make([]byte, kv.TxnBytesMax))}})
	_, err = b.Txn(b.ctx, kv.Txn{Then: []kv.Op{kv.Put(b.key("big"), make([]byte, kv.RequestBytes))}})
	require.ErrorIs(b.t, err, kv.ErrTooLarge)
}

func ranges(b *bench) {
	for _, name := range []string{"a", "b", "b/1", "b/2", "c"} {
		b.put(name, "v")
	}
	read := func(r kv.Range) kv.RangeResult {
		result, err := b.Range(b.ctx, r)
		require.NoError(b.t, err)
		return result
	}
	require.Equal(b.t, []string{"a", "b", "b/1", "b/2", "c"}, b.names())
	one := read(kv.Range{Key: b.key("b")})
	require.Len(b.t, one.Pairs, 1)
	require.Equal(b.t, int64(1), one.Count)
	some := read(kv.Range{Key: b.key("a"), End: b.key("c"), Limit: 2, KeysOnly: true})
	require.Len(b.t, some.Pairs, 2)
	require.Nil(b.t, some.Pairs[0].Value)
	require.True(b.t, some.More)
	require.Equal(b.t, int64(4), some.Count)
	exact := read(kv.Range{Key: b.key("a"), End: b.key("c"), Limit: 4})
	require.False(b.t, exact.More)
	require.Empty(b.t, read(kv.Range{Key: b.key("c"), End: b.key("a")}).Pairs)
	require.Empty(b.t, read(kv.Range{Key: b.key("missing")}).Pairs)
	require.GreaterOrEqual(b.t, read(kv.Range{Key: b.key("c"), End: kv.RangeEndInfinite}).Count, int64(1))
	everything := read(kv.Range{Key: "", End: kv.RangeEndInfinite, Limit: 1})
	require.Len(b.t, everything.Pairs, 1)
	require.Equal(b.t, one.ClusterID, everything.ClusterID)
	require.NotZero(b.t, one.ClusterID)
	_, err := b.Range(b.ctx, kv.Range{})
	require.Equal(b.t, "empty key", class(err))
}

func history(b *bench) {
	first := b.put("a", "1")
	second := b.put("a", "2")
	third := b.txn(kv.Txn{Then: []kv.Op{kv.Delete(b.key("a"))}}).Revision
	fourth := b.put("a", "3")
	value := func(revision int64) string {
		result, err := b.Range(b.ctx, kv.Range{Key: b.key("a"), Revision: revision})
		require.NoError(b.t, err)
		require.Equal(b.t, fourth, result.Revision, "the header tells the store's revision")
		if len(result.Pairs) == 0 {
			return ""
		}
		return string(result.Pairs[0].Value)
	}
	require.Equal(b.t, []string{"1", "2", "", "3"}, []string{value(first), value(second), value(third), value(fourth)})
	pair := b.list().Pairs[0]
	require.Equal(b.t, []int64{fourth, fourth, 1}, []int64{pair.CreateRevision, pair.ModRevision, pair.Version})

	_, err := b.Range(b.ctx, kv.Range{Key: b.key("a"), Revision: fourth + 1})
	require.Equal(b.t, "future revision", class(err))
	require.NoError(b.t, b.Compact(b.ctx, second))
	_, err = b.Range(b.ctx, kv.Range{Key: b.key("a"), Revision: first})
	require.Equal(b.t, "compacted", class(err))
	require.Equal(b.t, []string{"2", "", "3"}, []string{value(second), value(third), value(fourth)})
	require.Equal(b.t, "compacted", class(b.Compact(b.ctx, second)))
	require.Equal(b.t, "future revision", class(b.Compact(b.ctx, fourth+1)))
	require.NoError(b.t, b.Compact(b.ctx, third))
	require.Equal(b.t, []string{"", "3"}, []string{value(third), value(fourth)})
}

func leaseLife(b *bench) {
	lease, err := b.Grant(b.ctx, time.Second)
	require.NoError(b.t, err)
	require.Equal(b.t, kv.LeaseTTLMin, lease.TTL, "etcd grants no less")
	lease, err = b.Grant(b.ctx, 100*time.Second+time.Millisecond)
	require.NoError(b.t, err)
	require.Equal(b.t, 101*time.Second, lease.TTL, "rounded up")
	revision := b.txn(kv.Txn{Then: []kv.Op{
		kv.PutLeased(b.key("z"), []byte("1"), lease.ID), kv.PutLeased(b.key("a"), []byte("1"), lease.ID),
		kv.PutLeased(b.key("m"), []byte("1"), lease.ID), kv.PutLeased(b.key("gone"), []byte("1"), lease.ID),
	}}).Revision
	require.Equal(b.t, lease.ID, b.list().Pairs[0].Lease)
	b.put("m", "without lease")
	b.txn(kv.Txn{Then: []kv.Op{kv.Delete(b.key("gone"))}})
	b.put("gone", "and back")
	kept, err := b.KeepAlive(b.ctx, lease.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, lease.TTL, kept.TTL)
	require.Equal(b.t, revision+3, kept.Revision)
	require.NoError(b.t, b.Revoke(b.ctx, lease.ID))
	require.Equal(b.t, []string{"gone", "m"}, b.names())
	events := b.collect(b.watch(revision+4), 2)
	require.Equal(b.t, []kv.Event{
		{Deleted: true, Pair: kv.Pair{Key: b.key("a"), ModRevision: revision + 4}},
		{Deleted: true, Pair: kv.Pair{Key: b.key("z"), ModRevision: revision + 4}},
	}, events, "in order, in one revision")
	_, err = b.KeepAlive(b.ctx, lease.ID)
	require.ErrorIs(b.t, err, kv.ErrLeaseNotFound)
	require.ErrorIs(b.t, b.Revoke(b.ctx, lease.ID), kv.ErrLeaseNotFound)
	_, err = b.Grant(b.ctx, math.MaxInt64)
	require.Equal(b.t, "lease too long", class(err))
}

func leaseExpiry(b *bench) {
	const patience = 5 // tries, on a machine that is too busy to put within the lease
	for range patience {
		lease, err := b.Grant(b.ctx, kv.LeaseTTLMin)
		require.NoError(b.t, err)
		put, err := b.Txn(b.ctx, kv.Txn{Then: []kv.Op{kv.PutLeased(b.key("a"), nil, lease.ID)}})
		if class(err) == "lease not found" {
			continue
		}
		require.NoError(b.t, err)
		watch := b.watch(put.Revision + 1)
		if b.subject.Pass != nil {
			b.subject.Pass(lease.TTL - time.Nanosecond)
			require.Len(b.t, b.list().Pairs, 1)
			b.subject.Pass(time.Nanosecond)
		}
		require.True(b.t, b.collect(watch, 1)[0].Deleted)
		require.Empty(b.t, b.list().Pairs)
		_, err = b.KeepAlive(b.ctx, lease.ID)
		require.ErrorIs(b.t, err, kv.ErrLeaseNotFound)
		return
	}
	require.Fail(b.t, "no put within the lease")
}

func ending(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx)
	watch := b.Watch(ctx, kv.WatchRequest{Key: b.key("a"), From: b.put("a", "1")})
	b.collect(watch, 1)
	cancel()
	_, err := b.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(b.key("b"), nil)}})
	require.ErrorIs(b.t, err, context.Canceled)
	require.NotErrorIs(b.t, err, fence.ErrUnknown, "it was not sent")
	require.Error(b.t, watch.RequestProgress(ctx))
	for range watch.Responses() { // until it is closed
	}
	open := b.watch(1 << 40)
	require.NoError(b.t, b.Close())
	for response := range open.Responses() {
		require.ErrorIs(b.t, response.Err, kv.ErrClosed)
	}
	_, err = b.Txn(b.ctx, kv.Txn{})
	require.ErrorIs(b.t, err, kv.ErrClosed)
	_, err = b.Range(b.ctx, kv.Range{Key: "a"})
	require.ErrorIs(b.t, err, kv.ErrClosed)
	_, err = b.Grant(b.ctx, time.Second)
	require.ErrorIs(b.t, err, kv.ErrClosed)
	_, err = b.KeepAlive(b.ctx, 1)
	require.ErrorIs(b.t, err, kv.ErrClosed)
	require.ErrorIs(b.t, b.Revoke(b.ctx, 1), kv.ErrClosed)
	last, isOpen := <-b.watch(1).Responses()
	require.True(b.t, !isOpen || last.Err != nil)
	require.NoError(b.t, b.Close(), "again")
}
