package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/sourcetest"
)

// history writes transactions at random and logs them.
type history struct {
	mu  sync.Mutex
	log sourcetest.Log
}

// write commits n transactions of one or two keys of its own from 500, most of them of one.
func (h *history) write(ctx context.Context, prefix string, n, writer int) error {
	random := rand.New(rand.NewPCG(uint64(writer), 7))
	for i := range n {
		writes := []sourcetest.Write{{Key: fmt.Sprintf("%s%03d-%d", prefix, random.IntN(500), writer), Value: fmt.Sprint(i)}}
		if i%10 == 0 {
			writes = append(writes, sourcetest.Write{Key: fmt.Sprintf("%szz-%d", prefix, writer), Value: fmt.Sprint(i)})
		}
		if i%17 == 16 { // of a key that is written at once, so that there is something to delete
			writes = []sourcetest.Write{{Key: fmt.Sprintf("%szz-%d", prefix, writer), Deleted: true}}
		}
		var ops []clientv3.Op
		for _, w := range writes {
			if w.Deleted {
				ops = append(ops, clientv3.OpDelete(w.Key))
			} else {
				ops = append(ops, clientv3.OpPut(w.Key, w.Value))
			}
		}
		answer, err := store.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return err
		}
		h.mu.Lock()
		for j, w := range writes {
			if w.Deleted && answer.Responses[j].GetResponseDeleteRange().GetDeleted() == 0 {
				continue // there was nothing to delete
			}
			w.Position = change.Position(answer.Header.Revision)
			h.log = append(h.log, w)
		}
		h.mu.Unlock()
	}
	return nil
}

func (h *history) writers(t testing.TB, prefix string, each, first int) *sync.WaitGroup {
	t.Helper()
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			if err := h.write(t.Context(), prefix, each, first+w); err != nil {
				t.Error(err)
			}
		})
	}
	return &group
}

// A backlog is read by many lanes while writers go on and the line is cut, and a single lane takes over.
func TestBacklogIsMergedWithoutGapOrRepeat(t *testing.T) {
	line := newProxy(t, strings.TrimPrefix(member.Endpoint, "http://"))
	p := prefixOf(t)
	s := openAt(t, line.listener.Addr().String(), p, nil)
	from := head(t, s)
	h := &history{}
	h.writers(t, p, 500, 0).Wait()
	live := h.writers(t, p, 100, 100)
	pieces := []source.Piece{{Span: s.Span(), Mark: change.At(from)}}
	checker := sourcetest.NewChecker(pieces, func(row change.Row) string { return string(row.(*change.KV).Value) })
	r := read(t, s, pieces...)
	ctx := testContext(t)
	most, cut, last := 0, false, change.Position(0)
	for {
		event, err := r.Next(ctx)
		require.NoError(t, err)
		checker.Add(event)
		most = max(most, len(r.(*reader).tail.lanes))
		if most > 1 && !cut {
			cut = true
			line.cut()
		}
		if last == 0 && event.To.Position >= from+7000 {
			live.Wait()
			last = head(t, s)
		}
		if last > 0 && event.To.Position >= last && len(r.(*reader).tail.lanes) == 1 {
			break
		}
	}
	require.Greater(t, most, 4)
	require.NoError(t, checker.Finish(h.log))
	single := r.(*reader).tail.lanes[0].stream
	require.Equal(t, single.reserved(), r.(*reader).room.heldNow(), "all other room was given back")
}

// Hazard 66: the client library would buffer all of it.
func TestSlowReaderHoldsNoMoreThanItsBuffer(t *testing.T) {
	p := prefixOf(t)
	from := fill(t, p, 4_000, 500, 2000)
	s := open(t, nil)
	const buffer = 4 << 20
	r, err := s.Read(t.Context(), source.Request{Pieces: []source.Piece{{Span: s.Span(), Mark: change.At(from)}}, BufferBytes: buffer})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	to := head(t, s)
	total := 0
	for _, event := range until(t, r, to) {
		total += len(event.Changes)
	}
	require.Equal(t, 4_000, total)
	// One answer of a thousand revisions of 2 kB is 2.3 MB, and a lane at least receives one.
	require.Less(t, peakOf(r), 2*buffer)
}

// peakOf returns how much a reader held at most so far. It may still read on.
func peakOf(r source.Reader) int {
	room := r.(*reader).room
	room.mu.Lock()
	defer room.mu.Unlock()
	return room.peak
}

