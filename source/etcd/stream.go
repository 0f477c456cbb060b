package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"fencerow/changefeed"
)

// room is the memory that the streams of one reader share. Before a stream receives it takes room for an answer like the
// last one. A stream that has nothing waiting and is waited for may always receive one answer, whatever the others hold:
// so a merge never waits for a stream that waits for room.
type room struct {
	limit int
	ready chan struct{} // one permit: something arrived

	mu   sync.Mutex
	cond sync.Cond
	held int
	peak int // of held, for tests
}

func newRoom(limit int) *room {
	r := &room{limit: limit, ready: make(chan struct{}, 1)}
	r.cond.L = &r.mu
	return r
}

// stream is one watch on a gRPC stream of its own. One goroutine receives; what it does not receive stays in the
// connection's window and then with etcd, so a slow reader costs no memory here (hazard 66).
type stream struct {
	span   changefeed.Span
	room   *room
	client grpc.ClientStream
	cancel context.CancelFunc
	done   chan struct{}

	// Guarded by room.mu.
	answers []answer
	wanted  bool // the reader can't go on without this stream
	expect  int  // the size of an answer, to go by
	taken   int  // room for the answer that is being received
	closed  bool
	err     error
}

// watchFrom says where a watch begins.
type watchFrom struct {
	span     changefeed.Span
	revision int64 // 0 is: what happens from now on
	previous bool
	expect   int // the size of an answer, as far as it is known
}

// openMax bounds the opening of a stream, which waits while the connection is being made.
const openMax = 3 * time.Second

// lives says how long something lives, and how long its making may take.
type lives struct{ life, making context.Context } //nolint:containedctx // two lifetimes, and which is which

// openStream starts a watch.
func openStream(over lives, connection *grpc.ClientConn, from watchFrom, room *room) (*stream, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(over.life))
	making, made := context.WithTimeout(over.making, openMax)
	defer made()
	stop := context.AfterFunc(making, cancel)
	client, err := connection.NewStream(ctx,
		&grpc.StreamDesc{StreamName: "Watch", ServerStreams: true, ClientStreams: true}, pb.Watch_Watch_FullMethodName,
		grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err == nil {
		key, end := bounds(from.span)
		err = client.SendMsg(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: key, RangeEnd: end, StartRevision: from.revision, PrevKv: from.previous, Fragment: true,
		}}})
	}
	if err == nil && !stop() {
		err = context.Cause(making)
	}
	if err != nil {
		stop()
		cancel()
		return nil, fmt.Errorf("open a watch: %w", err)
	}
	s := &stream{span: from.span, expect: from.expect, room: room, client: client, cancel: cancel, done: make(chan struct{})}
	go s.receive()
	return s, nil
}

// bounds returns a span as etcd writes it, where a single zero byte is the least key, and as an end no end.
func bounds(span changefeed.Span) (key, end []byte) {
	key, end = span.Start, span.End
	if len(key) == 0 {
		key = []byte{0}
	}
	if len(end) == 0 {
		end = []byte{0}
	}
	return key, end
}

func (s *stream) receive() {
	defer close(s.done)
	for s.awaitRoom() {
		var next answer
		err := s.client.RecvMsg(&next)
		if !s.put(next, err) {
			return
		}
	}
}

func (s *stream) awaitRoom() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	for !s.closed && s.room.held+s.expect > s.room.limit && (len(s.answers) > 0 || !s.wanted) {
		s.room.cond.Wait()
	}
	if s.closed {
		return false
	}
	s.taken = s.expect
	s.room.hold(s.taken)
	return true
}

// hold is called with the lock held.
func (r *room) hold(bytes int) {
	r.held += bytes
	r.peak = max(r.peak, r.held)
	if bytes < 0 {
		r.cond.Broadcast()
	}
}

func (s *stream) put(next answer, err error) bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if s.closed {
		return false // with what was taken given back
	}
	s.room.hold(next.eventBytes - s.taken)
	s.taken = 0
	if err == nil {
		s.answers = append(s.answers, next)
		if next.eventBytes > 0 {
			s.expect = next.eventBytes
		}
	} else {
		s.err = err
	}
	select {
	case s.room.ready <- struct{}{}:
	default:
	}
	return err == nil
}

// take returns the answers that arrived, in order, or why there will be none. What is taken still counts as held, until
// release. With nothing there the stream is marked as waited for.
func (s *stream) take() ([]answer, error) {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	answers := s.answers
	s.answers = nil
	if len(answers) > 0 {
		s.wanted = false
		return answers, nil
	}
	if s.err != nil {
		return nil, s.err
	}
	s.want()
	return nil, nil
}

// want lets the stream receive one answer even if there is no room. It is called with the lock held.
func (s *stream) want() {
	if s.wanted || len(s.answers) > 0 {
		return
	}
	s.wanted = true
	if s.taken == 0 {
		s.room.cond.Broadcast()
	}
}

// wantSoon is want, for a reader that will need the stream soon.
func (s *stream) wantSoon() {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.want()
}

// release gives room back for what was delivered.
func (r *room) release(bytes int) {
	if bytes == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold(-bytes)
}

// reset is for when no stream uses the room any more.
func (r *room) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = 0
}

// requestProgress asks how far the watch is. etcd answers only when it has sent everything.
func (s *stream) requestProgress() error {
	return s.client.SendMsg(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
	})
}

// close ends the stream and waits for its goroutine. What was not taken is given back.
func (s *stream) close() {
	s.end()
	<-s.done
}

// end is close without the waiting.
func (s *stream) end() {
	s.cancel()
	s.room.mu.Lock()
	given := s.taken
	for i := range s.answers {
		given += s.answers[i].eventBytes
	}
	s.closed, s.answers, s.taken = true, nil, 0
	s.room.hold(-given)
	s.room.cond.Broadcast()
	s.room.mu.Unlock()
}

// Why etcd ended a watch: for a reason that may pass, or because the user may not read.
var (
	errCanceled = errors.New("etcd ended the watch")
	errDenied   = errors.New("etcd refused the watch")
)
