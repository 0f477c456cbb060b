package epochstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fencerow/changefeed"
	"fencerow/kv"
)

// Guard is a kv.Store that notices an etcd that went back, as after a restore from a backup: a linearizable answer with
// another cluster id, or with a revision below one that was seen before the request was sent. Epochs could then be
// handed out twice, so the fault is fatal: the process must end. From then on every request fails with it.
type Guard struct {
	kv.Store
	onFault func(error)

	cluster atomic.Uint64
	highest atomic.Int64
	fault   atomic.Pointer[changefeed.Fault]
	once    sync.Once
}

// NewGuard wraps a store. onFault is called once, with a fault of code etcd.went_back; it must not block.
func NewGuard(store kv.Store, onFault func(error)) *Guard {
	return &Guard{Store: store, onFault: onFault}
}

// Err returns nil, or the fault.
func (g *Guard) Err() error {
	if fault := g.fault.Load(); fault != nil {
		return fault
	}
	return nil
}

// Txn executes a transaction.
func (g *Guard) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	seen, err := g.before()
	if err != nil {
		return kv.Result{}, err
	}
	result, err := g.Store.Txn(ctx, txn)
	if err != nil {
		return result, err
	}
	if err := g.after(result.Header, seen); err != nil {
		return kv.Result{}, err
	}
	return result, nil
}

// Range reads.
func (g *Guard) Range(ctx context.Context, r kv.Range) (kv.RangeResult, error) {
	seen, err := g.before()
	if err != nil {
		return kv.RangeResult{}, err
	}
	result, err := g.Store.Range(ctx, r)
	if err != nil {
		return result, err
	}
	if err := g.after(result.Header, seen); err != nil {
		return kv.RangeResult{}, err
	}
	return result, nil
}

// Grant takes a lease.
func (g *Guard) Grant(ctx context.Context, ttl time.Duration) (kv.Lease, error) {
	if _, err := g.before(); err != nil {
		return kv.Lease{}, err
	}
	lease, err := g.Store.Grant(ctx, ttl)
	if err != nil {
		return lease, err
	}
	return lease, g.after(lease.Header, 0) // its revision is that of one member
}

// KeepAlive renews a lease.
func (g *Guard) KeepAlive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	if _, err := g.before(); err != nil {
		return kv.Lease{}, err
	}
	lease, err := g.Store.KeepAlive(ctx, id)
	if err != nil {
		return lease, err
	}
	return lease, g.after(lease.Header, 0)
}

// TimeToLive reads how long a lease lives on, where the store can.
func (g *Guard) TimeToLive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	reader, ok := g.Store.(LeaseReader)
	if !ok {
		return kv.Lease{}, fmt.Errorf("epochstore: %T does not tell how long leases live", g.Store)
	}
	return reader.TimeToLive(ctx, id)
}

// before returns the highest revision that was seen before the request is sent.
func (g *Guard) before() (int64, error) { return g.highest.Load(), g.Err() }

// after checks an answer. seen is 0 if the answer's revision need not be linearizable.
func (g *Guard) after(header kv.Header, seen int64) error {
	if header.ClusterID != 0 && !g.cluster.CompareAndSwap(0, header.ClusterID) &&
		g.cluster.Load() != header.ClusterID {
		return g.fail(fmt.Sprintf("answers as cluster %x, and before as %x", header.ClusterID, g.cluster.Load()))
	}
	if header.Revision < seen {
		return g.fail(fmt.Sprintf("answers at revision %d, and before at %d", header.Revision, seen))
	}
	for {
		highest := g.highest.Load()
		if header.Revision <= highest || seen == 0 && highest != 0 {
			return nil
		}
		if g.highest.CompareAndSwap(highest, header.Revision) {
			return nil
		}
	}
}

func (g *Guard) fail(detail string) error {
	fault := &changefeed.Fault{
		Code: changefeed.CodeEtcdWentBack, Field: "etcd", Detail: detail, Permanent: true,
		Cure: "find out whether etcd was restored from a backup, then start again and run cdc-node epoch bump NAME --above " +
			"with the highest epoch that a sink reports",
	}
	g.fault.CompareAndSwap(nil, fault)
	g.once.Do(func() { g.onFault(g.fault.Load()) })
	return g.fault.Load()
}
