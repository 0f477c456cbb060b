package sqltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
)

// pastMax is far above what a claim may need to get past a writer that stands still.
const pastMax = 60 * time.Second

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Harness){
		"a writer that stands still before its commit":      testPaused,
		"a writer that stands still is ended by the server": testPausedAlone,
		"a claim holds off a raise":                         testClaimHoldsOffARaise,
		"a commit is cut at every byte to the server":       func(t *testing.T, h Harness) { testCut(t, h, ToServer) },
		"a commit is cut at every byte of its answer":       func(t *testing.T, h Harness) { testCut(t, h, ToClient) },
		"a table that is missing":                           testTableMissing,
		"a table that can't hold what is written":           testTableWrong,
		"a table of another changefeed":                     testTableTaken,
		"a table that is lost":                              testTableLost,
		"a user without rights":                             testRights,
		"a row that the target refuses":                     testRowRefused,
		"keys again and again in one batch":                 testHotKeys,
		"a server that does not answer":                     testUnreachable,
		"certificates on both sides":                        testCertified,
		"a server with a certificate that is not trusted":   testUntrusted,
		"a writer that is done with keeps no connection":    testConnections,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

func me() sink.Identity {
	return sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}
}

func logOptions() changefeed.Options { return changefeed.Options{"mode": "log"} }

// put is a change of its own key at a position.
func put(at change.Position) change.Change {
	return set(at, fmt.Sprintf("key-%03d", at), "value")
}

func set(at change.Position, key, value string) change.Change {
	return change.Change{
		Position: at, Op: change.OpUpdate, Key: []byte(key),
		After: &change.KV{Key: []byte(key), Value: []byte(value), ModRevision: int64(at), Version: 1},
	}
}

// upTo is a batch with one change.
func upTo(at change.Position) sink.Batch {
	return sink.Batch{Changes: []change.Change{put(at)}, Span: changefeed.Whole(), To: change.At(at)}
}

func whole(epoch fence.Epoch, seq fence.Seq) sink.Claim {
	return sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(epoch, seq), From: change.At(1)}
}

func claim(t testing.TB, s sink.Sink, c sink.Claim) sink.Writer {
	t.Helper()
	w, err := s.Claim(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// gate lets a test hold a node at its commits.
type gate struct {
	mu   sync.Mutex
	hold bool
	at   chan struct{} // receives when somebody stands there
	free chan struct{}
}

func newGate() *gate { return &gate{at: make(chan struct{}, 1), free: make(chan struct{})} }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = true
}

func (g *gate) wrap(session sqlsink.Session) sqlsink.Session {
	return &gated{Session: session, gate: g}
}

type gated struct {
	sqlsink.Session
	gate *gate
}

// Commit implements [sqlsink.Session].
func (s *gated) Commit(ctx context.Context, statements ...sqlsink.Statement) error {
	if _, err := s.Do(ctx, statements...); err != nil { // everything is done but the commit
		return err
	}
	s.gate.mu.Lock()
	held := s.gate.hold
	s.gate.mu.Unlock()
	if held {
		s.gate.at <- struct{}{}
		<-s.gate.free
	}
	return s.Session.Commit(ctx)
}

// testPaused: everything of a transaction is done but its commit, when the writer is stopped. The next owner gets past it,
// and the commit fails when it wakes up.
func testPaused(t *testing.T, h Harness) {
	target := h.New(t)
	held := newGate()
	old := target.Open(t, me(), Way{Options: logOptions(), Wrap: held.wrap})
	require.NoError(t, old.Raise(t.Context(), 2, sink.KnownNothing))
	stale := claim(t, old, whole(2, 1))
	require.NoError(t, stale.Write(t.Context(), upTo(2)))
	held.close()
	result := make(chan error, 1)
	go func() { result <- stale.Write(t.Context(), upTo(3)) }()
	<-held.at

	next := target.Open(t, me(), Way{Options: logOptions()})
	limited, cancel := context.WithTimeout(t.Context(), pastMax)
	defer cancel()
	require.NoError(t, next.Raise(limited, 3, sink.KnownCheckpoint))
	w, err := next.Claim(limited, whole(3, 1))
	require.NoError(t, err, "a claim gets past a transaction that nobody goes on with")
	require.Equal(t, change.At(2), w.Pieces()[0].Mark)
	require.NoError(t, w.Write(t.Context(), upTo(3)))
	close(held.free)
	require.Error(t, <-result, "the old commit fails")
	require.NoError(t, w.Write(t.Context(), upTo(4)))
	require.NoError(t, w.Close())
	require.Equal(t, []string{"key-002", "key-003", "key-004"}, target.Log(t))
}

// testPausedAlone: nobody comes; the server itself ends the transaction, since the writer asked it to.
func testPausedAlone(t *testing.T, h Harness) {
	target := h.New(t)
	held := newGate()
	old := target.Open(t, me(), Way{Options: logOptions(), Wrap: held.wrap})
	require.NoError(t, old.Raise(t.Context(), 2, sink.KnownNothing))
	w := claim(t, old, whole(2, 1))
	held.close()
	result := make(chan error, 1)
	go func() { result <- w.Write(t.Context(), upTo(2)) }()
	<-held.at
	require.Eventually(t, func() bool { return target.Backends(t) == 0 }, pastMax, 100*time.Millisecond)
	close(held.free)
	require.Error(t, <-result)
	require.Empty(t, target.Log(t))
}

// testClaimHoldsOffARaise is F22: while a claim is being decided the floor stands still under it.
func testClaimHoldsOffARaise(t *testing.T, h Harness) {
	target := h.New(t)
	held := newGate()
	slow := target.Open(t, me(), Way{Options: logOptions(), Wrap: func(session sqlsink.Session) sqlsink.Session {
		return &slowTaker{Session: session, gate: held}
	}})
	require.NoError(t, slow.Raise(t.Context(), 2, sink.KnownNothing))
	held.close()
	result := make(chan error, 1)
	go func() {
		w, err := slow.Claim(t.Context(), whole(2, 1))
		if err == nil {
			err = w.Close()
		}
		result <- err
	}()
	<-held.at
	limited, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, target.Open(t, me(), Way{Options: logOptions()}).Raise(limited, 3, sink.KnownNothing),
		"the floor rose while a claim below it had been admitted and was not yet stored")
	close(held.free)
	require.NoError(t, <-result)
}

