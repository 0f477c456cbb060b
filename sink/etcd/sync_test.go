package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/sink"
	"fencerow/sink/etcd"
)

// meanwhile is a client that lets something happen right before the transaction that records a sync point.
type meanwhile struct {
	kv.Store
	do func()
}

func (m *meanwhile) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	for _, op := range txn.Then {
		if op.Kind == kv.OpPut && strings.Contains(op.Key, "/syncs/") && m.do != nil {
			m.do()
			m.do = nil
		}
	}
	return m.Store.Txn(ctx, txn)
}

// fence:F24. Between the look at the marks and the record somebody else may move, claim, or record: nothing is recorded then.
func TestF24NothingPassesBetweenTheLookAndTheRecord(t *testing.T) {
	t.Parallel()
	left, right := changefeed.Span{End: []byte("m")}, changefeed.Span{Start: []byte("m")}
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, s sink.Sink, right sink.SyncWriter)
		want      error
	}{
		"nothing": {func(*testing.T, sink.Sink, sink.SyncWriter) {}, nil},
		"another part moves": {func(t *testing.T, _ sink.Sink, w sink.SyncWriter) {
			require.NoError(t, w.Write(t.Context(), sink.Batch{Span: right, To: change.At(11)}))
		}, sink.ErrApart},
		"another part is claimed and moves": {func(t *testing.T, s sink.Sink, _ sink.SyncWriter) {
			w, err := s.Claim(t.Context(), sink.Claim{Span: right, Token: fence.Mint(3, 9)})
			require.NoError(t, err)
			require.NoError(t, w.Write(t.Context(), sink.Batch{Span: right, To: change.At(11)}))
		}, sink.ErrApart},
		"its own part is claimed": {func(t *testing.T, s sink.Sink, _ sink.SyncWriter) {
			_, err := s.Claim(t.Context(), sink.Claim{Span: left, Token: fence.Mint(3, 9)})
			require.NoError(t, err)
		}, fence.ErrStale},
		"it is removed": {func(t *testing.T, s sink.Sink, _ sink.SyncWriter) {
			require.NoError(t, s.Remove(t.Context(), 4))
		}, fence.ErrStale},
		"the other records it": {func(t *testing.T, _ sink.Sink, w sink.SyncWriter) {
			require.NoError(t, w.Sync(t.Context(), changefeed.Whole(), 10))
		}, sink.ErrSynced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := kvmem.NewServer(kvmem.Config{})
			between := &meanwhile{Store: server.Open()}
			open := func(store kv.Store) *etcd.Sink {
				s, err := etcd.New(etcd.Config{
					Open: func(context.Context) (kv.Store, error) { return store, nil }, TargetPrefix: []byte(targetPrefix),
					Identity: sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"},
				})
				require.NoError(t, err)
				return s
			}
			one, two := open(between), open(server.Open())
			require.NoError(t, one.Raise(t.Context(), 3, sink.KnownNothing))
			claim := func(s sink.Sink, span changefeed.Span, seq fence.Seq) sink.SyncWriter {
				w, err := s.Claim(t.Context(), sink.Claim{Span: span, Token: fence.Mint(3, seq), From: change.At(10)})
				require.NoError(t, err)
				writer, ok := w.(sink.SyncWriter)
				require.True(t, ok)
				return writer
			}
			writer, other := claim(one, left, 1), claim(two, right, 2)
			between.do = func() { test.meanwhile(t, two, other) }
			err := writer.Sync(t.Context(), changefeed.Whole(), 10)
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			} else {
				require.NoError(t, err)
			}
			last, err := two.LastSync(t.Context())
			require.NoError(t, err)
			require.Equal(t, test.want == nil || errors.Is(test.want, sink.ErrSynced), last == 10)
		})
	}
}