// A silent watch is not a healthy watch.
func TestSilentLineIsFoundOutAndBridged(t *testing.T) {
	line := newProxy(t, strings.TrimPrefix(member.Endpoint, "http://"))
	p := prefixOf(t)
	s := openAt(t, line.listener.Addr().String(), p, nil)
	s.patience = patience{request: 200 * time.Millisecond, silence: 400 * time.Millisecond, retry: time.Minute}
	r := read(t, s, source.Piece{Span: s.Span(), Mark: change.At(head(t, s))})
	until(t, r, put(t, p+"a", "1"))
	line.setDeaf(true)
	last := put(t, p+"a", "2")
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := r.Next(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	line.setDeaf(false)
	line.cut() // what was swallowed is lost; the connection is of no use any more
	r = read(t, s, source.Piece{Span: s.Span(), Mark: change.At(last - 1)})
	require.Len(t, changes(until(t, r, last)), 1)
}

func TestUnreachableIsAFaultThatTimeHeals(t *testing.T) {
	s := openAt(t, "127.0.0.1:1", "/p/", nil)
	s.patience = patience{request: 200 * time.Millisecond, silence: time.Second, retry: 100 * time.Millisecond}
	_, err := s.Head(testContext(t))
	requireFault(t, err, changefeed.CodeSourceUnreachable, false)
	_, err = s.Identity(testContext(t))
	requireFault(t, err, changefeed.CodeSourceUnreachable, false)
	for _, mark := range []change.Mark{{}, change.At(5)} {
		r := read(t, s, source.Piece{Span: s.Span(), Mark: mark})
		_, err = r.Next(testContext(t))
		requireFault(t, err, changefeed.CodeSourceUnreachable, false)
		_, again := r.Next(testContext(t))
		require.Equal(t, err, again)
	}
}

func requireFault(t *testing.T, err error, code changefeed.Code, permanent bool) {
	t.Helper()
	fault := changefeed.AsFault(err, "")
	require.Equal(t, code, fault.Code, "%v", err)
	require.Equal(t, permanent, fault.Permanent)
	require.NotEmpty(t, fault.Cure)
}

func TestAnotherStoreIsRefused(t *testing.T) {
	s := open(t, nil)
	s.cluster = 5
	_, err := s.Head(testContext(t))
	requireFault(t, err, changefeed.CodeSourceReplaced, true)
	s = open(t, nil)
	r := read(t, s, source.Piece{Span: s.Span(), Mark: change.At(head(t, s) + 1000)})
	_, err = r.Next(testContext(t))
	requireFault(t, err, changefeed.CodeSourceReplaced, true)
	s = open(t, nil)
	s.seen = int64(head(t, s)) + 1000
	_, err = s.Head(testContext(t))
	requireFault(t, err, changefeed.CodeSourceReplaced, true)
}

// The snapshot's revision is compacted in the middle: the rest, and then what became unreadable, is read again.
func TestSnapshotSurvivesCompaction(t *testing.T) {
	p := prefixOf(t)
	h := &history{}
	require.NoError(t, h.write(t.Context(), p, 300, 0))
	s := open(t, changefeed.Options{source.OptionSnapshotChunk: "10"})
	pieces := []source.Piece{{Span: s.Span()}}
	checker := sourcetest.NewChecker(pieces, func(row change.Row) string { return string(row.(*change.KV).Value) })
	r := read(t, s, pieces...)
	first, err := r.Next(testContext(t))
	require.NoError(t, err)
	checker.Add(first)
	progress, reading := r.(source.Progressing).Progress()
	require.True(t, reading)
	require.EqualValues(t, 10, progress.RowsRead)
	require.Greater(t, progress.RowsTotal, int64(100))
	require.NoError(t, h.write(t.Context(), p, 100, 1))
	_, err = store.Compact(testContext(t), int64(head(t, s)))
	require.NoError(t, err)
	require.NoError(t, h.write(t.Context(), p, 50, 2))
	for _, event := range until(t, r, head(t, s)) {
		checker.Add(event)
	}
	require.NoError(t, checker.Finish(h.log))
	_, reading = r.(source.Progressing).Progress()
	require.False(t, reading)
}

func TestNothingIsLeftBehind(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	p := prefixOf(t)
	from := fill(t, p, 6000, 300, 10)
	s := openUnclosed(t, strings.TrimPrefix(member.Endpoint, "http://"), p, changefeed.Options{source.OptionSnapshotChunk: "10"})
	for _, mark := range []change.Mark{change.At(from), {}} {
		for take := range 4 {
			r, err := s.Read(t.Context(), source.Request{Pieces: []source.Piece{{Span: s.Span(), Mark: mark}}})
			require.NoError(t, err)
			for range take {
				_, err = r.Next(testContext(t))
				require.NoError(t, err)
			}
			require.NoError(t, r.Close())
		}
	}
	require.NoError(t, s.Close())
	_, err := s.Head(testContext(t))
	require.ErrorIs(t, err, errClosed)
	// The server's own goroutines for a connection end a little later.
	goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*serverWatchStream).recvLoop"))
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []changefeed.Options{
		{OptionPrevious: "yes"},
		{source.OptionOnGap: "ignore"},
		{source.OptionSnapshotRate: "-1"},
		{source.OptionSnapshotChunk: "0"},
		{source.OptionSnapshotChunk: "x"},
		{"tls_ca": "relative"},
	} {
		_, err := parseSettings(options)
		requireFault(t, err, changefeed.CodeRequestInvalid, false)
	}
	settings, err := parseSettings(changefeed.Options{"batch_bytes": "1", source.OptionOnGap: "resnapshot"})
	require.NoError(t, err)
	require.True(t, settings.Resnapshot)
	for _, option := range Options() {
		require.NotEmpty(t, option.Doc)
	}
}
