package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv/kvetcd"
	"fencerow/record"
)

const (
	bumpsMany      = 10_000
	bumpsARound    = 500
	createdAtATime = 128
	sessionTTL     = time.Minute
)

// term is a coordinator of a cluster of its own, and the changefeeds that it bumps.
type term struct {
	etcd    *etcd
	keys    record.Keys
	session *epochstore.Session
	lead    *epochstore.Lead
	bumps   []epochstore.Bump
}

// inTerm runs use under a term over n new changefeeds, each of which has had an epoch.
func (b *bench) inTerm(ctx context.Context, n int, use func(*term) (result, error)) (result, error) {
	control, err := b.startEtcd(ctx)
	if err != nil {
		return result{}, err
	}
	defer control.stop()
	client, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{"http://" + control.endpoint}})
	if err != nil {
		return result{}, err
	}
	store := kvetcd.New(client)
	defer func() { _ = store.Close() }()
	keys, err := record.NewKeys("bench")
	if err != nil {
		return result{}, err
	}
	records := epochstore.New(store, keys, time.Now)
	if _, err := records.EnsureMeta(ctx); err != nil {
		return result{}, err
	}
	session, err := epochstore.NewSession(ctx, store, epochstore.SessionConfig{
		TTL: sessionTTL, Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})
	if err != nil {
		return result{}, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = session.Run(running) //nolint:errcheck // ends with the measurement
	}()
	defer func() {
		stop()
		<-ended
	}()
	lead, err := records.Campaign(ctx, session, "n1")
	if err != nil {
		return result{}, err
	}
	t := &term{etcd: control, keys: keys, session: session, lead: lead}
	if err := t.create(ctx, n); err != nil {
		return result{}, err
	}
	if err := t.bump(ctx, t.bumps); err != nil {
		return result{}, err
	}
	return use(t)
}

// create puts the specs of n changefeeds.
func (t *term) create(ctx context.Context, n int) error {
	var ops []clientv3.Op
	for i := range n {
		id := changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: fmt.Sprintf("feed-%05d", i)}
		spec := &record.Spec{
			UID: changefeed.UID(uuid.NewString()), Namespace: id.Namespace, Name: id.Name, Source: "etcd://127.0.0.1:2379/orders/",
			Sink: "etcd://127.0.0.1:22379/copy/", Start: "now", Desired: changefeed.DesiredRunning,
		}
		value, err := record.Encode(record.Ref{Kind: record.KindSpec, ID: id}, spec)
		if err != nil {
			return err
		}
		ops = append(ops, clientv3.OpPut(t.keys.Spec(id), string(value)))
		t.bumps = append(t.bumps, epochstore.Bump{
			ID: id, Spec: epochstore.Seen[record.Spec]{Record: spec}, Owner: "n1-7d0c2f", OwnerName: "n1",
			Reason: changefeed.ReasonCreated,
		})
		if len(ops) < createdAtATime && i < n-1 {
			continue
		}
		response, err := t.etcd.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return err
		}
		revision := response.Header.Revision
		for j := len(t.bumps) - len(ops); j < len(t.bumps); j++ {
			t.bumps[j].Spec.ModRevision, t.bumps[j].Spec.CreateRevision, t.bumps[j].SeenRevision = revision, revision, revision
		}
		ops = nil
	}
	return nil
}

// bump gives each its next epoch by the coordinator's own way, and notes it as the previous one.
func (t *term) bump(ctx context.Context, bumps []epochstore.Bump) error {
	for i, result := range t.lead.Bump(ctx, bumps) {
		if result.Err != nil {
			return result.Err
		}
		bumps[i].Previous, bumps[i].SeenRevision = result.Epoch, result.Epoch.ModRevision
	}
	return nil
}

// rawBump is a bump as somebody writes it by hand, ready to be sent: the same compares, puts and reads.
func (t *term) rawBump(ctx context.Context, bump *epochstore.Bump) (clientv3.Txn, *record.Epoch, error) {
	guard, previous := t.lead.Guard(), bump.Previous
	next := &record.Epoch{
		UID: bump.Spec.Record.UID, Epoch: max(previous.Record.Epoch+1, fence.Epoch(bump.SeenRevision)), Owner: bump.Owner, //nolint:gosec // revisions are positive
		OwnerName: bump.OwnerName, Term: guard.Revision, SpecRevision: bump.Spec.ModRevision, Reason: bump.Reason,
		Nonce: uuid.NewString(), At: time.Now().UTC(),
	}
	value, err := record.Encode(record.Ref{Kind: record.KindEpoch, ID: bump.ID}, next)
	if err != nil {
		return nil, nil, err
	}
	history, err := record.Encode(record.Ref{Kind: record.KindHistory, ID: bump.ID, Epoch: previous.Record.Epoch},
		&record.History{Epoch: *previous.Record, Until: next.At, Ended: string(bump.Reason)})
	if err != nil {
		return nil, nil, err
	}
	epochKey, specKey, meta := t.keys.Epoch(bump.ID), t.keys.Spec(bump.ID), t.keys.Meta()
	return t.etcd.client.Txn(ctx).If(
		clientv3.Compare(clientv3.CreateRevision(guard.Key), "=", guard.Revision),
		clientv3.Compare(clientv3.ModRevision(meta), "=", t.lead.Meta().ModRevision),
		clientv3.Compare(clientv3.ModRevision(epochKey), "=", previous.ModRevision),
		clientv3.Compare(clientv3.ModRevision(specKey), "=", bump.Spec.ModRevision),
	).Then(
		clientv3.OpPut(epochKey, string(value)),
		clientv3.OpPut(t.keys.History(bump.ID, previous.Record.Epoch), string(history)),
		clientv3.OpDelete(t.keys.Handoff(bump.ID)),
	).Else(
		clientv3.OpGet(guard.Key), clientv3.OpGet(meta), clientv3.OpGet(epochKey), clientv3.OpGet(specKey),
	), next, nil
}

