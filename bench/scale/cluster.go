package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvtest"
	"fencerow/node/records"
	"fencerow/record"
)

// Figures of the scene of many changefeeds.
const (
	sessionTTL   = time.Minute // nobody's lease is to end, however busy the machine is
	coldStartMax = 4 * time.Minute
	movingFor    = 10 * time.Second
	movingBefore = 3 * time.Second // until what the start left behind is stored
	progressLook = 5 * time.Millisecond
)

// cluster is 100 nodes in this process, on one real etcd.
type cluster struct {
	etcd     *kvtest.Etcd
	keys     record.Keys
	nodes    []*node
	byID     map[changefeed.NodeID]*node
	running  atomic.Int64 // changefeeds whose status is stored as running
	moving   atomic.Bool  // sources have changes
	writes   atomic.Int64 // transactions that stored statuses
	statuses atomic.Int64
	fault    atomic.Pointer[error]
}

// measureCluster starts everything from specs alone, and then lets every changefeed move.
func measureCluster(ctx context.Context, part int) (map[string]float64, error) {
	etcd, err := kvtest.StartEtcd()
	if err != nil {
		return nil, err
	}
	defer etcd.Close()
	keys, err := record.NewKeys("bench")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	c := &cluster{etcd: etcd, keys: keys, byID: make(map[changefeed.NodeID]*node, nodesMax)}
	found, err := c.measure(ctx, group, feedsMax/part)
	stop()
	if ended := group.Wait(); err == nil && ended != nil && !errors.Is(ended, context.Canceled) {
		err = ended
	}
	for _, node := range c.nodes {
		_ = node.kv.Close()
	}
	return found, err
}

func (c *cluster) measure(ctx context.Context, group *errgroup.Group, feeds int) (map[string]float64, error) {
	for i := range nodesMax {
		node, err := c.join(ctx, i)
		if err != nil {
			return nil, err
		}
		c.nodes, c.byID[node.id] = append(c.nodes, node), node
	}
	if err := c.create(ctx, feeds); err != nil {
		return nil, err
	}
	for _, node := range c.nodes {
		group.Go(func() error { return node.session.Run(ctx) })
		group.Go(func() error { return node.statuses.Run(ctx) })
		group.Go(func() error { return node.watch.Run(ctx) })
		group.Go(func() error { return node.readEpochs(ctx) })
		group.Go(func() error { return node.run(ctx) })
	}
	began, used := time.Now(), cpu()
	group.Go(func() error { return c.coordinate(ctx, c.nodes[0]) })
	if err := c.wait(ctx, int64(feeds)); err != nil {
		return nil, err
	}
	took, used := time.Since(began).Seconds(), cpu()-used
	found := map[string]float64{
		"cold-start": took, "cold-start-cpu": used, "cold-start-share": 100 * used / (took * float64(runtime.NumCPU())),
	}
	c.moving.Store(true)
	if err := rest(ctx, movingBefore); err != nil {
		return nil, err
	}
	writes, statuses := c.writes.Load(), c.statuses.Load()
	if err := rest(ctx, movingFor); err != nil {
		return nil, err
	}
	found["status-writes"] = float64(c.writes.Load()-writes) / movingFor.Seconds()
	found["statuses"] = float64(c.statuses.Load()-statuses) / movingFor.Seconds()
	return found, c.failed()
}

// create stores the specs.
func (c *cluster) create(ctx context.Context, feeds int) error {
	puts := puts{store: c.nodes[0].kv}
	for i := range feeds {
		spec := specOf(feedID(i))
		if err := puts.add(ctx, c.keys.Spec(spec.ID()), record.Ref{Kind: record.KindSpec, ID: spec.ID()}, &spec); err != nil {
			return err
		}
	}
	return puts.flush(ctx)
}

// wait returns when so many changefeeds are stored as running.
func (c *cluster) wait(ctx context.Context, feeds int64) error {
	began := time.Now()
	for c.running.Load() < feeds {
		if err := errors.Join(c.failed(), rest(ctx, progressLook)); err != nil {
			return err
		}
		if time.Since(began) > coldStartMax {
			return fmt.Errorf("only %d of %d changefeeds run after %v", c.running.Load(), feeds, coldStartMax)
		}
	}
	return nil
}

func (c *cluster) fail(err error) { c.fault.CompareAndSwap(nil, &err) }

func (c *cluster) failed() error {
	if err := c.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// coordinate runs the coordinator on a node, as it is in production.
func (c *cluster) coordinate(ctx context.Context, on *node) error {
	lead, err := on.store.Campaign(ctx, on.session, on.id)
	if err != nil {
		return err
	}
	metrics, err := coordinator.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		return err
	}
	watch := &coordinatorWatch{inputs: make(chan []coordinator.Input), Watch: on.store.Watch(epochstore.WatchConfig{
		Kinds: records.CoordinatorKinds(), Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})}
	driver, err := coordinator.NewDriver(coordinator.Config{Term: lead.Term(), SessionTTL: on.session.TTL(), Nonce: uuid.NewString},
		coordinator.Parts{Store: records.NewLeading(lead, on.store), Watch: watch, Metrics: metrics, Log: zap.NewNop()})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watch.Run(ctx) })
	group.Go(func() error { return watch.hand(ctx) })
	group.Go(func() error { return driver.Run(ctx) })
	return group.Wait()
}

// coordinatorWatch is what a coordinator's driver reads.
type coordinatorWatch struct {
	*epochstore.Watch
	inputs chan []coordinator.Input
}

func (w *coordinatorWatch) Inputs() <-chan []coordinator.Input { return w.inputs }

func (w *coordinatorWatch) hand(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-w.Updates():
			select {
			case <-ctx.Done():
				return nil
			case w.inputs <- records.CoordinatorInputs(update):
			}
		}
	}
}

// counted counts the transactions that store statuses.
type counted struct {
	kv.Store
	cluster *cluster
	prefix  string
}

func (c counted) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	statuses := int64(0)
	for _, op := range txn.Then {
		if op.Kind == kv.OpPut && len(op.Key) > len(c.prefix) && op.Key[:len(c.prefix)] == c.prefix {
			statuses++
		}
	}
	if statuses > 0 {
		c.cluster.writes.Add(1)
		c.cluster.statuses.Add(statuses)
	}
	return c.Store.Txn(ctx, txn)
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
