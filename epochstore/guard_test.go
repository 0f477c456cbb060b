package epochstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
)

// Hazard 15: etcd was restored from a backup, as the same cluster with older revisions, or as another one.
func TestAnEtcdThatWentBackIsFatal(t *testing.T) {
	for name, clusterID := range map[string]uint64{"the same cluster, older": 1, "another cluster, newer": 2} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			server := kvmem.NewServer(kvmem.Config{ClusterID: 1})
			raw := server.Open()
			defer func() { _ = raw.Close() }()
			var faults []error
			guard := epochstore.NewGuard(raw, func(err error) { faults = append(faults, err) })
			put := func(key string) error {
				_, err := guard.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put(key, nil)}})
				return err
			}
			require.NoError(t, put("a"))
			var backup *kvmem.Machine
			server.Inspect(func(m *kvmem.Machine) *kvmem.Machine {
				bump := int64(0)
				if clusterID != m.ClusterID() {
					bump = 1_000_000
				}
				backup = m.Clone(clusterID, bump)
				return nil
			})
			for range 10 {
				require.NoError(t, put("b"))
			}
			_, err := guard.Range(ctx, kv.Range{Key: "a"})
			require.NoError(t, err)
			require.NoError(t, guard.Err())
			server.Inspect(func(*kvmem.Machine) *kvmem.Machine { return backup })
			_, err = guard.Range(ctx, kv.Range{Key: "a"})
			require.Equal(t, changefeed.CodeEtcdWentBack, changefeed.AsFault(err, "").Code)
			require.Equal(t, changefeed.CodeEtcdWentBack, changefeed.AsFault(put("c"), "").Code, "for ever")
			_, err = guard.Grant(ctx, time.Minute)
			require.Error(t, err)
			_, err = guard.KeepAlive(ctx, 1)
			require.Error(t, err)
			require.Len(t, faults, 1, "said once")
			require.Error(t, guard.Err())
		})
	}
}

// The guard passes everything on while etcd is itself, also answers that overtake one another.
func TestTheGuardPassesEtcdOn(t *testing.T) {
	w := etcdWorld(t)
	guard := epochstore.NewGuard(w.raw, func(err error) { t.Error(err) })
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 50 {
				if _, err = guard.Txn(w.ctx, kv.Txn{Then: []kv.Op{kv.Put(w.keys.Drain("x"), nil)}}); err != nil {
					break
				}
				if _, err = guard.Range(w.ctx, kv.Range{Key: w.keys.Drain("x")}); err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
	lease, err := guard.Grant(w.ctx, time.Minute)
	require.NoError(t, err)
	_, err = guard.KeepAlive(w.ctx, lease.ID)
	require.NoError(t, err)
	left, err := guard.TimeToLive(w.ctx, lease.ID)
	require.NoError(t, err)
	require.Positive(t, left.TTL)
	require.NoError(t, guard.Revoke(w.ctx, lease.ID))
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, err = guard.Txn(ctx, kv.Txn{})
	require.Error(t, err)
	require.NoError(t, guard.Err())
}