// raw sends one such transaction, and returns how long it took from its sending to its answer.
func (t *term) raw(ctx context.Context, bump *epochstore.Bump) (time.Duration, error) {
	txn, next, err := t.rawBump(ctx, bump)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	response, err := txn.Commit()
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if !response.Succeeded {
		return 0, fmt.Errorf("the raw transaction of %s did not hold", bump.ID)
	}
	revision := response.Header.Revision
	bump.Previous = epochstore.Seen[record.Epoch]{Record: next, ModRevision: revision, CreateRevision: bump.Previous.CreateRevision}
	bump.SeenRevision = revision
	return took, nil
}

// bumpOne bumps one changefeed again and again, in turn with the raw transaction. A round is the median of many.
func bumpOne(ctx context.Context, b *bench) (result, error) {
	return b.inTerm(ctx, 1, func(t *term) (result, error) {
		var out result
		for round := range b.rounds {
			var ours, baseline []float64
			for i := range 2 * bumpsARound {
				var took time.Duration
				var err error
				if turn := i % 4; turn == 0 || turn == 3 { // A B B A
					began := time.Now()
					err = t.bump(ctx, t.bumps)
					took = time.Since(began)
					ours = append(ours, took.Seconds()*1e3)
				} else {
					took, err = t.raw(ctx, &t.bumps[0])
					baseline = append(baseline, took.Seconds()*1e3)
				}
				if err != nil {
					return out, err
				}
			}
			out.ours, out.baseline = append(out.ours, median(ours)), append(out.baseline, median(baseline))
			told(round, out)
		}
		return out, nil
	})
}

// bumpMany bumps 10,000 changefeeds at once, and one raw transaction after another.
func bumpMany(ctx context.Context, b *bench) (result, error) {
	return b.inTerm(ctx, bumpsMany, func(t *term) (result, error) {
		out, err := b.interleave(
			func() (float64, error) {
				began := time.Now()
				err := t.bump(ctx, t.bumps)
				return time.Since(began).Seconds(), err
			},
			func() (float64, error) {
				var took time.Duration
				for i := range t.bumps {
					one, err := t.raw(ctx, &t.bumps[i])
					if err != nil {
						return 0, err
					}
					took += one
				}
				return took.Seconds(), nil
			})
		out.inverse = true
		return out, err
	})
}

// gate is a command of the owner at a gate that holds the owner's epoch.
func gate(_ context.Context, b *bench) (result, error) {
	held := fence.Claimant{UID: uuid.NewString(), Epoch: 7, Owner: "n1-" + uuid.NewString()}
	var g fence.Gate
	g.Observe(held)
	// A command from the wire has strings of its own.
	command := fence.Claimant{UID: strings.Clone(held.UID), Epoch: held.Epoch, Owner: strings.Clone(held.Owner)}
	return b.nanoseconds(func() bool { return g.Admit(command) == nil })
}

// alive is the question that is asked before every batch.
func alive(ctx context.Context, b *bench) (result, error) {
	return b.inTerm(ctx, 1, func(t *term) (result, error) {
		return b.nanoseconds(t.session.Alive)
	})
}

var errAllocates = errors.New("it allocates")

// A round of a short call is the median of many chunks, each shorter than the time for which a busy machine takes the
// processor away.
const (
	chunks     = 1000
	chunkCalls = 1000
	allocCalls = 10_000
)

// nanoseconds measures one call, which must hold and must not allocate.
func (b *bench) nanoseconds(call func() bool) (result, error) {
	var out result
	held := true
	if testing.AllocsPerRun(allocCalls, func() { held = call() && held }) > 0 {
		return out, errAllocates
	}
	for round := range b.rounds {
		samples := make([]float64, chunks)
		for i := range samples {
			began := time.Now()
			for range chunkCalls {
				held = call() && held
			}
			samples[i] = float64(time.Since(began).Nanoseconds()) / chunkCalls
		}
		if !held {
			return out, errors.New("it did not hold")
		}
		out.ours = append(out.ours, median(samples))
		told(round, out)
	}
	return out, nil
}