// slowTaker stands still after a claim was admitted, and before it is stored.
type slowTaker struct {
	sqlsink.Session
	gate *gate
	done int
}

// Do implements [sqlsink.Session].
func (s *slowTaker) Do(ctx context.Context, statements ...sqlsink.Statement) ([]sqlsink.Result, error) {
	s.gate.mu.Lock()
	held := s.gate.hold
	s.gate.mu.Unlock()
	if s.done++; held && s.done == 3 { // the head, the claims, and now what is to be stored
		s.gate.at <- struct{}{}
		<-s.gate.free
	}
	return s.Session.Do(ctx, statements...)
}

// cutter arms a proxy right before a commit.
type cutter struct {
	sqlsink.Session
	arm func()
}

// Commit implements [sqlsink.Session].
func (s *cutter) Commit(ctx context.Context, statements ...sqlsink.Statement) error {
	s.arm()
	return s.Session.Commit(ctx, statements...)
}

const (
	// cutBytesMax is more than a commit, with the statements that go with it, and its answer take.
	cutBytesMax = 1 << 20
	// cutClose is how many bytes at the end of an exchange, where the commit is, are cut one by one. Before them nothing was
	// asked to be committed: every cutEvery-th has to do, and of long ones every fiftieth part.
	cutClose = 200
	cutEvery = 19
)

// cutAt returns the next place to cut at, of an exchange of so many bytes.
func cutAt(last, size int) int {
	if step := max(cutEvery, size/50); last+step < size-cutClose {
		return last + step
	}
	return max(last+1, size-cutClose, 0)
}

// happened says what a new claim knows of the write after a position, which returned err, and does it if it did not happen.
func happened(t *testing.T, again sink.Writer, at change.Position, err error) bool {
	t.Helper()
	mark := again.Pieces()[0].Mark.Position
	if mark == at {
		require.Error(t, err)
		require.NoError(t, again.Write(t.Context(), upTo(at+1)))
	} else {
		require.Equal(t, at+1, mark, "a position that nobody wrote")
	}
	require.NoError(t, again.Close())
	return mark != at
}

// testCut: whatever is lost of the exchange of a commit, the next claim knows whether it happened.
func testCut(t *testing.T, h Harness, way Direction) {
	target := h.New(t)
	proxy := NewProxy(t, target.Host())
	direct := target.Open(t, me(), Way{Options: logOptions()})
	require.NoError(t, direct.Raise(t.Context(), 2, sink.KnownNothing))
	begun := claim(t, direct, whole(2, 1))
	require.NoError(t, begun.Write(t.Context(), upTo(2))) // which may make the table
	require.NoError(t, begun.Close())
	want := []string{string(put(2).Key)}
	seq, at, committed, undone := fence.Seq(1), change.Position(2), 0, 0
	size := 0 // of the exchange, when it is not cut
	for bytes := cutBytesMax; ; bytes = cutAt(bytes, size) {
		require.LessOrEqual(t, bytes, cutBytesMax)
		armed := false
		cut := target.Open(t, me(), Way{Host: proxy.Host(), Options: logOptions(), Wrap: func(session sqlsink.Session) sqlsink.Session {
			return &cutter{Session: session, arm: func() {
				if armed {
					armed = false // what a writer tries on a connection that is cut is of no interest
					proxy.CutAfter(way, bytes)
				}
			}}
		}})
		seq++
		w := claim(t, cut, whole(2, seq))
		require.Equal(t, at, w.Pieces()[0].Mark.Position)
		armed = true
		err := w.Write(t.Context(), upTo(at+1))
		if size == 0 {
			require.NoError(t, err)
			at++
			want = append(want, string(put(at).Key))
			size, bytes = proxy.passed(bytes), -cutEvery
			require.NoError(t, w.Close())
			continue
		}
		if !proxy.WasCut() {
			require.NoError(t, err)
			break
		}
		proxy.CutAfter(way, -1)
		if err != nil {
			require.ErrorIs(t, err, fence.ErrUnknown, "cut after %d bytes", bytes)
			require.Equal(t, err, w.Write(t.Context(), upTo(at+2)), "a writer that failed is done with")
		}
		seq++
		if happened(t, claim(t, direct, whole(2, seq)), at, err) {
			committed++
		} else {
			undone++
		}
		at++
		want = append(want, string(put(at).Key))
	}
	require.Equal(t, append(want, string(put(at+1).Key)), target.Log(t))
	t.Logf("%d cuts: %d were committed, %d were not", committed+undone, committed, undone)
	if way == ToServer {
		require.Positive(t, undone)
	} else {
		require.Positive(t, committed)
	}
}

func requireFault(t testing.TB, err error, code changefeed.Code, words ...string) {
	t.Helper()
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, fault.Code, "%v", err)
	for _, word := range words {
		require.Contains(t, err.Error(), word)
	}
}
