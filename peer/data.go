package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fencerow/changefeed"
	"fencerow/peer/peerpb"
)

// DataBytesMax bounds one frame of a data stream.
const DataBytesMax = MessageBytesMax

// dataStreamsMax bounds the data streams that other nodes have open here: far above the spans of a node.
const dataStreamsMax = 10_000

var (
	errDataClosed = errors.New("peer: the data stream is closed")
	errDataFrame  = errors.New("peer: a frame of a data stream is too large")
	// ErrNoData says that the other node is of a version that has no data streams.
	ErrNoData = errors.New("peer: the node is of a version without data streams; upgrade it")
)

// dataEnds is either end of a gRPC stream of data.
type dataEnds interface {
	Send(frame *peerpb.DataFrame) error
	Recv() (*peerpb.DataFrame, error)
}

// Data is a stream of frames between two nodes, beside what they say to each other. One goroutine sends and one receives.
type Data struct {
	ends      dataEnds
	closed    chan struct{}
	closeOnce sync.Once
	release   func() // gives the gRPC stream up, which frees a Send and a Recv
}

func newData(ends dataEnds, release func()) *Data {
	return &Data{ends: ends, closed: make(chan struct{}), release: release}
}

// Send sends a frame. It waits while the other end takes none.
func (d *Data) Send(frame []byte) error {
	if len(frame) > DataBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d", errDataFrame, len(frame), DataBytesMax)
	}
	if err := d.ends.Send(&peerpb.DataFrame{Kind: &peerpb.DataFrame_Data{Data: frame}}); err != nil {
		return d.reason("send", err)
	}
	return nil
}

// Receive waits for a frame.
func (d *Data) Receive() ([]byte, error) {
	for {
		frame, err := d.ends.Recv()
		if err != nil {
			return nil, d.reason("receive", err)
		}
		if data, ok := frame.GetKind().(*peerpb.DataFrame_Data); ok {
			return data.Data, nil
		}
	}
}

func (d *Data) reason(doing string, err error) error {
	select {
	case <-d.closed:
		return errDataClosed
	default:
	}
	if status.Code(err) == codes.Unimplemented {
		return ErrNoData
	}
	return fmt.Errorf("peer: %s data: %w", doing, err)
}

// Close ends the stream, and what waits in Send and Receive. It is idempotent, and may be called by any goroutine.
func (d *Data) Close() {
	d.closeOnce.Do(func() {
		close(d.closed)
		d.release()
	})
}

// OpenData opens a stream of data to a peer, where its Config.Data is called with the other end. ctx bounds the opening. It
// lives until it is closed, or the peer is none any more, and must be closed.
func (p *Peers) OpenData(ctx context.Context, to changefeed.NodeID) (*Data, error) {
	if err := ctx.Err(); err != nil { // else the answer may be here before it is noticed
		return nil, fmt.Errorf("peer: open data: %w", err)
	}
	p.mu.Lock()
	l := p.links[to]
	p.mu.Unlock()
	if l == nil || l.whereabouts() == "" {
		return nil, fmt.Errorf("peer: node %s is not known", to)
	}
	connection, err := p.client(l)
	if err != nil {
		return nil, err
	}
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	stopOpening := context.AfterFunc(ctx, end)
	var data *Data
	opened := make(chan struct{})
	p.tasks.Go(func() { // the stream's end, whoever brings it about
		defer func() { _ = connection.Close() }()
		select {
		case <-l.gone:
			end()
		case <-living.Done():
		}
		<-opened
		if data != nil {
			data.Close()
		}
	})
	defer close(opened)
	handshake := time.AfterFunc(handshakeMax, end)
	ends, err := peerpb.NewPeerClient(connection).Open(living)
	if err == nil {
		err = p.greetData(ends, l) //nolint:contextcheck // who the other end is stands in the stream's own
	}
	if !handshake.Stop() || !stopOpening() || err != nil {
		end()
		if status.Code(err) == codes.Unimplemented {
			return nil, ErrNoData
		}
		return nil, fmt.Errorf("peer: open data to node %s: %w", to, errors.Join(err, context.Cause(ctx)))
	}
	data = newData(ends, end)
	return data, nil
}

func (p *Peers) greetData(ends grpc.BidiStreamingClient[peerpb.DataFrame, peerpb.DataFrame], l *link) error {
	_ = ends.Send(p.dataHello(l.id)) //nolint:errcheck // the receive tells what is wrong
	frame, err := ends.Recv()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	hello := frame.GetHello()
	if err := p.check(hello); err != nil {
		return err
	}
	if hello.GetNode() != string(l.id) {
		return fmt.Errorf("peer: node %.100q answers there", hello.GetNode())
	}
	return p.admit(ends.Context(), l.id)
}

func (p *Peers) dataHello(to changefeed.NodeID) *peerpb.DataFrame {
	return &peerpb.DataFrame{Kind: &peerpb.DataFrame_Hello{Hello: p.hello(to, 0).GetHello()}}
}

// Open serves one stream of data that a peer opened.
func (a *acceptor) Open(ends grpc.BidiStreamingServer[peerpb.DataFrame, peerpb.DataFrame]) error {
	p := a.peers
	if p.config.Data == nil {
		return status.Error(codes.Unimplemented, "peer: this node serves no data")
	}
	if p.streams.Add(1) > dataStreamsMax {
		p.streams.Add(-1)
		return status.Error(codes.ResourceExhausted, "peer: too many data streams")
	}
	defer p.streams.Add(-1)
	hello, err := firstOf(ends.Context(), p, func() (*peerpb.Hello, error) {
		frame, err := ends.Recv()
		return frame.GetHello(), err
	})
	if err != nil {
		return err
	}
	id, err := p.welcome(ends.Context(), hello)
	if err != nil {
		return err
	}
	if err := ends.Send(p.dataHello(id)); err != nil {
		return err
	}
	released := make(chan struct{})
	data := newData(ends, func() { close(released) })
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(ends.Context())
	defer cancel()
	p.tasks.Go(func() { served <- p.config.Data(ctx, id, data) }) // what it waits for ends when this returns
	p.mu.Lock()
	l := p.linkLocked(id)
	p.mu.Unlock()
	defer p.forget(l)
	select {
	case err = <-served:
	case <-released:
		err = errDataClosed
	case <-l.gone:
		err = errNotWanted
	}
	data.Close()
	p.config.Logger.Debug("data stream ended", zap.String("peer", string(id)), zap.Error(err))
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}
