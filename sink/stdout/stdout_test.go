package stdout

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/fence"
	"fencerow/sink"
)

func identity(name string) sink.Identity {
	return sink.Identity{Cluster: "c", Changefeed: changefeed.ID{Namespace: "default", Name: name}, UID: changefeed.UID("uid-" + name)}
}

func batch(position change.Position, keys ...string) sink.Batch {
	out := sink.Batch{Span: changefeed.Whole(), To: change.At(position)}
	for i, key := range keys {
		out.Changes = append(out.Changes, change.Change{
			Position: position, Index: uint32(i), Op: change.OpCreate, Key: []byte(key), After: &change.KV{Key: []byte(key), Value: []byte("v")},
		})
	}
	return out
}

func open(t *testing.T, output *Output, name string, token fence.Token) sink.Writer {
	t.Helper()
	s, err := Open(Config{Identity: identity(name), Output: output})
	require.NoError(t, err)
	require.NoError(t, s.Raise(t.Context(), token.Epoch(), sink.KnownCheckpoint))
	w, err := s.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: token, From: change.At(3)})
	require.NoError(t, err)
	return w
}

func TestChangesAndResolvedMarksArePrinted(t *testing.T) {
	var to bytes.Buffer
	w := open(t, NewOutput(&to), "orders", fence.Mint(5, 2))
	require.Equal(t, change.At(3), w.Pieces()[0].Mark)
	require.NoError(t, w.Write(t.Context(), batch(7, "a", "b")))
	require.NoError(t, w.Write(t.Context(), batch(7)), "a mark that says nothing new is not printed")
	require.NoError(t, w.Write(t.Context(), sink.Batch{Span: changefeed.Span{End: []byte("m")}, To: change.Mark{Position: 9, Index: 4}}))
	lines := strings.Split(strings.TrimSuffix(to.String(), "\n"), "\n")
	require.Len(t, lines, 4)
	for i, want := range []change.Position{7, 7, 7, 8} {
		record, err := codec.Decode([]byte(lines[i]))
		require.NoError(t, err)
		require.Equal(t, want, record.Position)
		require.Equal(t, changefeed.UID("uid-orders"), record.UID)
		require.Equal(t, fence.Mint(5, 2), record.Token)
		require.Equal(t, i >= 2, record.IsResolved)
	}
}

func TestChangefeedsOfAProcessPrintWholeLines(t *testing.T) {
	var to bytes.Buffer
	output := NewOutput(&to)
	var group sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		w := open(t, output, name, fence.Mint(1, 1))
		group.Go(func() {
			for position := change.Position(4); position < 100; position++ {
				if err := w.Write(t.Context(), batch(position, "k1", "k2")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	lines := strings.Split(strings.TrimSuffix(to.String(), "\n"), "\n")
	require.Len(t, lines, 4*96*3)
	for _, line := range lines {
		_, err := codec.Decode([]byte(line))
		require.NoError(t, err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestFailures(t *testing.T) {
	_, err := Open(Config{})
	require.Error(t, err)
	s, err := Open(Config{Identity: identity("x"), Output: NewOutput(brokenWriter{})})
	require.NoError(t, err)
	_, err = s.Claim(t.Context(), sink.Claim{})
	require.ErrorIs(t, err, fence.ErrStale)
	w := open(t, NewOutput(brokenWriter{}), "x", fence.Mint(1, 1))
	require.ErrorIs(t, w.Write(t.Context(), batch(9, "k")), fence.ErrUnknown)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.Write(gone, batch(9)), context.Canceled)
	require.NoError(t, w.Close())
	require.Error(t, w.Write(t.Context(), batch(9)))
	require.NoError(t, s.Raise(t.Context(), 7, sink.KnownNothing))
	require.ErrorIs(t, s.Raise(t.Context(), 6, sink.KnownNothing), fence.ErrStale)
	require.NoError(t, s.Remove(t.Context(), 8))
	require.ErrorIs(t, s.Raise(t.Context(), 9, sink.KnownNothing), fence.ErrStale)
}
