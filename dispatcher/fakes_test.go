package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
)

// fakeSource is a log of changes, one per position, that readers follow.
type fakeSource struct {
	mu       sync.Mutex
	log      []change.Change
	head     change.Position
	more     chan struct{} // closed when something comes
	identity string
	failing  error           // what Identity and Next return
	forgot   change.Position // what Next can't deliver any more: everything at or below it
	taken    int             // changes that readers delivered
	closed   bool
	hang     chan struct{} // Close waits for it
}

func newFakeSource() *fakeSource {
	return &fakeSource{more: make(chan struct{}), identity: "s1"}
}

// put appends a change of the key at the next position.
func (s *fakeSource) put(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head++
	s.log = append(s.log, change.Change{
		Position: s.head, Op: change.OpUpdate, Key: []byte(key), After: &change.KV{Key: []byte(key), Value: []byte(s.head.String())},
	})
	s.wake()
}

// commit moves the head without a change.
func (s *fakeSource) commit(to change.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = to
	s.wake()
}

func (s *fakeSource) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
	s.wake()
}

// forget has readers find nothing any more at or below a position.
func (s *fakeSource) forget(upTo change.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot = upTo
	s.wake()
}

// delivered returns how many changes readers have taken.
func (s *fakeSource) delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *fakeSource) wake() {
	close(s.more)
	s.more = make(chan struct{})
}

func (s *fakeSource) Identity(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity, s.failing
}

func (s *fakeSource) Head(context.Context) (change.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head, s.failing
}

func (s *fakeSource) Span() changefeed.Span { return changefeed.Whole() }

func (s *fakeSource) Read(_ context.Context, request source.Request) (source.Reader, error) {
	lowest := request.Pieces[0].Mark
	for _, piece := range request.Pieces {
		lowest = change.Earlier(lowest, piece.Mark)
	}
	return &fakeReader{
		source: s, request: request, at: lowest.Position,
		span: changefeed.Span{Start: request.Pieces[0].Span.Start, End: request.Pieces[len(request.Pieces)-1].Span.End},
	}, nil
}

func (s *fakeSource) Close() error {
	s.mu.Lock()
	s.closed = true
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return nil
}

type fakeReader struct {
	source  *fakeSource
	request source.Request
	span    changefeed.Span
	at      change.Position
}

func (r *fakeReader) Next(ctx context.Context) (source.Event, error) {
	for {
		event, found, more, err := r.next()
		if err != nil || found {
			return event, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return source.Event{}, ctx.Err()
		}
	}
}

func (r *fakeReader) next() (event source.Event, found bool, more chan struct{}, err error) {
	s := r.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != nil {
		return event, false, nil, s.failing
	}
	if r.at < s.forgot {
		return event, false, nil, &changefeed.Fault{Code: changefeed.CodeSourceSlotLost, Detail: "has forgotten changes", Permanent: true}
	}
	for _, c := range s.log {
		if c.Position > r.at && r.wants(&c) {
			r.at = c.Position
			s.taken++
			return source.Event{Changes: []change.Change{c}, Span: r.span, To: change.At(r.at), Resolved: s.head}, true, nil, nil
		}
	}
	if r.at < s.head {
		r.at = s.head
		return source.Event{Span: r.span, To: change.At(r.at), Resolved: s.head}, true, nil, nil
	}
	return event, false, s.more, nil
}

func (r *fakeReader) wants(c *change.Change) bool {
	for _, piece := range r.request.Pieces {
		if piece.Span.Contains(c.Key) {
			return !piece.Mark.Done(c.Position, c.Index)
		}
	}
	return false
}

func (r *fakeReader) Close() error { return nil }

