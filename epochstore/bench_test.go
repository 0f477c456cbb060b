package epochstore_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/record"
)

// rawBump is a bump as somebody writes it who needs nothing else: the same compares, puts and reads.
func rawBump(w *world, term epochstore.Term, meta int64, bump epochstore.Bump) (kv.Txn, record.Epoch) {
	epochKey, specKey := w.keys.Epoch(bump.ID), w.keys.Spec(bump.ID)
	next := record.Epoch{
		UID: bump.Spec.Record.UID, Epoch: bump.Previous.Record.Epoch + 1, Owner: bump.Owner, OwnerName: bump.OwnerName,
		Term: term.Revision, SpecRevision: bump.Spec.ModRevision, Reason: bump.Reason, Nonce: uuid.NewString(), At: time.Now(),
	}
	value, _ := json.Marshal(next)
	history, _ := json.Marshal(record.History{Epoch: *bump.Previous.Record, Until: next.At, Ended: string(bump.Reason)})
	return kv.Txn{
		If: []kv.Compare{
			kv.CreateIs(term.Key, term.Revision), kv.ModIs(w.keys.Meta(), meta),
			kv.ModIs(epochKey, bump.Previous.ModRevision), kv.ModIs(specKey, bump.Spec.ModRevision),
		},
		Then: []kv.Op{
			kv.Put(epochKey, value), kv.Put(w.keys.History(bump.ID, bump.Previous.Record.Epoch), history),
			kv.Delete(w.keys.Handoff(bump.ID)),
		},
		Else: []kv.Op{kv.Get(term.Key), kv.Get(w.keys.Meta()), kv.Get(epochKey), kv.Get(specKey)},
	}, next
}

// BenchmarkBump bumps one changefeed again and again, in turns with the raw transaction: ratio is ours over raw.
func BenchmarkBump(b *testing.B) {
	w := etcdWorld(b)
	lead := w.lead("n1")
	w.create("a")
	w.own(lead, "a", "n1")
	view := w.view("a")
	var ours, raw time.Duration
	for b.Loop() {
		began := time.Now()
		result := lead.Bump(w.ctx, []epochstore.Bump{bumpOf(view, "n1")})[0]
		ours += time.Since(began)
		if result.Err != nil {
			b.Fatal(result.Err)
		}
		view.Epoch, view.Revision = result.Epoch, result.Epoch.ModRevision

		began = time.Now()
		txn, next := rawBump(w, lead.Guard(), lead.Meta().ModRevision, bumpOf(view, "n1"))
		answer, err := w.raw.Txn(w.ctx, txn)
		raw += time.Since(began)
		if err != nil || !answer.Succeeded {
			b.Fatal(err, answer.Succeeded)
		}
		view.Epoch = epochstore.Seen[record.Epoch]{Record: &next, ModRevision: answer.Revision}
		view.Revision = answer.Revision
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs/bump")
	b.ReportMetric(float64(raw.Microseconds())/float64(b.N), "µs/raw")
	b.ReportMetric(float64(ours)/float64(raw), "ratio")
}

// BenchmarkBump10000 bumps 10,000 changefeeds packed, and as many one after another: faster says how many times.
func BenchmarkBump10000(b *testing.B) {
	const count = 10_000
	w := etcdWorld(b)
	lead := w.lead("n1")
	bumps := make([]epochstore.Bump, count)
	for i := range bumps {
		id := id(fmt.Sprintf("c%05d", i))
		spec := record.Spec{
			UID: "u", Namespace: id.Namespace, Name: id.Name, Source: "etcd://127.0.0.1:2379/a/", Sink: "blackhole:",
			Start: "now", Desired: "running",
		}
		value, err := record.Encode(record.Ref{Kind: record.KindSpec, ID: id}, &spec)
		require.NoError(b, err)
		result, err := w.raw.Txn(w.ctx, kv.Txn{Then: []kv.Op{kv.Put(w.keys.Spec(id), value)}})
		require.NoError(b, err)
		seen := epochstore.Seen[record.Spec]{Record: &spec, ModRevision: result.Revision, CreateRevision: result.Revision}
		bumps[i] = bumpOf(epochstore.View{ID: id, Spec: seen, Revision: result.Revision}, "n1")
	}
	next := func(results []epochstore.BumpResult) {
		for i, result := range results {
			if result.Err != nil {
				b.Fatal(result.Err)
			}
			bumps[i].Previous, bumps[i].SeenRevision = result.Epoch, result.Epoch.ModRevision
		}
	}
	next(lead.Bump(w.ctx, bumps))
	var packed, single time.Duration
	for b.Loop() {
		began := time.Now()
		results := lead.Bump(w.ctx, bumps)
		packed += time.Since(began)
		next(results)
		began = time.Now()
		for i := range bumps {
			results[i] = lead.Bump(w.ctx, bumps[i:i+1])[0]
		}
		single += time.Since(began)
		next(results)
	}
	b.ReportMetric(packed.Seconds()/float64(b.N), "s/packed")
	b.ReportMetric(single.Seconds()/float64(b.N), "s/single")
	b.ReportMetric(float64(single)/float64(packed), "faster")
}
