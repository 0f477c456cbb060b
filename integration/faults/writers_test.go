package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
	"fencerow/integration/lab"
)

// letters begin the keys of the source: one span each.
var letters = []string{"a", "b", "c", "d"}

// keysOfLetter are few, so that each is written often.
const keysOfLetter = 50

// writers put and delete keys at a steady pace, and keep the log that the judge trusts.
type writers struct {
	t      *testing.T
	client *clientv3.Client
	prefix string

	mu     sync.Mutex
	log    []judge.Put
	probes int

	stop context.CancelFunc
	done sync.WaitGroup
}

// startWriters writes about rate changes a second in all, one goroutine a letter, so that the order of one key's writes is
// the order of its log.
func startWriters(t *testing.T, client *clientv3.Client, prefix string, rate int) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{t: t, client: client, prefix: prefix, stop: cancel}
	interval := time.Second * time.Duration(len(letters)) / time.Duration(rate)
	for i, letter := range letters {
		w.done.Go(func() { w.write(ctx, i, letter, interval) })
	}
	t.Cleanup(func() { _ = w.finish() })
	return w
}

func (w *writers) write(ctx context.Context, i int, letter string, interval time.Duration) {
	random := rand.New(rand.NewPCG(uint64(i), 42)) //nolint:gosec // a workload, not a secret
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for count := 0; ; count++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		key := fmt.Sprintf("%s%03d", letter, random.IntN(keysOfLetter))
		w.do(key, fmt.Sprintf("%s%s-%d", w.prefix, letter, count), random.IntN(20) == 0)
	}
}

// do makes one change and logs it. It is never cut short by the end of the run, so that its answer is known.
func (w *writers) do(key, value string, remove bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), lab.WaitMax)
	defer cancel()
	entry := judge.Put{Key: key, Value: value}
	if remove {
		response, err := w.client.Delete(ctx, w.prefix+key)
		if err == nil && response.Deleted == 0 {
			return // nothing was there, so nothing changed
		}
		entry.Value, entry.Delete = "", true
		if err == nil {
			entry.Revision = response.Header.Revision
		}
	} else if response, err := w.client.Put(ctx, w.prefix+key, value); err == nil {
		entry.Revision = response.Header.Revision
	}
	w.mu.Lock()
	w.log = append(w.log, entry)
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

// probe makes one change in each span. It returns their keys, and the position of the last.
func (w *writers) probe() (keys []string, last int64) {
	w.mu.Lock()
	w.probes++
	n := w.probes
	w.mu.Unlock()
	for _, letter := range letters {
		key := fmt.Sprintf("%sprobe-%d", letter, n)
		w.do(key, w.prefix+key, false)
		keys = append(keys, key)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, put := range w.log {
		if put.Key == keys[len(keys)-1] {
			last = put.Revision
		}
	}
	return keys, last
}
