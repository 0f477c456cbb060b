package etcd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/kv/kvetcd"
	"fencerow/kv/kvtest"
	"fencerow/source"
)

var (
	member *kvtest.Etcd
	store  *clientv3.Client
)

func TestMain(m *testing.M) {
	code := 1
	func() {
		var err error
		if member, err = kvtest.StartEtcd(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		defer member.Close()
		if store, err = kvetcd.Dial(kvetcd.Config{Endpoints: []string{member.Endpoint}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		defer func() { _ = store.Close() }()
		code = m.Run()
	}()
	os.Exit(code)
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func prefixOf(t testing.TB) string {
	t.Helper()
	return "/" + strings.ReplaceAll(t.Name(), " ", "_") + "/"
}

func openAt(t testing.TB, host, prefix string, options changefeed.Options) *Source {
	t.Helper()
	s := openUnclosed(t, host, prefix, options)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func openUnclosed(t testing.TB, host, prefix string, options changefeed.Options) *Source {
	t.Helper()
	uri := endpoint.URI{Scheme: endpoint.Etcd, Hosts: []string{host}, Path: []byte(prefix)}
	s, err := New(Config{URI: uri, Options: options, Logger: zap.NewNop()})
	require.NoError(t, err)
	return s
}

func open(t testing.TB, options changefeed.Options) *Source {
	t.Helper()
	return openAt(t, strings.TrimPrefix(member.Endpoint, "http://"), prefixOf(t), options)
}

func read(t testing.TB, s *Source, pieces ...source.Piece) source.Reader {
	t.Helper()
	r, err := s.Read(t.Context(), source.Request{Pieces: pieces, BufferBytes: 32 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func put(t testing.TB, key, value string) change.Position {
	t.Helper()
	answer, err := store.Put(testContext(t), key, value)
	require.NoError(t, err)
	return change.Position(answer.Header.Revision)
}

func head(t testing.TB, s *Source) change.Position {
	t.Helper()
	position, err := s.Head(testContext(t))
	require.NoError(t, err)
	return position
}

// until reads events until one reaches the position for the whole span.
func until(t testing.TB, r source.Reader, position change.Position) []source.Event {
	t.Helper()
	ctx := testContext(t)
	var events []source.Event
	for {
		event, err := r.Next(ctx)
		require.NoError(t, err)
		events = append(events, event)
		if !event.Snapshot && event.To.Whole() >= position {
			return events
		}
	}
}

func (r *room) heldNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// reserved is what the stream holds of the room.
func (s *stream) reserved() int {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	size := s.taken
	for i := range s.answers {
		size += s.answers[i].eventBytes
	}
	return size
}

func changes(events []source.Event) []change.Change {
	var all []change.Change
	for _, event := range events {
		all = append(all, event.Changes...)
	}
	return all
}

func TestLiveChangesOfEveryKind(t *testing.T) {
	s := open(t, changefeed.Options{OptionPrevious: "true"})
	from := head(t, s)
	r := read(t, s, source.Piece{Span: s.Span(), Mark: change.At(from)})
	p := prefixOf(t)
	first := put(t, p+"a", "1")
	put(t, p+"a", "2")
	put(t, "/elsewhere", "x")
	answer, err := store.Txn(testContext(t)).Then(clientv3.OpPut(p+"c", "3"), clientv3.OpDelete(p+"a"), clientv3.OpPut(p+"b", "4")).Commit()
	require.NoError(t, err)
	last := change.Position(answer.Header.Revision)
	got := changes(until(t, r, last))
	require.Len(t, got, 5)
	require.Equal(t, []change.Op{change.OpCreate, change.OpUpdate, change.OpDelete, change.OpCreate, change.OpCreate},
		[]change.Op{got[0].Op, got[1].Op, got[2].Op, got[3].Op, got[4].Op})
	require.Equal(t, first, got[0].Position)
	require.Equal(t, "1", string(got[1].Before.(*change.KV).Value))
	require.Equal(t, "2", string(got[1].After.(*change.KV).Value))
	require.Nil(t, got[2].After)
	require.Equal(t, "2", string(got[2].Before.(*change.KV).Value))
	require.Nil(t, got[0].Before)
	for i, key := range []string{"a", "b", "c"} {
		require.Equal(t, p+key, string(got[2+i].Key))
		require.Equal(t, uint32(i), got[2+i].Index)
		require.Equal(t, last, got[2+i].Position)
	}
}
