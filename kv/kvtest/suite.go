package kvtest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
)

// caseLimit bounds one case. It is generous, for machines that are busy with others.
const caseLimit = 60 * time.Second

// Store is what the suite runs on: kv.Store, and what tests need beside it.
type Store interface {
	kv.Store
	Compact(ctx context.Context, revision int64) error
}

// Subject is an implementation under test.
type Subject struct {
	// Open returns a new client of one and the same cluster, which nobody else uses meanwhile.
	Open func() (Store, error)
	// Pass turns the cluster's clock. Nil if time passes by itself.
	Pass func(time.Duration)
}

// bench is one case's client and its own part of the key space.
type bench struct {
	Store
	t       *testing.T
	ctx     context.Context //nolint:containedctx // of one case
	subject Subject
	prefix  string
}

// prefixes keeps cases apart that share a cluster.
var prefixes atomic.Int64 //nolint:gochecknoglobals // unique names within the process

func newBench(t *testing.T, subject Subject) *bench {
	t.Helper()
	store, err := subject.Open()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), caseLimit)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, store.Close())
	})
	return &bench{
		Store: store, t: t, ctx: ctx, subject: subject, prefix: fmt.Sprintf("case%04d/", prefixes.Add(1)),
	}
}

func (b *bench) key(name string) string { return b.prefix + name }

func (b *bench) txn(txn kv.Txn) kv.Result {
	b.t.Helper()
	result, err := b.Txn(b.ctx, txn)
	require.NoError(b.t, err)
	return result
}

func (b *bench) put(name, value string) int64 {
	b.t.Helper()
	return b.txn(kv.Txn{Then: []kv.Op{kv.Put(b.key(name), []byte(value))}}).Revision
}

func (b *bench) list() kv.RangeResult {
	b.t.Helper()
	result, err := b.Range(b.ctx, kv.Range{Key: b.prefix, End: kv.PrefixEnd(b.prefix)})
	require.NoError(b.t, err)
	return result
}

func (b *bench) names() []string {
	b.t.Helper()
	names := []string{}
	for _, pair := range b.list().Pairs {
		names = append(names, strings.TrimPrefix(pair.Key, b.prefix))
	}
	return names
}

func (b *bench) watch(from int64) kv.Watch {
	return b.Watch(b.ctx, kv.WatchRequest{Key: b.prefix, End: kv.PrefixEnd(b.prefix), From: from})
}

func (b *bench) next(watch kv.Watch) kv.WatchResponse {
	b.t.Helper()
	select {
	case response, open := <-watch.Responses():
		require.True(b.t, open, "the watch ended")
		return response
	case <-b.ctx.Done():
		require.FailNow(b.t, "the watch is silent")
		return kv.WatchResponse{}
	}
}

// collect reads events until so many came, and checks what every response promises.
func (b *bench) collect(watch kv.Watch, count int) []kv.Event {
	b.t.Helper()
	var events []kv.Event
	for complete := int64(0); len(events) < count; {
		response := b.next(watch)
		require.NoError(b.t, response.Err)
		for _, event := range response.Events {
			require.Greater(b.t, event.Pair.ModRevision, complete, "an event that was promised to be delivered before")
			require.LessOrEqual(b.t, event.Pair.ModRevision, response.Revision)
		}
		events = append(events, response.Events...)
		if !response.Fragment {
			complete = response.Revision
		}
	}
	require.Len(b.t, events, count)
	return events
}

// Run holds one implementation to the contract.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	cases := []struct {
		name string
		run  func(*bench)
	}{
		{"every compare", everyCompare},
		{"compares of ranges", comparesOfRanges},
		{"a transaction reads what it wrote", readsItsWrites},
		{"what etcd refuses is not done", refusals},
		{"the bounds of a transaction", bounds},
		{"ranges", ranges},
		{"history and compaction", history},
		{"a lease's life", leaseLife},
		{"a lease ends by itself", leaseExpiry},
		{"a watch tells everything once and in order", watchOrder},
		{"a watch behind gets complete revisions", watchBehind},
		{"large revisions come in fragments", watchFragments},
		{"a watch below the compaction ends", watchCompacted},
		{"progress never runs ahead of events", watchProgress},
		{"progress of a watch that begins at the end", watchIdle},
		{"a watch of nothing is refused", watchNothing},
		{"contexts and closing end everything", ending},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(newBench(t, subject)) })
	}
}

// class gives the same name to the same refusal of any implementation.
func class(err error) string {
	classes := []struct {
		name   string
		errors []error
	}{
		{"", []error{nil}},
		{"unknown", []error{fence.ErrUnknown}},
		{"too large", []error{kv.ErrTooLarge}},
		{"compacted", []error{kv.ErrCompacted}},
		{"lease not found", []error{kv.ErrLeaseNotFound}},
		{"closed", []error{kv.ErrClosed}},
		{"duplicate key", []error{kvmem.ErrDuplicateKey, rpctypes.ErrDuplicateKey}},
		{"empty key", []error{kvmem.ErrEmptyKey, rpctypes.ErrEmptyKey}},
		{"future revision", []error{kvmem.ErrFutureRevision, rpctypes.ErrFutureRev}},
		{"lease too long", []error{kvmem.ErrTTLTooLarge, rpctypes.ErrLeaseTTLTooLarge}},
		{"context", []error{context.Canceled, context.DeadlineExceeded}},
	}
	for _, c := range classes {
		for _, candidate := range c.errors {
			if candidate == nil && err == nil || candidate != nil && isAnswer(err, candidate) {
				return c.name
			}
		}
	}
	return "other: " + err.Error()
}

// isAnswer is errors.Is that knows etcd's answers in their wire form too.
func isAnswer(err, candidate error) bool {
	if err == nil {
		return false
	}
	if err == candidate || rpctypes.Error(err) == candidate { //nolint:errorlint // the chain is walked here
		return true
	}
	switch wrapped := err.(type) { //nolint:errorlint // the chain is walked here
	case interface{ Unwrap() error }:
		return isAnswer(wrapped.Unwrap(), candidate)
	case interface{ Unwrap() []error }:
		for _, inner := range wrapped.Unwrap() {
			if isAnswer(inner, candidate) {
				return true
			}
		}
	}
	return false
}
