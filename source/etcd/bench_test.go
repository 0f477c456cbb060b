package etcd

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"fencerow/change"
	"fencerow/source"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fill writes n single-change revisions over the keys, and returns the revision before them.
func fill(t testing.TB, prefix string, n, keys, size int) change.Position {
	t.Helper()
	answer, err := store.Get(testContext(t), "x")
	require.NoError(t, err)
	value := string(make([]byte, size))
	var group sync.WaitGroup
	const writers = 64
	for w := range writers {
		group.Go(func() {
			for i := w; i < n; i += writers {
				if _, err := store.Put(t.Context(), fmt.Sprintf("%s%06d", prefix, i*7919%keys), value); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return change.Position(answer.Header.Revision)
}

func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkCatchUp(b *testing.B) {
	const n = 200_000
	p := prefixOf(b)
	started := time.Now()
	from := fill(b, p, n, 10_000, 200)
	b.Logf("filled in %v", time.Since(started))
	run := func(name string, measure func() int) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.Equal(b, n, measure())
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
	for _, mib := range []int{16, 32, 64} {
		run(fmt.Sprintf("lanes/buffer=%dMiB", mib), func() int {
			s := openAt(b, member.Endpoint[len("http://"):], p, nil)
			head := head(b, s)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			r, err := s.Read(ctx, source.Request{Pieces: []source.Piece{{Span: s.Span(), Mark: change.At(from)}}, BufferBytes: mib << 20})
			require.NoError(b, err)
			defer func() { require.NoError(b, r.Close()) }()
			total, events := 0, 0
			lanes := 0
			started := time.Now()
			for {
				if t := r.(*reader).tail; t != nil && len(t.lanes) != lanes {
					lanes = len(t.lanes)
					b.Logf("%v: %d lanes at %d", time.Since(started), lanes, total)
				}
				event, err := r.Next(ctx)
				require.NoError(b, err)
				total += len(event.Changes)
				events++
				if event.To.Position >= head {
					b.Logf("%d events, peak %d KiB", events, r.(*reader).room.peak>>10)
					return total
				}
			}
		})
	}
	run("raw", func() int {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		total := 0
		for response := range store.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(int64(from)+1)) {
			total += len(response.Events)
			if total >= n {
				break
			}
		}
		return total
	})
}
