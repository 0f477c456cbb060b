package etcd

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/change"
	"fencerow/source"
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
					b.Logf("%d events, peak %d KiB", events, peakOf(r)>>10)
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

// BenchmarkLive measures the CPU of the whole process, etcd and writers included, over the same live writes without any
// reader, with a raw watch, and with a reader; the differences to the first are what reading costs.
func BenchmarkLive(b *testing.B) {
	const n = 20_000
	measure := func(name string, begin func(ctx context.Context, prefix string, done func(int))) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := prefixOf(b) + fmt.Sprint(time.Now().UnixNano()) + "/"
				ctx, cancel := context.WithCancel(b.Context())
				seen := make(chan struct{})
				total := 0
				var group sync.WaitGroup
				if begin == nil {
					close(seen)
				} else {
					group.Go(func() {
						begin(ctx, p, func(count int) {
							if total += count; total == n {
								close(seen)
							}
						})
					})
				}
				before := cpu()
				fill(b, p, n, 10_000, 200)
				<-seen
				b.ReportMetric((cpu()-before).Seconds()*100_000/n, "cpu-s/100k")
				cancel()
				group.Wait()
			}
		})
	}
	raw := func(ctx context.Context, prefix string, done func(int)) {
		for response := range store.Watch(ctx, prefix, clientv3.WithPrefix()) {
			done(len(response.Events))
		}
	}
	ours := func(ctx context.Context, prefix string, done func(int)) {
		s := openUnclosed(b, member.Endpoint[len("http://"):], prefix, nil)
		defer func() { _ = s.Close() }()
		position, err := s.Head(ctx)
		if err != nil {
			return
		}
		r, err := s.Read(ctx, source.Request{Pieces: []source.Piece{{Span: s.Span(), Mark: change.At(position)}}})
		if err != nil {
			return
		}
		defer func() { _ = r.Close() }()
		for {
			event, err := r.Next(ctx)
			if err != nil {
				return
			}
			done(len(event.Changes))
		}
	}
	for range 2 {
		measure("none", nil)
		measure("raw", raw)
		measure("reader", ours)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	const n = 50_000
	p := prefixOf(b)
	fill(b, p, n, n, 200)
	for b.Loop() {
		s := openUnclosed(b, member.Endpoint[len("http://"):], p, nil)
		r, err := s.Read(b.Context(), source.Request{Pieces: []source.Piece{{Span: s.Span()}}, BufferBytes: 32 << 20})
		require.NoError(b, err)
		total := 0
		for total < n {
			event, err := r.Next(b.Context())
			require.NoError(b, err)
			total += len(event.Changes)
		}
		require.NoError(b, r.Close())
		require.NoError(b, s.Close())
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
