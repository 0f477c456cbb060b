package peer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/peer/peerpb"
)

// pipe is either end of a gRPC stream.
type pipe interface {
	Send(frame *peerpb.Frame) error
	Recv() (*peerpb.Frame, error)
}

// stream is one gRPC stream to a peer, of either end. It ends once, with a reason; then nothing that still arrives on it
// is delivered.
type stream struct {
	peers      *Peers
	link       *link
	pipe       pipe
	generation uint64

	began time.Time
	heard atomic.Int64  // when the last pong came, in nanoseconds after began
	pings chan struct{} // one is to be sent
	pongs chan uint64   // one is to be sent

	endOnce sync.Once
	over    chan struct{}
	reason  error // read after over
}

func newStream(peers *Peers, l *link, ends pipe, generation uint64) *stream {
	return &stream{
		peers: peers, link: l, pipe: ends, generation: generation, began: time.Now(),
		pings: make(chan struct{}, 1), pongs: make(chan uint64, 1), over: make(chan struct{}),
	}
}

func (s *stream) end(reason error) {
	s.endOnce.Do(func() {
		s.reason = reason
		close(s.over)
	})
}

func (s *stream) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// run moves messages until the stream ends, and returns why. Its goroutines end when the caller then gives up the gRPC
// stream, which is what frees a blocked send; Run of the peers waits for them.
func (s *stream) run(ctx context.Context) error {
	if err := s.link.attach(s); err != nil {
		return err
	}
	logger := s.peers.config.Logger.With(zap.String("peer", string(s.link.id)), zap.Uint64("generation", s.generation))
	logger.Info("peer connected")
	s.peers.tasks.Go(func() { s.end(s.read()) })
	s.peers.tasks.Go(func() { s.end(s.write()) })
	s.watchOver(ctx)
	s.link.detach(s)
	logger.Info("peer disconnected", zap.Error(s.reason))
	return s.reason
}

// watchOver pings, and ends the stream when no answers come: a half-open connection looks alive to the system.
func (s *stream) watchOver(ctx context.Context) {
	interval := s.peers.config.PingInterval
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.end(errStopping)
			return
		case <-s.over:
			return
		case <-ticker.C:
		}
		if time.Since(s.began)-time.Duration(s.heard.Load()) > pingsMissedMax*interval {
			s.end(errSilent)
			return
		}
		select {
		case s.pings <- struct{}{}:
		default: // the last one still waits to be sent
		}
	}
}

func (s *stream) read() error {
	for {
		frame, err := s.pipe.Recv()
		if err != nil {
			return err
		}
		switch kind := frame.GetKind().(type) {
		case *peerpb.Frame_Ping:
			select {
			case s.pongs <- kind.Ping.GetNumber():
			default:
			}
		case *peerpb.Frame_Pong:
			s.heard.Store(int64(time.Since(s.began)))
		case *peerpb.Frame_Batch:
			if !s.deliver(kind.Batch) {
				return errReplaced
			}
		case *peerpb.Frame_Hello:
			return errors.New("peer: a second hello")
		default: // of a newer version
		}
	}
}

// deliver hands on what came, unless the stream does not count any more.
func (s *stream) deliver(batch *peerpb.Batch) bool {
	metrics := s.peers.config.Metrics
	for i, encoded := range batch.GetEnvelopes() {
		envelope, err := decode(encoded, s.link.id, s.peers.config.NodeID)
		if err != nil {
			outcome := Invalid
			if errors.Is(err, errUnknownKind) {
				outcome = UnknownKind
			}
			metrics.count(0, outcome)
			s.peers.config.Logger.Debug("message ignored", zap.String("peer", string(s.link.id)), zap.Error(err))
			continue
		}
		current := s.link.ifCurrent(s, func() { s.peers.config.Deliver(envelope) })
		if !current {
			for range batch.GetEnvelopes()[i:] {
				metrics.count(0, DroppedStream)
			}
			return false
		}
		metrics.count(kindOf(&envelope), Received)
	}
	return true
}

func (s *stream) write() error {
	number := uint64(0)
	if s.link.queue.depth() > 0 {
		s.link.queue.permit()
	}
	for {
		var frame peerpb.Frame
		var items []*waiting
		select {
		case <-s.over:
			return s.reason
		case <-s.pings:
			number++
			frame.Kind = &peerpb.Frame_Ping{Ping: &peerpb.Ping{Number: number}}
		case pong := <-s.pongs:
			frame.Kind = &peerpb.Frame_Pong{Pong: &peerpb.Pong{Number: pong}}
		case <-s.link.queue.ready:
			if s.ended() {
				s.link.queue.permit() // for the next stream
				return s.reason
			}
			if items = s.link.queue.pop(); len(items) == 0 {
				continue
			}
			frame.Kind = &peerpb.Frame_Batch{Batch: batchOf(items)}
		}
		err := s.pipe.Send(&frame)
		s.account(items, err)
		if err != nil {
			return err
		}
	}
}

func batchOf(items []*waiting) *peerpb.Batch {
	batch := &peerpb.Batch{Envelopes: make([]*peerpb.Envelope, 0, len(items))}
	for _, item := range items {
		batch.Envelopes = append(batch.Envelopes, item.encoded)
	}
	return batch
}

func (s *stream) account(items []*waiting, err error) {
	outcome := Sent
	if err != nil {
		outcome = DroppedStream // some may have arrived; nobody is told that they did
	}
	for _, item := range items {
		s.peers.config.Metrics.count(item.envelope.Body.Kind(), outcome)
	}
}
