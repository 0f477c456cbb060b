package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"fencerow/changefeed"
	"fencerow/peer/peerpb"
)

const (
	protocolVersion = 1
	// handshakeMax bounds how long a stream may be without a hello.
	handshakeMax = 5 * time.Second
	// Pauses between attempts to connect, with jitter, so that a node that comes back is not run over.
	dialPauseMin = 50 * time.Millisecond
	dialPauseMax = 2 * time.Second
)

func (p *Peers) hello(to changefeed.NodeID, generation uint64) *peerpb.Frame {
	return &peerpb.Frame{Kind: &peerpb.Frame_Hello{Hello: &peerpb.Hello{
		Protocol: protocolVersion, Cluster: p.config.Cluster, EtcdClusterId: p.config.ClusterID,
		Node: string(p.config.NodeID), To: string(to), Generation: generation,
	}}}
}

// check says what is wrong with the other end's hello.
func (p *Peers) check(hello *peerpb.Hello) error {
	switch {
	case hello == nil:
		return errors.New("peer: the first frame is no hello")
	case hello.GetProtocol() != protocolVersion:
		return fmt.Errorf("peer: protocol %d, ours is %d", hello.GetProtocol(), protocolVersion)
	case hello.GetCluster() != p.config.Cluster:
		return fmt.Errorf("peer: node of cluster %.100q, ours is %.100q", hello.GetCluster(), p.config.Cluster)
	case hello.GetEtcdClusterId() != p.config.ClusterID:
		return fmt.Errorf("peer: node on etcd cluster %x, ours is %x", hello.GetEtcdClusterId(), p.config.ClusterID)
	case hello.GetTo() != string(p.config.NodeID):
		return fmt.Errorf("peer: node %.100q was meant, this is %s", hello.GetTo(), p.config.NodeID)
	case hello.GetNode() == "" || len(hello.GetNode()) > nodeIDBytesMax:
		return errors.New("peer: node without a usable id")
	default:
		return nil
	}
}

// nodeIDBytesMax bounds what a stranger can make this node remember.
const nodeIDBytesMax = 256

// acceptor is the service.
type acceptor struct {
	peerpb.UnimplementedPeerServer
	peers *Peers
}

// Exchange serves one stream that a peer opened.
func (a *acceptor) Exchange(ends grpc.BidiStreamingServer[peerpb.Frame, peerpb.Frame]) error {
	hello, err := firstOf(ends.Context(), a.peers, func() (*peerpb.Hello, error) {
		frame, err := ends.Recv()
		return frame.GetHello(), err
	})
	if err != nil {
		return err
	}
	id, err := a.peers.welcome(ends.Context(), hello)
	if err != nil {
		return err
	}
	if id >= a.peers.config.NodeID {
		return status.Error(codes.FailedPrecondition, "peer: the node with the smaller id connects")
	}
	if err := ends.Send(a.peers.hello(id, hello.GetGeneration())); err != nil {
		return err
	}
	a.peers.mu.Lock()
	l := a.peers.linkLocked(id)
	a.peers.mu.Unlock()
	err = newStream(a.peers, l, ends, hello.GetGeneration()).run(ends.Context())
	a.peers.forget(l)
	if errors.Is(err, errReplaced) {
		return status.Error(codes.Aborted, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

// welcome says who has connected, or why that one is refused.
func (p *Peers) welcome(ctx context.Context, hello *peerpb.Hello) (changefeed.NodeID, error) {
	if err := p.check(hello); err != nil {
		p.config.Logger.Warn("peer refused", zap.String("peer", hello.GetNode()), zap.Error(err))
		return "", status.Error(codes.FailedPrecondition, err.Error())
	}
	id := changefeed.NodeID(hello.GetNode())
	if err := p.admit(ctx, id); err != nil {
		p.config.Logger.Warn("peer refused", zap.String("peer", string(id)), zap.Error(err))
		return "", status.Error(codes.PermissionDenied, err.Error())
	}
	return id, nil
}

// firstOf waits for the first frame of a stream, but not for ever.
func firstOf(ctx context.Context, p *Peers, receive func() (*peerpb.Hello, error)) (*peerpb.Hello, error) {
	type first struct {
		hello *peerpb.Hello
		err   error
	}
	frames := make(chan first, 1)
	p.tasks.Go(func() {
		hello, err := receive() // ends with the stream at the latest
		frames <- first{hello, err}
	})
	limit := time.NewTimer(handshakeMax)
	defer limit.Stop()
	select {
	case f := <-frames:
		return f.hello, f.err
	case <-limit.C:
		return nil, status.Error(codes.DeadlineExceeded, "peer: no hello")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// forget drops a link that is only there because the peer had connected.
func (p *Peers) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.wanted && !l.up() && p.links[l.id] == l {
		delete(p.links, l.id)
		l.close(errNotWanted)
	}
}

func (p *Peers) serverOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.WaitForHandlers(true), grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
		grpc.MaxRecvMsgSize(MessageBytesMax + frameOverheadMax), grpc.MaxSendMsgSize(MessageBytesMax + frameOverheadMax),
	}
	if p.config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(p.config.TLS)))
	}
	return options
}

