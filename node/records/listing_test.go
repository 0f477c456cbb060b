package records

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/maintainer"
	"fencerow/record"
)

// held holds every transaction until it is let through.
type held struct {
	kv.Store
	mu   sync.Mutex // guards reads
	read int
	gate chan struct{}
}

func (h *held) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	h.mu.Lock()
	h.read++
	h.mu.Unlock()
	select {
	case <-h.gate:
		return h.Store.Txn(ctx, txn)
	case <-ctx.Done():
		return kv.Result{}, context.Cause(ctx)
	}
}

func (h *held) reads() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.read
}

type listed struct {
	nodes maintainer.Nodes
	err   error
}

// inListing has a store whose reads are held.
func inListing(t *testing.T, test func(t *testing.T, raw kv.Store, h *held, l *Listing)) {
	synctest.Test(t, func(t *testing.T) {
		raw := kvmem.NewServer(kvmem.Config{}).Open()
		defer func() { _ = raw.Close() }()
		keys, err := record.NewKeys("c")
		require.NoError(t, err)
		h := &held{Store: raw, gate: make(chan struct{})}
		test(t, raw, h, NewListing(epochstore.New(h, keys, time.Now)))
	})
}

func putNode(t *testing.T, store kv.Store, id changefeed.NodeID) {
	t.Helper()
	value, err := record.Encode(record.Ref{Kind: record.KindNode, Node: id}, &record.Node{ID: id, Name: string(id), Liveness: record.Alive})
	require.NoError(t, err)
	_, err = store.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put("/cdc/c/nodes/"+string(id), value)}})
	require.NoError(t, err)
}

// Who asks while a list is being read must not get that one: it may be older than the question.
func TestManyMaintainersShareAListThatBeginsAfterTheyAsked(t *testing.T) {
	inListing(t, func(t *testing.T, raw kv.Store, h *held, l *Listing) {
		const many = 50
		ask := func(ctx context.Context) chan listed {
			out := make(chan listed, 1)
			go func() {
				nodes, err := l.ListNodes(ctx)
				out <- listed{nodes, err}
			}()
			synctest.Wait()
			return out
		}
		first := ask(t.Context())
		var later []chan listed
		for range many {
			later = append(later, ask(t.Context()))
		}
		putNode(t, raw, "n1")
		require.Equal(t, 1, h.reads())
		h.gate <- struct{}{}
		require.NoError(t, (<-first).err)
		synctest.Wait()
		require.Equal(t, 2, h.reads(), "one for all that came meanwhile")
		last := ask(t.Context())
		putNode(t, raw, "n2")
		h.gate <- struct{}{}
		for _, one := range later {
			require.NotEmpty(t, (<-one).nodes.Nodes)
		}
		h.gate <- struct{}{}
		require.Len(t, (<-last).nodes.Nodes, 2)
		require.Equal(t, 3, h.reads())
	})
}

func TestWhoGivesUpHoldsNobodyUp(t *testing.T) {
	inListing(t, func(t *testing.T, _ kv.Store, h *held, l *Listing) {
		gone := errors.New("gone")
		ctx, give := context.WithCancelCause(t.Context())
		results := make(chan error, 3)
		ask := func(ctx context.Context) {
			_, err := l.ListNodes(ctx)
			results <- err
		}
		go ask(t.Context())
		synctest.Wait()
		go ask(ctx) // leads the next
		synctest.Wait()
		go ask(t.Context()) // joins it
		synctest.Wait()
		give(fmt.Errorf("stopped: %w", gone))
		require.ErrorIs(t, <-results, gone)
		require.ErrorIs(t, <-results, gone, "it asks again")
		go ask(t.Context())
		h.gate <- struct{}{}
		h.gate <- struct{}{}
		require.NoError(t, <-results)
		require.NoError(t, <-results)
	})
}
