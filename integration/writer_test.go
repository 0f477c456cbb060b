package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

// writers put and delete keys under a prefix at a steady pace and keep the log that the judge trusts.
type writers struct {
	t      *testing.T
	etcd   *member
	prefix string
	keys   int

	mu   sync.Mutex
	log  []judge.Put
	sent map[string]time.Time // by value: when the write was sent, and so at the latest before it was committed

	stop context.CancelFunc
	done sync.WaitGroup
}

// startWriters writes with n goroutines, about rate changes a second in all, over the given number of keys.
func startWriters(t *testing.T, etcd *member, prefix string, n, rate, keys int) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{t: t, etcd: etcd, prefix: prefix, keys: keys, stop: cancel, sent: make(map[string]time.Time)}
	interval := time.Second * time.Duration(n) / time.Duration(rate)
	for i := range n {
		w.done.Go(func() { w.write(ctx, i, n, interval) })
	}
	t.Cleanup(func() { _ = w.finish() })
	return w
}

// catchUpMax is how far a writer may be behind its pace and still make up for it.
const catchUpMax = 200 * time.Millisecond

// write owns the keys that are i modulo n, so that the order of one key's writes is the order of its log.
func (w *writers) write(ctx context.Context, i, n int, interval time.Duration) {
	random := rand.New(rand.NewPCG(uint64(i), 42)) //nolint:gosec // a workload, not a secret
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for count := 0; ; count++ {
		if late := time.Since(due); late > catchUpMax {
			due = time.Now() // what an outage has held up is not made up for in a burst
		}
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		due = due.Add(interval)
		key := fmt.Sprintf("k%05d", random.IntN(w.keys/n)*n+i)
		w.do(key, fmt.Sprintf("%d-%d", i, count), random.IntN(20) == 0)
	}
}

// do makes one change and logs it. It is never cut short by the end of the run, so that its answer is known.
func (w *writers) do(key, value string, remove bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), waitMax)
	defer cancel()
	entry := judge.Put{Key: key, Value: value}
	sent := time.Now()
	if remove {
		response, err := w.etcd.client.Delete(ctx, w.prefix+key)
		if err == nil && response.Deleted == 0 {
			return // nothing was there, so nothing changed
		}
		entry.Value, entry.Delete = "", true
		if err == nil {
			entry.Revision = response.Header.Revision
		}
	} else if response, err := w.etcd.client.Put(ctx, w.prefix+key, value); err == nil {
		entry.Revision = response.Header.Revision
	}
	w.mu.Lock()
	w.log = append(w.log, entry)
	if !entry.Delete {
		w.sent[value] = sent
	}
	w.mu.Unlock()
}

// finish stops the writers and returns their log.
func (w *writers) finish() []judge.Put {
	w.stop()
	w.done.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log
}

// probe makes one change and waits until the target has it; it returns how long that took from since.
func (w *writers) probe(target *member, to string, since time.Time, limit time.Duration) time.Duration {
	w.t.Helper()
	key := fmt.Sprintf("probe-%d", time.Now().UnixNano())
	w.do(key, key, false)
	within(w.t, limit, "a change made now reaches the target", func() error {
		got, err := target.client.Get(w.t.Context(), to+key, clientv3.WithCountOnly())
		if err == nil && got.Count == 0 {
			err = fmt.Errorf("%s%s is not there", to, key)
		}
		return err
	})
	return time.Since(since)
}

// mark makes one change and returns its position.
func (w *writers) mark() int64 {
	w.t.Helper()
	key := fmt.Sprintf("mark-%d", time.Now().UnixNano())
	w.do(key, key, false)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, put := range slices.Backward(w.log) {
		if put.Key == key && put.Revision > 0 {
			return put.Revision
		}
	}
	w.t.Fatal("the source does not answer")
	return 0
}
