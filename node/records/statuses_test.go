package records

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/maintainer"
	"fencerow/record"
)

// sized notes how many statuses each transaction stores, and holds it while there is a gate.
type sized struct {
	kv.Store
	mu    sync.Mutex // guards what follows
	sizes []int
	gate  chan struct{}
}

func (s *sized) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	s.mu.Lock()
	s.sizes = append(s.sizes, len(txn.Then))
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return s.Store.Txn(ctx, txn)
}

// begin forgets what was noted; transactions wait for the gate from now on.
func (s *sized) begin(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes, s.gate = nil, gate
}

func (s *sized) noted() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sizes)
}

// owners is a node that owns some changefeeds, each of which has stored a status.
type owners struct {
	t        *testing.T
	store    *sized
	statuses *Statuses
	owned    []maintainer.Ownership
	stored   []int64
	written  sync.WaitGroup
}

// inOwners has a node that owns so many changefeeds, in a cluster of so many nodes.
func inOwners(t *testing.T, count, nodes int, test func(o *owners)) {
	synctest.Test(t, func(t *testing.T) {
		raw := kvmem.NewServer(kvmem.Config{}).Open()
		defer func() { _ = raw.Close() }()
		keys, err := record.NewKeys("c")
		require.NoError(t, err)
		o := &owners{t: t, store: &sized{Store: raw}, stored: make([]int64, count)}
		for i := range count {
			own := maintainer.Ownership{ID: changefeed.ID{Namespace: "default", Name: fmt.Sprintf("f%03d", i)}, Record: record.Epoch{
				UID: "u", Epoch: 5, Owner: "n1", OwnerName: "n1", Term: 1, SpecRevision: 1, Reason: changefeed.ReasonCreated, Nonce: "x",
			}}
			value, err := record.Encode(record.Ref{Kind: record.KindEpoch, ID: own.ID}, &own.Record)
			require.NoError(t, err)
			put, err := raw.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(keys.Epoch(own.ID), value)}})
			require.NoError(t, err)
			own.Revision = put.Revision
			o.owned = append(o.owned, own)
		}
		o.statuses = NewStatuses(epochstore.New(o.store, keys, time.Now), func() int { return nodes })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.statuses.Run(ctx) }()
		o.write(0, count, 1)
		o.written.Wait()
		test(o)
		o.written.Wait()
		stop()
		require.NoError(t, <-ended)
	})
}

// write has the changefeeds from one up to another store a checkpoint, and returns when all wait.
func (o *owners) write(from, to int, checkpoint change.Position) {
	for i := from; i < to; i++ {
		o.written.Go(func() {
			revision, err := o.statuses.WriteStatus(o.t.Context(), o.owned[i], o.stored[i], record.Status{
				UID: "u", Epoch: fence.Epoch(5), State: changefeed.StateRunning, Checkpoint: checkpoint, Spans: 1,
			})
			if err != nil {
				o.t.Errorf("status of %s: %v", o.owned[i].ID, err)
			}
			o.stored[i] = revision
		})
	}
	synctest.Wait()
}

// One status more than fills the next transaction does not get one of its own: with 100 changefeeds on each of 100 nodes those
// would be as many as the full ones.
func TestWhatDoesNotFillATransactionWaitsForOthers(t *testing.T) {
	const full, nodes = epochstore.StatusesPerTxnMax, 100
	inOwners(t, 2*full+1, nodes, func(o *owners) {
		gate := make(chan struct{})
		o.store.begin(gate)
		o.write(0, full, 2)
		require.Equal(o.t, []int{full}, o.store.noted())
		o.write(full, 2*full+1, 2) // they come while that is under way
		close(gate)
		synctest.Wait()
		require.Equal(o.t, []int{full, full}, o.store.noted(), "one waits")
		time.Sleep(Window(nodes)) // virtual
		synctest.Wait()
		require.Equal(o.t, []int{full, full, 1}, o.store.noted(), "no longer than for a window")
	})
}

// What can fill transactions goes out at once, in as many as it takes.
func TestManyStatusesGoOutTogether(t *testing.T) {
	const full = epochstore.StatusesPerTxnMax
	inOwners(t, 4*full, 100, func(o *owners) {
		gate := make(chan struct{})
		o.store.begin(gate)
		o.write(0, full, 2)
		o.write(full, 4*full, 2)
		close(gate)
		synctest.Wait()
		require.Equal(o.t, []int{full, full, full, full}, o.store.noted())
	})
}
