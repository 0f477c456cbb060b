package node

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/record"
)

// unregistered is a store in which no node can register.
type unregistered struct{ kv.Store }

var errUnregistered = errors.New("etcd does not answer")

func (u unregistered) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if slices.ContainsFunc(txn.Then, func(op kv.Op) bool { return op.Kind == kv.OpPut && strings.Contains(op.Key, "/names/") }) {
		return kv.Result{}, errUnregistered
	}
	return u.Store.Txn(ctx, txn)
}

// A life that could not register gives its port back, so that the next one can take it. (The port stayed taken until a
// collection of garbage, and the node could not come back before it.)
func TestALifeThatDoesNotRegisterGivesItsPortBack(t *testing.T) {
	port, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config, err := Config{PeerAddr: port.Addr().String(), SessionTTL: 10 * time.Second, Name: "n1"}.withDefaults()
	require.NoError(t, err)
	require.NoError(t, port.Close())
	metrics, err := newMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	keys, err := record.NewKeys("c")
	require.NoError(t, err)
	store := unregistered{kvmem.NewServer(kvmem.Config{}).Open()}
	p := &process{
		config: config, log: zap.NewNop(), metrics: metrics, guard: store, store: epochstore.New(store, keys, time.Now),
		opener: newOpener("c", config, zap.NewNop()),
	}
	for range 2 {
		l, err := p.newLife(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, l.run(t.Context()), errUnregistered)
	}
}
