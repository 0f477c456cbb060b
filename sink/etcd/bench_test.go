package etcd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvtest"
	"fencerow/sink"
	"fencerow/sink/etcd"
)

const (
	benchKeys  = 10_000
	benchRun   = 5_000 // changes that the source hands over at once
	benchValue = 200
)

// benchWriter claims everything on a real member that syncs its files.
func benchWriter(b *testing.B, from change.Mark) sink.Writer {
	b.Helper()
	synced, err := kvtest.StartEtcd(func(c *embed.Config) { c.UnsafeNoFsync = false })
	require.NoError(b, err)
	b.Cleanup(synced.Close)
	s, err := etcd.New(etcd.Config{
		Open:         func(context.Context) (kv.Store, error) { return synced.Open() },
		SourcePrefix: []byte("/orders/"), TargetPrefix: []byte(targetPrefix), Identity: orders,
	})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Close() })
	require.NoError(b, s.Raise(b.Context(), 1, sink.KnownNothing))
	w, err := s.Claim(b.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1), From: from})
	require.NoError(b, err)
	return w
}

func benchChange(position change.Position, op change.Op, k int) change.Change {
	name := fmt.Appendf(nil, "/orders/%06d", k)
	return change.Change{Position: position, Op: op, Key: name, After: &change.KV{Key: name, Value: make([]byte, benchValue)}}
}

// BenchmarkBacklog writes single-key changes, each of a position of its own.
func BenchmarkBacklog(b *testing.B) {
	w := benchWriter(b, change.At(1))
	position := change.Position(1)
	written := 0
	b.ResetTimer()
	for range b.N {
		run := sink.Batch{Span: changefeed.Whole()}
		for range benchRun {
			position++
			run.Changes = append(run.Changes, benchChange(position, change.OpUpdate, int(position)*7919%benchKeys))
		}
		run.To = change.At(position)
		for _, batch := range sink.Steps(run, w.Limits()) {
			require.NoError(b, w.Write(b.Context(), batch))
		}
		written += len(run.Changes)
	}
	b.ReportMetric(float64(written)/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkInitialCopy writes pages of a snapshot into an empty target.
func BenchmarkInitialCopy(b *testing.B) {
	w := benchWriter(b, change.Mark{})
	next := 0
	b.ResetTimer()
	for range b.N {
		page := sink.Batch{To: change.At(9), Snapshot: true}
		if next > 0 {
			page.Span.Start = fmt.Appendf(nil, "/orders/%09d", next)
		}
		for range benchRun {
			name := fmt.Appendf(nil, "/orders/%09d", next)
			page.Changes = append(page.Changes, change.Change{
				Position: 9, Op: change.OpRead, Key: name, After: &change.KV{Key: name, Value: make([]byte, benchValue)},
			})
			next++
		}
		page.Span.End = fmt.Appendf(nil, "/orders/%09d", next)
		for _, batch := range sink.Steps(page, w.Limits()) {
			require.NoError(b, w.Write(b.Context(), batch))
		}
	}
	b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "keys/s")
}