// keepDialing starts a dialer for each peer with a larger id, and waits for them at the end.
func (p *Peers) keepDialing(ctx context.Context) {
	var dialers sync.WaitGroup
	defer dialers.Wait()
	for {
		p.mu.Lock()
		for id, l := range p.links {
			if p.config.NodeID < id && l.wanted && !l.dialing {
				l.dialing = true
				dialers.Go(func() { p.dial(ctx, l) })
			}
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
	}
}

// dial keeps a stream to one peer until the peer is not wanted any more.
func (p *Peers) dial(ctx context.Context, l *link) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = dialPauseMin, dialPauseMax
	logger := p.config.Logger.With(zap.String("peer", string(l.id)))
	for failures := 0; ; failures++ {
		wasUp, err := p.connect(ctx, l)
		if wasUp {
			failures = -1
			pauses.Reset()
		}
		if failures == 0 && !wasUp { // once, not at every attempt
			logger.Warn("peer not reached", zap.Error(err))
		}
		pause := time.NewTimer(pauses.NextBackOff())
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-l.gone:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// client returns a connection of its own to a peer.
func (p *Peers) client(l *link) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if p.config.TLS != nil {
		transport = credentials.NewTLS(p.config.TLS)
	}
	connection, err := grpc.NewClient("passthrough:///"+l.whereabouts(), grpc.WithTransportCredentials(transport),
		grpc.WithDisableRetry(), grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MessageBytesMax+frameOverheadMax), grpc.MaxCallSendMsgSize(MessageBytesMax+frameOverheadMax)))
	if err != nil {
		return nil, fmt.Errorf("peer: dial: %w", err)
	}
	return connection, nil
}

// connect opens one stream and serves it to its end. wasUp tells whether the other end accepted it.
func (p *Peers) connect(ctx context.Context, l *link) (wasUp bool, err error) {
	connection, err := p.client(l)
	if err != nil {
		return false, err
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handshake := time.AfterFunc(handshakeMax, cancel)
	defer handshake.Stop()
	ends, err := peerpb.NewPeerClient(connection).Exchange(ctx)
	if err != nil {
		return false, fmt.Errorf("peer: open stream: %w", err)
	}
	generation := p.generation.Add(1)
	if err := p.greet(ends, l, generation); err != nil { //nolint:contextcheck // who the other end is stands in the stream's own
		return false, err
	}
	if !handshake.Stop() {
		return false, errors.New("peer: no hello in time")
	}
	return true, newStream(p, l, ends, generation).run(ctx)
}

func (p *Peers) greet(ends grpc.BidiStreamingClient[peerpb.Frame, peerpb.Frame], l *link, generation uint64) error {
	_ = ends.Send(p.hello(l.id, generation)) //nolint:errcheck // the receive tells what is wrong
	frame, err := ends.Recv()
	if err != nil {
		return fmt.Errorf("peer: hello: %w", err)
	}
	hello := frame.GetHello()
	if err := p.check(hello); err != nil {
		return err
	}
	if hello.GetNode() != string(l.id) || hello.GetGeneration() != generation {
		return fmt.Errorf("peer: node %.100q answers there", hello.GetNode())
	}
	return p.admit(ends.Context(), l.id)
}

// admit asks whether the certificate at the other end of a stream is that of the node which it says to be, so that who has
// taken the key of one node can't speak for another.
func (p *Peers) admit(ctx context.Context, id changefeed.NodeID) error {
	if p.config.TLS == nil || p.config.Admit == nil {
		return nil
	}
	other, found := peer.FromContext(ctx)
	if !found {
		return errors.New("peer: nothing is known of the other end")
	}
	shown, ok := other.AuthInfo.(credentials.TLSInfo)
	if !ok || len(shown.State.PeerCertificates) == 0 {
		return errors.New("peer: no certificate was shown")
	}
	if err := p.config.Admit(id, shown.State.PeerCertificates[0]); err != nil {
		return fmt.Errorf("peer: node %s: %w", id, err)
	}
	return nil
}
