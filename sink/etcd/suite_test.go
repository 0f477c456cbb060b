package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/kv/kvtest"
	"fencerow/sink"
	"fencerow/sink/etcd"
	"fencerow/sink/sinktest"
)

const targetPrefix = "/copy/"

var member *kvtest.Etcd

func TestMain(m *testing.M) {
	var err error
	if member, err = kvtest.StartEtcd(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	member.Close()
	os.Exit(code)
}

func openMember(t testing.TB) kv.Store {
	t.Helper()
	store, err := member.Open()
	require.NoError(t, err)
	return store
}

// target is a prefix of one etcd, real or in memory.
type target struct {
	open  func(t testing.TB) kv.Store
	admin kv.Store
	from  int64 // the target's history begins here
	marks int   // sentinels that were put
}

func newTarget(t testing.TB, open func(t testing.TB) kv.Store) *target {
	t.Helper()
	admin := open(t)
	t.Cleanup(func() { _ = admin.Close() })
	result, err := admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{{Kind: kv.OpDelete, Key: "\x00", End: kv.RangeEndInfinite}}})
	require.NoError(t, err)
	return &target{open: open, admin: admin, from: result.Revision + 1}
}

func (x *target) sink(t testing.TB, as sink.Identity, wrap func(kv.Store) kv.Store) *etcd.Sink {
	t.Helper()
	s, err := etcd.New(etcd.Config{
		Open:         func(context.Context) (kv.Store, error) { return wrap(x.open(t)), nil },
		SourcePrefix: []byte(sinktest.KeyPrefix), TargetPrefix: []byte(targetPrefix), Identity: as,
	})
	require.NoError(t, err)
	return s
}

func (x *target) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return x.sink(t, as, func(store kv.Store) kv.Store { return store })
}

func (x *target) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	var faulty crashing
	s := x.sink(t, as, func(store kv.Store) kv.Store {
		faulty.Store, faulty.crash = store, crash
		return &faulty
	})
	return s, func() bool { return faulty.fired }
}

// Read returns the history of the target's keys, as a watch from the beginning delivers it.
func (x *target) Read(t testing.TB, _ sink.Identity) []sinktest.Entry {
	t.Helper()
	x.marks++
	result, err := x.admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("/sentinel", fmt.Append(nil, x.marks))}})
	require.NoError(t, err)
	return x.upTo(t, result.Revision)
}

// ReadCut returns the history up to the revision of the sync point's key, after comparing its end with a read at that
// revision, as a person would take the cut.
func (x *target) ReadCut(t testing.TB, as sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	key := fmt.Sprintf("/cdc-claims/%s/%s/%s/syncs/%020d", as.Cluster, as.Changefeed.Namespace, as.Changefeed.Name, at)
	found, err := x.admin.Range(t.Context(), kv.Range{Key: key})
	require.NoError(t, err)
	require.Len(t, found.Pairs, 1, "sync point %d", at)
	revision := found.Pairs[0].ModRevision
	x.Read(t, as) // so that the watch has an event behind the revision
	entries := x.upTo(t, revision)
	state := map[string]string{}
	for _, entry := range entries {
		state[entry.Key] = entry.Value
		if entry.Deleted {
			delete(state, entry.Key)
		}
	}
	read, err := x.admin.Range(t.Context(), kv.Range{Key: targetPrefix, End: kv.PrefixEnd(targetPrefix), Revision: revision})
	require.NoError(t, err)
	got := map[string]string{}
	for _, pair := range read.Pairs {
		got[sinktest.KeyPrefix+strings.TrimPrefix(pair.Key, targetPrefix)] = string(pair.Value)
	}
	require.Equal(t, state, got)
	return entries
}

// upTo returns the history up to a revision, at or above which something was written below "/".
func (x *target) upTo(t testing.TB, revision int64) []sinktest.Entry {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := x.admin.Watch(ctx, kv.WatchRequest{Key: "/", End: "0", From: x.from})
	var out []sinktest.Entry
	for response := range watch.Responses() {
		require.NoError(t, response.Err)
		for _, event := range response.Events {
			if event.Pair.ModRevision >= revision {
				return out
			}
			if name, found := strings.CutPrefix(event.Pair.Key, targetPrefix); found {
				out = append(out, sinktest.Entry{
					Key: sinktest.KeyPrefix + name, Value: string(event.Pair.Value), Deleted: event.Deleted,
				})
			}
		}
	}
	require.Fail(t, "the watch ended")
	return nil
}

func (x *target) Plant(t testing.TB, key, value string) {
	t.Helper()
	name := targetPrefix + strings.TrimPrefix(key, sinktest.KeyPrefix)
	_, err := x.admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(name, []byte(value))}})
	require.NoError(t, err)
}

func (x *target) Lose(t testing.TB) {
	t.Helper()
	_, err := x.admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.DeletePrefix("/cdc-claims/")}})
	require.NoError(t, err)
}

// crashing is a client whose node dies at one of its transactions.
type crashing struct {
	kv.Store
	crash sinktest.Crash
	mu    sync.Mutex
	count int
	fired bool
}

var errCrashed = errors.New("crashed")

func (c *crashing) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	switch {
	case c.fired:
		return kv.Result{}, errCrashed
	case c.count < c.crash.At:
		return c.Store.Txn(ctx, txn)
	}
	c.fired = true
	if c.crash.When == sinktest.AfterEffect {
		_, _ = c.Store.Txn(ctx, txn)
	}
	return kv.Result{}, fmt.Errorf("%w: %w", errCrashed, fence.ErrUnknown)
}

func TestSuiteInMemory(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Copies: true, Syncs: true, New: func(t testing.TB) sinktest.Target {
		server := kvmem.NewServer(kvmem.Config{})
		return newTarget(t, func(testing.TB) kv.Store { return server.Open() })
	}})
}

func TestSuiteOnEtcd(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Copies: true, Syncs: true, Short: true, New: func(t testing.TB) sinktest.Target {
		return newTarget(t, openMember)
	}})
}
