package epochstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/kv/kvtest"
	"fencerow/record"
)

var etcd *kvtest.Etcd // one member for the package's tests

func TestMain(m *testing.M) {
	var err error
	if etcd, err = kvtest.StartEtcd(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	etcd.Close()
	os.Exit(code)
}

const testLimit = 3 * time.Minute // generous: machines are shared

// world is a cluster of its own on one implementation of kv.Store.
type world struct {
	t      testing.TB
	ctx    context.Context
	raw    kv.Store // without faults, for looking
	flaky  *flaky   // what the store under test talks through
	store  *epochstore.Store
	keys   record.Keys
	server *kvmem.Server // nil on etcd
}

// onBoth runs a test on the store in memory and on a real etcd.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, memoryWorld(t)) })
	t.Run("etcd", func(t *testing.T) { test(t, etcdWorld(t)) })
}

func memoryWorld(t testing.TB) *world {
	t.Helper()
	server := kvmem.NewServer(kvmem.Config{})
	w := newWorld(t, server.Open())
	w.server = server
	return w
}

func etcdWorld(t testing.TB) *world {
	t.Helper()
	store, err := etcd.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return newWorld(t, store)
}

// worlds counts them, so that a test that runs again finds nothing of its last run.
var worlds atomic.Int64

func newWorld(t testing.TB, raw kv.Store) *world {
	t.Helper()
	name := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	keys, err := record.NewKeys(fmt.Sprintf("%s-%d", name, worlds.Add(1)))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, raw: raw, keys: keys, flaky: &flaky{Store: raw}}
	w.store = epochstore.New(w.flaky, keys, time.Now)
	_, err = w.store.EnsureMeta(ctx)
	require.NoError(t, err)
	return w
}

// session takes a lease that lives as long as the test, and keeps it alive.
func (w *world) session() *epochstore.Session {
	w.t.Helper()
	session, err := epochstore.NewSession(w.ctx, w.raw, epochstore.SessionConfig{
		TTL: time.Minute, Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)) })
	return session
}

// lead campaigns with a new session.
func (w *world) lead(node changefeed.NodeID) *epochstore.Lead {
	w.t.Helper()
	lead, err := w.store.Campaign(w.ctx, w.session(), node)
	require.NoError(w.t, err)
	return lead
}

// create makes a changefeed and reads it.
func (w *world) create(name string) epochstore.View {
	w.t.Helper()
	_, err := w.store.CreateSpec(w.ctx, record.Spec{
		Namespace: "default", Name: name, Source: "etcd://127.0.0.1:2379/a/", Sink: "blackhole:", Start: "now",
		Desired: changefeed.DesiredRunning,
	})
	require.NoError(w.t, err)
	return w.view(name)
}

func (w *world) view(name string) epochstore.View {
	w.t.Helper()
	view, err := w.store.Changefeed(w.ctx, id(name))
	require.NoError(w.t, err)
	return view
}

func (w *world) get(key string) kv.Pair {
	w.t.Helper()
	result, err := w.raw.Range(w.ctx, kv.Range{Key: key})
	require.NoError(w.t, err)
	if len(result.Pairs) == 0 {
		return kv.Pair{}
	}
	return result.Pairs[0]
}

func (w *world) put(key, value string) {
	w.t.Helper()
	_, err := w.raw.Txn(w.ctx, kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}})
	require.NoError(w.t, err)
}

func (w *world) drop(key string) {
	w.t.Helper()
	_, err := w.raw.Txn(w.ctx, kv.Txn{Then: []kv.Op{kv.Delete(key)}})
	require.NoError(w.t, err)
}

// own bumps a changefeed to an owner.
func (w *world) own(lead *epochstore.Lead, name string, owner changefeed.NodeID) epochstore.Seen[record.Epoch] {
	w.t.Helper()
	result := lead.Bump(w.ctx, []epochstore.Bump{bumpOf(w.view(name), owner)})[0]
	require.NoError(w.t, result.Err)
	return result.Epoch
}

func id(name string) changefeed.ID { return changefeed.ID{Namespace: "default", Name: name} }

func bumpOf(view epochstore.View, owner changefeed.NodeID) epochstore.Bump {
	return epochstore.Bump{
		ID: view.ID, Previous: view.Epoch, Spec: view.Spec, SeenRevision: view.Revision, Status: view.Status,
		Owner: owner, OwnerName: string(owner), Reason: changefeed.ReasonCreated,
	}
}

// flaky loses requests and answers, and counts transactions that write.
type flaky struct {
	kv.Store
	writes atomic.Int64

	mu     sync.Mutex
	before func(kv.Txn) error // an error: the request is lost
	after  func(kv.Txn) error // an error: the answer is lost
	ranged func()             // after a range was read
	cut    bool               // no watch lives
	cuts   []context.CancelFunc
}

func (f *flaky) Range(ctx context.Context, r kv.Range) (kv.RangeResult, error) {
	result, err := f.Store.Range(ctx, r)
	f.mu.Lock()
	ranged := f.ranged
	f.mu.Unlock()
	if ranged != nil {
		ranged()
	}
	return result, err
}

// onRange sets what happens after each range was read.
func (f *flaky) onRange(ranged func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ranged = ranged
}

// cutWatches ends all watches, and lets none live until it is called with false.
func (f *flaky) cutWatches(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
	for _, cancel := range f.cuts {
		cancel()
	}
	f.cuts = nil
}

func (f *flaky) Watch(ctx context.Context, request kv.WatchRequest) kv.Watch {
	ctx, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		cancel()
	}
	f.cuts = append(f.cuts, cancel)
	w := &cutWatch{Watch: f.Store.Watch(ctx, request), responses: make(chan kv.WatchResponse)}
	go w.forward(ctx)
	return w
}

// cutWatch hands out nothing that happens after it was cut. The store's own may: that is a race of the network's.
type cutWatch struct {
	kv.Watch

	responses chan kv.WatchResponse
}

func (w *cutWatch) Responses() <-chan kv.WatchResponse { return w.responses }

func (w *cutWatch) forward(ctx context.Context) {
	defer close(w.responses)
	for response := range w.Watch.Responses() {
		if ctx.Err() != nil {
			continue
		}
		select {
		case w.responses <- response:
		case <-ctx.Done():
		}
	}
}

func (f *flaky) hooks() (before, after func(kv.Txn) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before, f.after
}

// inject sets what happens to transactions that write, before they are sent and after they were done.
func (f *flaky) inject(before, after func(kv.Txn) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func writes(txn kv.Txn) bool {
	for _, op := range txn.Then {
		if op.Kind != kv.OpGet {
			return true
		}
	}
	return false
}

func (f *flaky) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if !writes(txn) {
		return f.Store.Txn(ctx, txn)
	}
	f.writes.Add(1)
	before, after := f.hooks()
	if before != nil {
		if err := before(txn); err != nil {
			return kv.Result{}, err
		}
	}
	result, err := f.Store.Txn(ctx, txn)
	if after != nil {
		if lost := after(txn); lost != nil {
			return kv.Result{}, lost
		}
	}
	return result, err
}

func (f *flaky) TimeToLive(ctx context.Context, lease kv.LeaseID) (kv.Lease, error) {
	return f.Store.(epochstore.LeaseReader).TimeToLive(ctx, lease)
}

// once returns a hook that acts on the first call only.
func once(act func() error) func(kv.Txn) error {
	var done atomic.Bool
	return func(kv.Txn) error {
		if done.Swap(true) {
			return nil
		}
		return act()
	}
}

func lost() error { return fmt.Errorf("the answer was lost: %w", fence.ErrUnknown) }
