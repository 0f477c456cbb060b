package kvetcd_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/kv/kvtest"
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

const testLimit = 30 * time.Second

func open(t *testing.T) *kvetcd.Store {
	t.Helper()
	store, err := etcd.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(cancel)
	return ctx
}

func TestATransactionIsAnsweredAndWatched(t *testing.T) {
	store, ctx := open(t), within(t)
	result, err := store.Txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.CreateIs("first/a", 0)},
		Then: []kv.Op{kv.Put("first/a", []byte("1")), kv.Put("first/b", []byte("2"))},
	})
	require.NoError(t, err)
	require.True(t, result.Succeeded)
	watch := store.Watch(ctx, kv.WatchRequest{Key: "first/", End: kv.PrefixEnd("first/"), From: result.Revision})
	response := <-watch.Responses()
	require.NoError(t, response.Err)
	require.Len(t, response.Events, 2)
	require.Equal(t, result.Revision, response.Revision)
	require.NoError(t, watch.RequestProgress(ctx))
	response = <-watch.Responses()
	require.Empty(t, response.Events)
	require.GreaterOrEqual(t, response.Revision, result.Revision)

	text, err := store.Version(ctx)
	require.NoError(t, err)
	require.NoError(t, kvetcd.CheckVersion(text))
}

func TestDialDoesNotWaitAndALostAnswerIsUnknown(t *testing.T) {
	for name, config := range map[string]kvetcd.Config{
		"plain":     {Endpoints: []string{"http://127.0.0.1:1"}},
		"with user": {Endpoints: []string{"http://127.0.0.1:1"}, User: "u", Password: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := kvetcd.Dial(config)
			require.NoError(t, err)
			store := kvetcd.New(client)
			defer func() { require.NoError(t, store.Close()) }()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
			require.ErrorIs(t, err, fence.ErrUnknown)
			_, err = store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
			require.NotErrorIs(t, err, fence.ErrUnknown, "it was not even sent")
		})
	}
}
