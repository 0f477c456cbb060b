package redo

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/sink"
	"fencerow/sink/etcd"
	"fencerow/sink/sinktest"
)

const copyPrefix = "/copy/"

// copied is a prefix of an etcd in memory.
type copied struct {
	server *kvmem.Server
	admin  kv.Store
	marks  int // sentinels that were put
}

func newCopy(testing.TB) half {
	server := kvmem.NewServer(kvmem.Config{})
	return &copied{server: server, admin: server.Open()}
}

func (c *copied) open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	s, err := etcd.New(etcd.Config{
		Open:         func(context.Context) (kv.Store, error) { return c.server.Open(), nil },
		SourcePrefix: []byte(sinktest.KeyPrefix), TargetPrefix: []byte(copyPrefix), Identity: as,
	})
	require.NoError(t, err)
	return s
}

func (c *copied) put(t testing.TB, key, value string) int64 {
	t.Helper()
	result, err := c.admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}})
	require.NoError(t, err)
	return result.Revision
}

// read returns the history of the keys, up to the sync point if there is one.
func (c *copied) read(t testing.TB, as sink.Identity, cut change.Position) []sinktest.Entry {
	t.Helper()
	c.marks++
	until := c.put(t, "/sentinel", fmt.Sprint(c.marks))
	if cut > 0 {
		key := fmt.Sprintf("/cdc-claims/%s/%s/%s/syncs/%020d", as.Cluster, as.Changefeed.Namespace, as.Changefeed.Name, cut)
		found, err := c.admin.Range(t.Context(), kv.Range{Key: key})
		require.NoError(t, err)
		require.Len(t, found.Pairs, 1, "sync point %d", cut)
		until = found.Pairs[0].ModRevision
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out []sinktest.Entry
	for response := range c.admin.Watch(ctx, kv.WatchRequest{Key: "/", End: "0", From: 1}).Responses() {
		require.NoError(t, response.Err)
		for _, event := range response.Events {
			if event.Pair.ModRevision >= until {
				return out
			}
			if name, found := strings.CutPrefix(event.Pair.Key, copyPrefix); found {
				out = append(out, sinktest.Entry{Key: sinktest.KeyPrefix + name, Value: string(event.Pair.Value), Deleted: event.Deleted})
			}
		}
	}
	require.Fail(t, "the watch ended")
	return nil
}

func (c *copied) plant(t testing.TB, key, value string) {
	t.Helper()
	c.put(t, copyPrefix+strings.TrimPrefix(key, sinktest.KeyPrefix), value)
}

func (c *copied) lose(t testing.TB) {
	t.Helper()
	_, err := c.admin.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.DeletePrefix("/cdc-claims/")}})
	require.NoError(t, err)
}
