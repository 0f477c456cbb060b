package epochstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv/kvmem"
	"fencerow/record"
)

func nodeRecord(id changefeed.NodeID, name string) record.Node {
	return record.Node{
		ID: id, Name: name, HTTP: "127.0.0.1:1", Peer: "127.0.0.1:2", Version: "v", Level: 1, Started: time.Now().UTC(),
		Liveness: record.Alive,
	}
}

func TestANodeJoinsChangesAndLeaves(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		session := w.session()
		w.flaky.inject(nil, once(lost))
		registration, err := w.store.Join(w.ctx, session, nodeRecord("id-1", "n1"))
		require.NoError(t, err)
		require.Equal(t, w.get(w.keys.Node("id-1")).CreateRevision, registration.Revision)
		require.Equal(t, session.Lease(), w.get(w.keys.Name("n1")).Lease)

		draining := registration.Node
		draining.Liveness, draining.Unreachable = record.Draining, []changefeed.NodeID{"id-2"}
		w.flaky.inject(nil, once(lost))
		registration, err = w.store.UpdateNode(w.ctx, registration, draining)
		require.NoError(t, err)
		nodes, _, err := w.store.Nodes(w.ctx)
		require.NoError(t, err)
		require.Len(t, nodes, 1)
		require.Equal(t, draining.Unreachable, nodes[0].Record.Unreachable)
		require.Equal(t, session.Lease(), w.get(w.keys.Node("id-1")).Lease, "still under the lease")

		require.NoError(t, session.Close(w.ctx))
		_, err = w.store.UpdateNode(w.ctx, registration, draining)
		require.ErrorIs(t, err, epochstore.ErrSessionOver)
		require.Zero(t, w.get(w.keys.Name("n1")).ModRevision)
		require.Zero(t, w.get(w.keys.Node("id-1")).ModRevision, "a late update brings nothing back")

		// Hazard 12: the same name again, another node.
		_, err = w.store.Join(w.ctx, w.session(), nodeRecord("id-2", "n1"))
		require.NoError(t, err)
	})
}

// An earlier update that was applied late does not keep the next one out, nor overwrite it.
func TestANodeUpdateThatComesLateIsOverwritten(t *testing.T) {
	w := memoryWorld(t)
	registration, err := w.store.Join(w.ctx, w.session(), nodeRecord("id-1", "n1"))
	require.NoError(t, err)
	draining, stopping := registration.Node, registration.Node
	draining.Liveness, stopping.Liveness = record.Draining, record.Stopping
	_, err = w.store.UpdateNode(w.ctx, registration, draining)
	require.NoError(t, err)
	_, err = w.store.UpdateNode(w.ctx, registration, stopping) // with a registration that does not know of it
	require.NoError(t, err)
	nodes, _, err := w.store.Nodes(w.ctx)
	require.NoError(t, err)
	require.Equal(t, record.Stopping, nodes[0].Record.Liveness)
}

// What a node said by an update that failed may stand in its record: that it is as before has to be stored again.
func TestWhatAFailedUpdateMayHaveSaidIsTakenBack(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		registration, err := w.store.Join(w.ctx, w.session(), nodeRecord("id-1", "n1"))
		require.NoError(t, err)
		alive, draining := registration.Node, registration.Node
		draining.Liveness = record.Draining
		require.True(t, registration.Says(alive))
		require.False(t, registration.Says(draining))

		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		w.flaky.inject(nil, once(func() error {
			cancel() // nor can it be read back
			return lost()
		}))
		registration, err = w.store.UpdateNode(ctx, registration, draining)
		require.ErrorIs(t, err, fence.ErrUnknown)
		require.False(t, registration.Says(alive), "it may say something else by now")
		w.flaky.inject(nil, nil)
		registration, err = w.store.UpdateNode(w.ctx, registration, alive)
		require.NoError(t, err)
		require.True(t, registration.Says(alive))
		nodes, _, err := w.store.Nodes(w.ctx)
		require.NoError(t, err)
		require.Equal(t, record.Alive, nodes[0].Record.Liveness)
	})
}

// A restart after a crash waits for the lease of its earlier life, and succeeds; a name whose holder is alive is
// refused.
func TestANameIsWaitedForUnlessItsHolderLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store, clock := kvmem.New(kvmem.Config{}), &turned{start: time.Now()}
		keys, err := record.NewKeys("names")
		require.NoError(t, err)
		records := epochstore.New(store, keys, time.Now)
		newSession := func(ttl time.Duration) *epochstore.Session {
			session, err := epochstore.NewSession(ctx, store, epochstore.SessionConfig{
				TTL: ttl, Clock: clock.now, Logger: zap.NewNop(),
			})
			require.NoError(t, err)
			return session
		}
		run := func(session *epochstore.Session) { go func() { _ = session.Run(ctx) }() }
		for _, holderTTL := range []time.Duration{2 * time.Second, 5 * time.Second, 20 * time.Second} {
			crashed := newSession(holderTTL) // and nobody renews it
			_, err = records.Join(ctx, crashed, nodeRecord(changefeed.NodeID("a"+holderTTL.String()), "n1"))
			require.NoError(t, err)
			session := newSession(ttl)
			run(session)
			_, err = records.Join(ctx, session, nodeRecord(changefeed.NodeID("b"+holderTTL.String()), "n1"))
			require.NoError(t, err)

			other := newSession(ttl)
			run(other)
			_, err = records.Join(ctx, other, nodeRecord(changefeed.NodeID("c"+holderTTL.String()), "n1"))
			require.Equal(t, changefeed.CodeNameTaken, changefeed.AsFault(err, "").Code)
			require.NoError(t, session.Close(ctx))
			require.NoError(t, other.Close(ctx))
		}
		cancel()
		_ = store.Close()
		synctest.Wait()
	})
}

// On a real etcd, whose leases count whole seconds.
func TestALiveHolderOfANameIsRecognisedOnEtcd(t *testing.T) {
	t.Parallel()
	w := etcdWorld(t)
	newSession := func() *epochstore.Session {
		session, err := epochstore.NewSession(w.ctx, w.raw, epochstore.SessionConfig{
			TTL: 2 * time.Second, Clock: epochstore.BootTime, Logger: zap.NewNop(),
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)) })
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = session.Run(w.ctx)
		}()
		t.Cleanup(func() { _ = session.Close(context.WithoutCancel(w.ctx)); <-done })
		return session
	}
	_, err := w.store.Join(w.ctx, newSession(), nodeRecord("id-1", "n1"))
	require.NoError(t, err)
	_, err = w.store.Join(w.ctx, newSession(), nodeRecord("id-2", "n1"))
	require.Equal(t, changefeed.CodeNameTaken, changefeed.AsFault(err, "").Code, "%v", err)
}

func TestDrainsStayUntilUndrain(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		require.NoError(t, w.store.PutDrain(w.ctx, "n1", "ops"))
		require.NoError(t, w.store.PutDrain(w.ctx, "n1", "somebody else"))
		view, err := w.store.Cluster(w.ctx)
		require.NoError(t, err)
		require.Equal(t, "ops", view.Drains["n1"].Record.By)
		require.True(t, view.Meta.Exists())
		found, err := w.store.DeleteDrain(w.ctx, "n1")
		require.NoError(t, err)
		require.True(t, found)
		found, err = w.store.DeleteDrain(w.ctx, "n1")
		require.NoError(t, err)
		require.False(t, found)
	})
}
