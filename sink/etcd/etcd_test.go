package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/sink"
	"fencerow/sink/etcd"
)

var orders = sink.Identity{
	Cluster: "14841639068965178418", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1",
}

// hooked is a store whose transactions a test looks at first.
type hooked struct {
	kv.Store
	txn func(ctx context.Context, txn kv.Txn) (kv.Result, error)
}

func (h *hooked) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if h.txn != nil {
		return h.txn(ctx, txn)
	}
	return h.Store.Txn(ctx, txn)
}

func open(t testing.TB, store kv.Store, as sink.Identity, prefix string) *etcd.Sink {
	t.Helper()
	s, err := etcd.New(etcd.Config{
		Open:         func(context.Context) (kv.Store, error) { return store, nil },
		SourcePrefix: []byte("/orders/"), TargetPrefix: []byte(prefix), Identity: as,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func raised(t testing.TB, server *kvmem.Server, epoch fence.Epoch) *etcd.Sink {
	t.Helper()
	s := open(t, server.Open(), orders, targetPrefix)
	require.NoError(t, s.Raise(t.Context(), epoch, sink.KnownNothing))
	return s
}

func whole(epoch fence.Epoch, seq fence.Seq) sink.Claim {
	return sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(epoch, seq), From: change.At(1)}
}

func update(position change.Position, key, value string) change.Change {
	return change.Change{
		Position: position, Op: change.OpUpdate, Key: []byte(key), After: &change.KV{Key: []byte(key), Value: []byte(value)},
	}
}

func write(t testing.TB, w sink.Writer, changes ...change.Change) error {
	t.Helper()
	last := changes[len(changes)-1].Position
	run := sink.Batch{Changes: changes, Span: changefeed.Whole(), To: change.At(last)}
	for _, batch := range sink.Steps(run, w.Limits()) {
		if err := w.Write(t.Context(), batch); err != nil {
			return err
		}
	}
	return nil
}

func pairsOf(t testing.TB, store kv.Store, prefix string) []kv.Pair {
	t.Helper()
	result, err := store.Range(t.Context(), kv.Range{Key: prefix, End: kv.PrefixEnd(prefix)})
	require.NoError(t, err)
	return result.Pairs
}

func faultOf(t testing.TB, err error) *changefeed.Fault {
	t.Helper()
	var fault *changefeed.Fault
	require.ErrorAs(t, err, &fault, "%v", err)
	return fault
}

// TestChangesAreNotCoalesced: hazard 67. Two changes of one key go in successive transactions, so that the target's
// version counts them; a source's lease is not copied.
func TestChangesAreNotCoalesced(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	w, err := raised(t, server, 1).Claim(t.Context(), whole(1, 1))
	require.NoError(t, err)
	leased := update(9, "/orders/b", "z")
	leased.After = &change.KV{Value: []byte("z"), Lease: 77}
	require.NoError(t, write(t, w,
		update(2, "/orders/a", "1"), update(3, "/orders/a", "2"), update(3, "/orders/b", "x"), update(4, "/orders/a", "3"),
		change.Change{Position: 5, Op: change.OpDelete, Key: []byte("/orders/b")}, leased))
	pairs := pairsOf(t, server.Open(), targetPrefix)
	require.Len(t, pairs, 2)
	require.Equal(t, "/copy/a", pairs[0].Key)
	require.Equal(t, int64(3), pairs[0].Version)
	require.Equal(t, "3", string(pairs[0].Value))
	require.Equal(t, int64(1), pairs[1].Version)
	require.Zero(t, pairs[1].Lease)
}

// TestLateTransaction: hazards 55 and 56. A write that was on its way when its writer was fenced lands later, without
// effect; the one that landed before its answer was lost counts once.
func TestLateTransaction(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	store := &hooked{Store: server.Open()}
	old := open(t, store, orders, targetPrefix)
	require.NoError(t, old.Raise(t.Context(), 1, sink.KnownNothing))
	w, err := old.Claim(t.Context(), whole(1, 1))
	require.NoError(t, err)
	var late kv.Txn
	store.txn = func(_ context.Context, txn kv.Txn) (kv.Result, error) {
		late = txn
		return kv.Result{}, fmt.Errorf("cut off: %w", fence.ErrUnknown)
	}
	err = write(t, w, update(2, "/orders/a", "late"))
	require.ErrorIs(t, err, fence.ErrUnknown)
	require.Equal(t, changefeed.CodeSinkUnreachable, faultOf(t, err).Code)
	require.ErrorIs(t, write(t, w, update(3, "/orders/a", "later")), fence.ErrUnknown, "the writer is done with")

	again, err := raised(t, server, 1).Claim(t.Context(), whole(1, 1)) // the very same token
	require.NoError(t, err)
	require.Equal(t, change.At(1), again.Pieces()[0].Mark)
	result, err := store.Store.Txn(t.Context(), late)
	require.NoError(t, err)
	require.False(t, result.Succeeded)
	require.Empty(t, pairsOf(t, server.Open(), targetPrefix))

	store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
		_, err := store.Store.Txn(ctx, txn)
		return kv.Result{}, errors.Join(err, fence.ErrUnknown)
	}
	third, err := etcdClaim(t, server, 1, 1)
	require.NoError(t, err)
	require.ErrorIs(t, write(t, again, update(2, "/orders/a", "x")), fence.ErrStale)
	require.NoError(t, write(t, third, update(2, "/orders/a", "once")))
	fourth, err := etcdClaim(t, server, 1, 1)
	require.NoError(t, err)
	require.Equal(t, change.At(2), fourth.Pieces()[0].Mark)
}

func etcdClaim(t testing.TB, server *kvmem.Server, epoch fence.Epoch, seq fence.Seq) (sink.Writer, error) {
	t.Helper()
	return raised(t, server, epoch).Claim(t.Context(), whole(epoch, seq))
}

// TestClaimsAreSerialised: F22 in the target. What a claim was decided on may not have changed when it lands, at any of
// its transactions.
func TestClaimsAreSerialised(t *testing.T) {
	for at := 1; at <= 2; at++ {
		t.Run(fmt.Sprintf("transaction %d", at), func(t *testing.T) {
			server := kvmem.NewServer(kvmem.Config{})
			_, err := etcdClaim(t, server, 1, 1)
			require.NoError(t, err)
			store := &hooked{Store: server.Open()}
			slow := open(t, store, orders, targetPrefix)
			count := 0
			var newer sink.Writer
			store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
				if count++; count == at {
					var err error
					newer, err = etcdClaim(t, server, 1, 9)
					require.NoError(t, err)
				}
				return store.Store.Txn(ctx, txn)
			}
			_, err = slow.Claim(t.Context(), whole(1, 5))
			require.ErrorIs(t, err, fence.ErrStale)
			require.NoError(t, write(t, newer, update(2, "/orders/a", "1")))
		})
	}
}

