package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/node/records"
	"fencerow/record"
)

// measureCoordinator has a coordinator list a cluster in which everything runs: what lives then is its watch and its core.
func measureCoordinator(ctx context.Context, part int) (map[string]float64, error) {
	feeds := feedsMax / part
	keys, err := record.NewKeys("bench")
	if err != nil {
		return nil, err
	}
	server := kvmem.NewServer(kvmem.Config{})
	store := server.Open()
	defer func() { _ = store.Close() }() //nolint:errcheck // in memory
	if err := fillCluster(ctx, epochstore.New(store, keys, time.Now), store, feeds); err != nil {
		return nil, err
	}
	before := liveHeap()
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	watch := epochstore.New(store, keys, time.Now).Watch(epochstore.WatchConfig{
		Kinds: records.CoordinatorKinds(), Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})
	group.Go(func() error { return watch.Run(ctx) })
	core, err := coordinator.NewCore(coordinator.Config{Term: 1, SessionTTL: sessionTTL, Nonce: uuid.NewString}, 0)
	if err != nil {
		stop()
		return nil, err
	}
	for i, in := range records.CoordinatorInputs(<-watch.Updates()) {
		if effects := core.Step(changefeed.Time(i), in); len(effects) > 0 {
			stop()
			return nil, fmt.Errorf("a coordinator of a cluster in which everything runs decided %T", effects[0])
		}
	}
	live := liveHeap() - before
	runtime.KeepAlive(core)
	runtime.KeepAlive(watch)
	stop()
	_ = group.Wait() //nolint:errcheck // it was told to end
	return map[string]float64{"coordinator-memory": live / float64(feeds)}, nil
}

// fillCluster stores nodes and changefeeds that all run.
func fillCluster(ctx context.Context, store *epochstore.Store, raw kv.Store, feeds int) error {
	if _, err := store.EnsureMeta(ctx); err != nil {
		return err
	}
	puts := puts{store: raw}
	for i := range nodesMax {
		node := nodeRecord(i)
		if err := puts.add(ctx, store.Keys().Node(node.ID), record.Ref{Kind: record.KindNode, Node: node.ID}, &node); err != nil {
			return err
		}
	}
	for i := range feeds {
		id := feedID(i)
		spec := specOf(id)
		if err := puts.add(ctx, store.Keys().Spec(id), record.Ref{Kind: record.KindSpec, ID: id}, &spec); err != nil {
			return err
		}
	}
	if err := puts.flush(ctx); err != nil {
		return err
	}
	for i := range feeds {
		view, err := store.Changefeed(ctx, feedID(i))
		if err != nil {
			return err
		}
		epoch, status := runningRecords(view.Spec, nodeRecord(i%nodesMax))
		if err := puts.add(ctx, store.Keys().Epoch(view.ID), record.Ref{Kind: record.KindEpoch, ID: view.ID}, &epoch); err != nil {
			return err
		}
		if err := puts.add(ctx, store.Keys().Status(view.ID), record.Ref{Kind: record.KindStatus, ID: view.ID}, &status); err != nil {
			return err
		}
	}
	return puts.flush(ctx)
}

// runningRecords are the epoch and the status of a changefeed that runs on a node.
func runningRecords(spec epochstore.Seen[record.Spec], node record.Node) (record.Epoch, record.Status) {
	epoch := record.Epoch{
		UID: spec.Record.UID, Epoch: fence.Epoch(spec.ModRevision), Owner: node.ID, OwnerName: node.Name, Term: 1, //nolint:gosec // revisions are positive
		SpecRevision: spec.ModRevision, Reason: changefeed.ReasonCreated, Nonce: uuid.NewString(), At: time.Unix(1_800_000_000, 0).UTC(),
	}
	status := record.Status{
		UID: epoch.UID, Epoch: epoch.Epoch, State: changefeed.StateRunning, Checkpoint: begin, Resolved: begin,
		SourceID: sourceID, Spans: 1, At: epoch.At,
	}
	return epoch, status
}

// puts stores records, many in a transaction.
type puts struct {
	store kv.Store
	ops   []kv.Op
}

func (p *puts) add(ctx context.Context, key string, ref record.Ref, value record.Record) error {
	encoded, err := record.Encode(ref, value)
	if err != nil {
		return err
	}
	if p.ops = append(p.ops, kv.Put(key, encoded)); len(p.ops) == kv.TxnOpsMax {
		return p.flush(ctx)
	}
	return nil
}

func (p *puts) flush(ctx context.Context) error {
	if len(p.ops) == 0 {
		return nil
	}
	_, err := p.store.Txn(ctx, kv.Txn{Then: p.ops})
	p.ops = nil
	return err
}
