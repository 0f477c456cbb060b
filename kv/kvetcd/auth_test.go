package kvetcd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/kv/kvtest"
)

// A user with rights on one prefix works there; elsewhere it is refused, definitely and also by watches.
func TestAUserIsAuthenticatedWhenItIsNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an etcd of its own")
	}
	server, err := kvtest.StartEtcd()
	require.NoError(t, err)
	t.Cleanup(server.Close)
	ctx := within(t)
	dial := func(user, password string) *kvetcd.Store {
		client, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{server.Endpoint}, User: user, Password: password})
		require.NoError(t, err)
		store := kvetcd.New(client)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		return store
	}
	// Auth is not enabled yet: the user's name is not asked for.
	early := dial("cdc", "secret")
	_, err = early.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/cdc/a", nil)}})
	require.NoError(t, err)

	root, err := server.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	auth := root.Client()
	_, err = auth.UserAdd(ctx, "root", "r")
	require.NoError(t, err)
	_, err = auth.UserGrantRole(ctx, "root", "root")
	require.NoError(t, err)
	_, err = auth.UserAdd(ctx, "cdc", "secret")
	require.NoError(t, err)
	_, err = auth.RoleAdd(ctx, "cdc")
	require.NoError(t, err)
	_, err = auth.RoleGrantPermission(ctx, "cdc", "/cdc/", kv.PrefixEnd("/cdc/"), 2)
	require.NoError(t, err)
	_, err = auth.UserGrantRole(ctx, "cdc", "cdc")
	require.NoError(t, err)
	_, err = auth.AuthEnable(ctx)
	require.NoError(t, err)

	_, err = early.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/cdc/a", nil)}})
	require.True(t, kvetcd.Denied(err), "%v", err)
	require.NotErrorIs(t, err, fence.ErrUnknown)
	result, err := early.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/cdc/a", nil)}})
	require.NoError(t, err, "the next attempt asked for a token")
	_, err = early.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/other", nil)}})
	require.True(t, kvetcd.Denied(err), "%v", err)
	require.NotErrorIs(t, err, fence.ErrUnknown)

	allowed := early.Watch(ctx, kv.WatchRequest{Key: "/cdc/", End: kv.PrefixEnd("/cdc/"), From: result.Revision})
	require.Len(t, (<-allowed.Responses()).Events, 1)
	refused := early.Watch(ctx, kv.WatchRequest{Key: "/other", From: 1})
	require.True(t, kvetcd.Denied((<-refused.Responses()).Err))

	wrong := dial("cdc", "wrong")
	_, err = wrong.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("/cdc/a", nil)}})
	require.True(t, kvetcd.Denied(err), "%v", err)
	require.NotErrorIs(t, err, fence.ErrUnknown, "it was never sent")
	lease, err := early.Grant(ctx, kv.LeaseTTLMin)
	require.NoError(t, err)
	_, err = early.KeepAlive(ctx, lease.ID)
	require.NoError(t, err)
}