// TestRaisesAreSerialised: F26 in the target. A slow raise of an older owner does not lower the floor.
func TestRaisesAreSerialised(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	raised(t, server, 1)
	store := &hooked{Store: server.Open()}
	slow := open(t, store, orders, targetPrefix)
	store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
		store.txn = nil
		raised(t, server, 7)
		return store.Store.Txn(ctx, txn)
	}
	require.ErrorIs(t, slow.Raise(t.Context(), 2, sink.KnownCheckpoint), fence.ErrStale)
	require.ErrorIs(t, slow.Raise(t.Context(), 6, sink.KnownCheckpoint), fence.ErrStale)
}

// TestOverlappingPrefixes: a prefix that overlaps one in use is refused, also when two changefeeds come at once; what was
// removed is free again.
func TestOverlappingPrefixes(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	bills := orders
	bills.Changefeed.Name, bills.UID, bills.Cluster = "bills", "uid-2", "another"
	first := open(t, server.Open(), orders, "/copy/a/")
	require.NoError(t, first.Raise(t.Context(), 1, sink.KnownNothing))
	for _, prefix := range []string{"/copy/a/", "/copy/", "/copy/a/b/", "/copy"} {
		err := open(t, server.Open(), bills, prefix).Raise(t.Context(), 5, sink.KnownNothing)
		fault := faultOf(t, err)
		require.Equal(t, changefeed.CodeSinkInUse, fault.Code)
		require.Contains(t, fault.Detail, "default/orders")
	}
	require.NoError(t, open(t, server.Open(), bills, "/copy/b/").Raise(t.Context(), 5, sink.KnownNothing))
	moved := open(t, server.Open(), bills, "/elsewhere/")
	require.Equal(t, changefeed.CodeSinkInUse, faultOf(t, moved.Raise(t.Context(), 6, sink.KnownCheckpoint)).Code)

	store := &hooked{Store: server.Open()}
	third, fourth := orders, orders
	third.Changefeed.Name, fourth.Changefeed.Name = "third", "fourth"
	slow := open(t, store, third, "/new/x/")
	store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
		store.txn = nil
		require.NoError(t, open(t, server.Open(), fourth, "/new/").Raise(t.Context(), 5, sink.KnownNothing))
		return store.Store.Txn(ctx, txn)
	}
	require.Equal(t, changefeed.CodeSinkInUse, faultOf(t, slow.Raise(t.Context(), 1, sink.KnownNothing)).Code)

	require.NoError(t, first.Remove(t.Context(), 1))
	fifth := orders
	fifth.Changefeed.Name = "fifth"
	require.NoError(t, open(t, server.Open(), fifth, "/copy/a/").Raise(t.Context(), 5, sink.KnownNothing))
}