// fakeSink is a sink in memory, with the real map of pieces.
type fakeSink struct {
	mu      sync.Mutex
	head    sink.Head
	pieces  sink.Map
	last    sink.Incarnation
	rows    []change.Change
	batches int
	claims  int
	closed  bool
	limits  sink.Limits
	syncs   []change.Position // the sync points
	asked   int               // how often one was to be recorded

	onSync  func() error                    // before a sync point is recorded
	onClaim func(ctx context.Context) error // before a claim
	onWrite func(ctx context.Context) error // before a write lands; nil lets it
	onDone  func() error                    // after a write has landed
	hang    chan struct{}                   // Close waits for it
}

var fakeIdentity = sink.Identity{Cluster: "c", Changefeed: testID, UID: "u"}

func newFakeSink() *fakeSink { return &fakeSink{} }

func (s *fakeSink) Raise(_ context.Context, epoch fence.Epoch, known sink.Known) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, err := s.head.Raise(fakeIdentity, epoch, known)
	if err == nil {
		s.head = head
	}
	return err
}

func (s *fakeSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	s.mu.Lock()
	hook := s.onClaim
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims++
	claimed, err := s.pieces.Claim(s.head, fakeIdentity, claim, s.last+1)
	if err != nil {
		return nil, err
	}
	s.last++
	s.pieces = claimed
	return &fakeWriter{sink: s, incarnation: s.last, claimed: claimed.Pieces(s.last)}, nil
}

func (s *fakeSink) Remove(context.Context, fence.Epoch) error { return nil }

func (s *fakeSink) Close() error {
	s.mu.Lock()
	s.closed = true
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return nil
}

// positions returns the positions that were written, in order.
func (s *fakeSink) positions() []change.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []change.Position
	for i := range s.rows {
		out = append(out, s.rows[i].Position)
	}
	return out
}

// counts returns how many batches and claims there were.
func (s *fakeSink) counts() (batches, claims int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches, s.claims
}

func (s *fakeSink) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

type fakeWriter struct {
	sink        *fakeSink
	incarnation sink.Incarnation
	claimed     []sink.Piece
}

func (w *fakeWriter) Pieces() []sink.Piece { return w.claimed }

func (w *fakeWriter) Write(ctx context.Context, batch sink.Batch) error {
	s := w.sink
	s.mu.Lock()
	before, after := s.onWrite, s.onDone
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	moved, err := s.pieces.Advance(w.incarnation, batch.Span, batch.To)
	if err == nil {
		s.pieces = moved
		s.rows = append(s.rows, batch.Changes...)
		s.batches++
	}
	s.mu.Unlock()
	if err == nil && after != nil {
		err = after()
	}
	return err
}

func (w *fakeWriter) Sync(_ context.Context, whole changefeed.Span, at change.Position) error {
	s := w.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.onSync != nil {
		if err := s.onSync(); err != nil {
			return err
		}
	}
	if slices.Contains(s.syncs, at) {
		return sink.ErrSynced
	}
	if _, err := s.pieces.Advance(w.incarnation, changefeed.Span{}, change.Mark{}); err != nil {
		return err
	}
	if err := s.pieces.StandsAt(whole, at); err != nil {
		return err
	}
	s.syncs = append(s.syncs, at)
	return nil
}

func (w *fakeWriter) Limits() sink.Limits { return w.sink.limits }
func (w *fakeWriter) Close() error        { return nil }

// fakeSession is a session that ends when it is told to.
type fakeSession struct {
	mu    sync.Mutex
	ended chan struct{}
	over  bool
}

func newFakeSession() *fakeSession { return &fakeSession{ended: make(chan struct{})} }

func (s *fakeSession) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.over
}

func (s *fakeSession) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	close(s.ended)
}

