package blackhole_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/blackhole"
)

var claim = sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(3, 4), From: change.At(7)}

func TestCounts(t *testing.T) {
	s := blackhole.New()
	require.NoError(t, s.Raise(t.Context(), 3, sink.KnownCheckpoint))
	w, err := s.Claim(t.Context(), claim)
	require.NoError(t, err)
	require.Equal(t, []sink.Piece{{Span: claim.Span, Mark: claim.From}}, w.Pieces())
	c := change.Change{Position: 8, Op: change.OpDelete, Key: []byte("k")}
	require.NoError(t, w.Write(t.Context(), sink.Batch{Changes: []change.Change{c, c}, To: change.At(8)}))
	require.NoError(t, w.Write(t.Context(), sink.Batch{To: change.At(9)}))
	require.Equal(t, blackhole.Counts{
		Changes: 2, Bytes: 2 * uint64(c.Size()), Batches: 2, Claims: 1, Last: claim.Token,
	}, s.Counts())
	require.NoError(t, w.Close())
	require.Error(t, w.Write(t.Context(), sink.Batch{}))
	require.NoError(t, s.Remove(t.Context(), 4))
	require.NoError(t, s.Close())
}

func TestRefused(t *testing.T) {
	s := blackhole.New()
	require.ErrorIs(t, s.Raise(t.Context(), 0, sink.KnownNothing), fence.ErrStale)
	_, err := s.Claim(t.Context(), sink.Claim{Span: changefeed.Whole()})
	require.ErrorIs(t, err, fence.ErrStale)
	_, err = s.Claim(t.Context(), sink.Claim{Token: claim.Token, Span: changefeed.Span{Start: []byte("b"), End: []byte("a")}})
	require.Error(t, err)
	w, err := s.Claim(t.Context(), claim)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Claim(ended, claim)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, w.Write(ended, sink.Batch{}), context.Canceled)
	require.Error(t, w.Write(t.Context(), sink.Batch{}), "a writer that failed is done with")
}

func BenchmarkWrite(b *testing.B) {
	w, err := blackhole.New().Claim(b.Context(), claim)
	require.NoError(b, err)
	batch := sink.Batch{Changes: make([]change.Change, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		_ = w.Write(b.Context(), batch)
	}
}