// TestNothingGrows: claims, splits and merges without end leave as many keys as there are claims.
func TestNothingGrows(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	s := raised(t, server, 1)
	store := server.Open()
	seq := fence.Seq(0)
	for range 100 {
		for _, span := range []changefeed.Span{{End: []byte("/orders/m")}, {Start: []byte("/orders/m")}, changefeed.Whole()} {
			seq++
			_, err := s.Claim(t.Context(), sink.Claim{Span: span, Token: fence.Mint(1, seq), From: change.At(1)})
			require.NoError(t, err)
		}
	}
	require.LessOrEqual(t, len(pairsOf(t, store, "/cdc-claims/")), 5, "lock, register, head, claim, marks")
	require.NoError(t, s.Remove(t.Context(), 2))
	require.Len(t, pairsOf(t, store, "/cdc-claims/"), 2, "the lock, and the head that stays")
}

// TestMergeOfMany: more claims than one transaction can supersede, with a crash before and after each transaction.
func TestMergeOfMany(t *testing.T) {
	const spans = 150
	for at := 1; at <= 7; at++ {
		server := kvmem.NewServer(kvmem.Config{})
		s := raised(t, server, 1)
		var olds []sink.Writer
		borders := [][]byte{}
		for i := 1; i < spans; i++ {
			borders = append(borders, fmt.Appendf(nil, "/orders/%03d", i))
		}
		for i, span := range changefeed.Whole().SplitAt(borders...) {
			w, err := s.Claim(t.Context(), sink.Claim{Span: span, Token: fence.Mint(1, 1), From: change.At(1)})
			require.NoError(t, err)
			require.NoError(t, w.Write(t.Context(), sink.Batch{Span: span, To: change.At(change.Position(2 + i%2))}))
			olds = append(olds, w)
		}
		store := &hooked{Store: server.Open()}
		count := 0
		store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
			count++
			if count == at && at%2 == 0 {
				return kv.Result{}, errCrashed
			}
			result, err := store.Store.Txn(ctx, txn)
			if count == at {
				return kv.Result{}, errCrashed
			}
			return result, err
		}
		_, err := open(t, store, orders, targetPrefix).Claim(t.Context(), whole(1, 2))
		if at <= 6 {
			require.ErrorIs(t, err, errCrashed, "transaction %d", at)
		} else {
			require.NoError(t, err)
			require.Equal(t, 6, count, "three times fence out, twice retire, once claim")
		}
		w, err := s.Claim(t.Context(), whole(1, 3))
		require.NoError(t, err)
		require.Len(t, w.Pieces(), spans)
		for i, piece := range w.Pieces() {
			require.Equal(t, change.At(change.Position(2+i%2)), piece.Mark)
		}
		for _, old := range olds {
			require.ErrorIs(t, old.Write(t.Context(), sink.Batch{Span: old.Pieces()[0].Span, To: change.At(9)}), fence.ErrStale)
		}
		require.NoError(t, w.Write(t.Context(), sink.Batch{Span: changefeed.Whole(), To: change.At(9)}))
		require.LessOrEqual(t, len(pairsOf(t, store, "/cdc-claims/")), 5)
	}
}

