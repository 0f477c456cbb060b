package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// fence:F24. A sync point is recorded once, by a writer that is current, and when everything has come as far.
func TestF24ASyncPointIsRecordedOnceAndByACurrentWriter(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{
		Directory: filepath.Join(t.TempDir(), "d"),
		Identity:  sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"},
	})
	require.NoError(t, err)
	ctx, whole := t.Context(), changefeed.Whole()
	require.NoError(t, s.Raise(ctx, 3, sink.KnownNothing))
	claim := func(span changefeed.Span, seq fence.Seq, from change.Position) *Writer {
		w, err := s.Claim(ctx, sink.Claim{Span: span, Token: fence.Mint(3, seq), From: change.At(from)})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, w.Close()) })
		return w.(*Writer) //nolint:forcetypeassert // this sink's
	}
	left := claim(changefeed.Span{End: []byte("m")}, 1, 10)
	right := claim(changefeed.Span{Start: []byte("m")}, 2, 5)
	require.ErrorIs(t, left.Sync(ctx, whole, 10), sink.ErrApart)
	require.NoError(t, right.Write(ctx, sink.Batch{Span: right.span, To: change.At(10)}))
	require.NoError(t, left.Sync(ctx, whole, 10))
	require.ErrorIs(t, right.Sync(ctx, whole, 10), sink.ErrSynced)

	again := claim(left.span, 3, 10)
	require.ErrorIs(t, left.Sync(ctx, whole, 9), fence.ErrStale)
	last, err := s.LastSync(ctx)
	require.NoError(t, err)
	require.Equal(t, change.Position(10), last)
	require.NoError(t, again.Sync(ctx, whole, 9), "of a log: what lies above is left out by who reads")
}

// A cut names a sync point that was recorded, and what it names is there.
func TestACutIsRefusedWhereItDoesNotHold(t *testing.T) {
	t.Parallel()
	d := &target{directory: filepath.Join(t.TempDir(), "d")}
	as := sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"}
	s := d.open(t, as, quickDisk{})
	require.NoError(t, s.Raise(t.Context(), 3, sink.KnownNothing))
	claimed, err := s.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(3, 1), From: change.At(10)})
	require.NoError(t, err)
	w := claimed.(*Writer) //nolint:forcetypeassert // this sink's
	defer func() { require.NoError(t, w.Close()) }()
	open := func() *Reader {
		reader, err := OpenReader(ReaderConfig{Directory: d.directory, Mode: ReadPresent})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, reader.Close()) })
		return reader
	}
	_, err = open().Cut(0)
	require.Equal(t, changefeed.CodeNotFound, changefeed.AsFault(err, "").Code)
	require.NoError(t, w.Write(t.Context(), sink.Batch{Span: changefeed.Whole(), To: change.At(20)}))
	require.NoError(t, w.Sync(t.Context(), changefeed.Whole(), 20))
	_, err = open().Cut(15)
	require.ErrorContains(t, err, "20")

	reader := open()
	at, err := reader.Cut(0)
	require.NoError(t, err)
	require.Equal(t, change.Position(20), at)
	_, err = reader.Next(t.Context())
	require.True(t, errors.Is(err, io.EOF))

	// Somebody puts a record there that nothing stands behind.
	data, err := os.ReadFile(syncName(d.directory, "u1", 20))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(syncName(d.directory, "u1", 99), data, 0o600))
	reader = open()
	_, err = reader.Cut(99)
	require.NoError(t, err)
	_, err = reader.Next(t.Context())
	require.Equal(t, changefeed.CodeSinkLost, changefeed.AsFault(err, "").Code)
}