func (s *fakeSession) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// bed is a host with everything around it faked.
type bed struct {
	t       *testing.T
	host    *Host
	source  *fakeSource
	sink    *fakeSink
	session *fakeSession

	registry *prometheus.Registry
	wrap     func(sink.Sink) sink.Sink // around the sink; nil: nothing

	mu        sync.Mutex
	sent      []message.Envelope
	records   map[changefeed.ID]record.Epoch
	reads     int
	opened    int
	acked     []Acknowledgement
	ackErrors []error
	openError error

	stop func() // ends Run, and waits
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{
		t: t, source: newFakeSource(), sink: newFakeSink(), session: newFakeSession(),
		records: make(map[changefeed.ID]record.Epoch), registry: prometheus.NewRegistry(),
	}
	require.NoError(t, b.sink.Raise(t.Context(), 7, sink.KnownNothing))
	host, err := New(Config{
		Node: "host", Records: b, Sender: b, Session: b.session, Opener: b, Evictions: b, Logger: zap.NewNop(),
		Metrics: NewMetrics(b.registry),
	})
	require.NoError(t, err)
	b.host = host
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- host.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return b
}

// owned is a bed whose owner n1 has bootstrapped at epoch 7.
func ownedBed(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
	b.host.Deliver(from("n1", 7, b.bootstrap(nil)).Envelope)
	return b
}

func (b *bed) bootstrap(options changefeed.Options) message.Bootstrap {
	return message.Bootstrap{Spec: record.Spec{UID: "u", Sink: "fake:", Options: options}, SpecRevision: 5}
}

func (b *bed) Epoch(_ context.Context, id changefeed.ID) (record.Epoch, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	found, exists := b.records[id]
	return found, exists, nil
}

func (b *bed) Send(envelope message.Envelope) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, envelope)
}

func (b *bed) OpenSource(record.Spec) (source.Source, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	return b.source, b.openError
}

func (b *bed) OpenSink(record.Spec) (sink.Sink, error) {
	if b.wrap != nil {
		return b.wrap(b.sink), nil
	}
	return b.sink, nil
}

func (b *bed) Acknowledge(_ context.Context, done Acknowledgement) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ackErrors) > 0 {
		err := b.ackErrors[0]
		b.ackErrors = b.ackErrors[1:]
		return err
	}
	b.acked = append(b.acked, done)
	return nil
}

// last returns the newest status that was told of a token.
func (b *bed) last(token fence.Token) message.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found message.Status
	for _, envelope := range b.sent {
		var statuses []message.Status
		switch body := envelope.Body.(type) {
		case message.Statuses:
			statuses = body.Statuses
		case message.Heartbeat:
			statuses = body.Changed
		case message.BootstrapReply:
			statuses = body.Dispatchers
		}
		for _, status := range statuses {
			if status.Token == token {
				found = status
			}
		}
	}
	return found
}

// held returns what the last heartbeat says of the barrier.
func (b *bed) held() message.Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, envelope := range slices.Backward(b.sent) {
		if beat, ok := envelope.Body.(message.Heartbeat); ok {
			return beat.Held
		}
	}
	return message.Held{}
}

func (b *bed) barrier(number uint64, at change.Position, action message.BarrierAction) {
	b.host.Deliver(from("n1", 7, message.Barrier{Number: number, Position: at, Action: action}).Envelope)
}

// count returns how many messages of a kind were sent.
func (b *bed) count(kind message.Kind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, envelope := range b.sent {
		if envelope.Body.Kind() == kind {
			n++
		}
	}
	return n
}

func (b *bed) place(seq fence.Seq, span string) fence.Token {
	b.host.Deliver(from("n1", 7, place(seq, span)).Envelope)
	return fence.Mint(7, seq)
}

// positions returns 1 to n.
func positions(n int) []change.Position {
	var out []change.Position
	for i := range n {
		out = append(out, change.Position(i+1)) //nolint:gosec // small
	}
	return out
}

var errDown = errors.New("connection refused")

func keyOf(i int) string { return string(bytes.Repeat([]byte{byte('a' + i%26)}, 3)) }

func sorted(in []change.Position) []change.Position { return slices.Sorted(slices.Values(in)) }

// pass lets virtual time pass, and everything settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