// TestFaults: hazard 14. Each failure has its class and says what to do.
func TestFaults(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	store := &hooked{Store: server.Open()}
	s := open(t, store, orders, targetPrefix)
	require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
	tests := []struct {
		name      string
		err       error
		code      changefeed.Code
		permanent bool
	}{
		{"no space", fmt.Errorf("put: %w", rpctypes.ErrNoSpace), changefeed.CodeSinkFull, false},
		{"a request too large", fmt.Errorf("put: %w", kv.ErrTooLarge), changefeed.CodeLimitExceeded, true},
		{"refused", fmt.Errorf("put: %w", rpctypes.ErrPermissionDenied), changefeed.CodeSinkUnreachable, false},
		{"no answer", fmt.Errorf("put: %w", fence.ErrUnknown), changefeed.CodeSinkUnreachable, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store.txn = nil
			w, err := s.Claim(t.Context(), whole(1, 1))
			require.NoError(t, err)
			store.txn = func(context.Context, kv.Txn) (kv.Result, error) { return kv.Result{}, test.err }
			err = write(t, w, update(2, "/orders/a", "1"))
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.code, faultOf(t, err).Code)
			require.Equal(t, test.permanent, faultOf(t, err).Permanent)
			require.NotEmpty(t, faultOf(t, err).Cure)
			_, err = s.Claim(t.Context(), whole(1, 1))
			require.Equal(t, test.code, faultOf(t, err).Code)
		})
	}
	unreachable, err := etcd.New(etcd.Config{
		Open:         func(context.Context) (kv.Store, error) { return nil, errors.New("dial: refused") },
		TargetPrefix: []byte(targetPrefix), Identity: orders,
	})
	require.NoError(t, err)
	require.Equal(t, changefeed.CodeSinkUnreachable, faultOf(t, unreachable.Raise(t.Context(), 1, sink.KnownNothing)).Code)
	require.NoError(t, unreachable.Close())
}

// TestLargeValues: a value that only just fits the source's limit is written or refused by name, never lost.
func TestLargeValues(t *testing.T) {
	store := openMember(t)
	newTarget(t, openMember)
	s := open(t, store, orders, targetPrefix)
	require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
	w, err := s.Claim(t.Context(), whole(1, 1))
	require.NoError(t, err)
	large := string(make([]byte, 1<<20))
	require.NoError(t, write(t, w, update(2, "/orders/a", large), update(2, "/orders/b", large), update(3, "/orders/c", large)))
	require.Len(t, pairsOf(t, store, targetPrefix), 3)
	err = write(t, w, update(4, "/orders/d", string(make([]byte, kv.RequestBytes))))
	require.Equal(t, changefeed.CodeLimitExceeded, faultOf(t, err).Code)
}

// TestWaitingForTheGate: a claim that can't get its turn gives up with its context, and Close of a sink ends it.
func TestWaitingForTheGate(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	store := &hooked{Store: server.Open()}
	s := open(t, store, orders, targetPrefix)
	require.NoError(t, s.Raise(t.Context(), 1, sink.KnownNothing))
	var entered sync.WaitGroup
	entered.Add(1)
	release := make(chan struct{})
	store.txn = func(ctx context.Context, txn kv.Txn) (kv.Result, error) {
		entered.Done()
		<-release
		return store.Store.Txn(ctx, txn)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Claim(t.Context(), whole(1, 1))
		done <- err
	}()
	entered.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.Claim(ctx, whole(1, 2))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(release)
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
	_, err = s.Claim(t.Context(), whole(1, 3))
	require.ErrorIs(t, err, kv.ErrClosed)
}
