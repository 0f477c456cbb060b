// Package peer carries messages between nodes: one gRPC stream per pair of nodes, on which the messages of many
// changefeeds travel in batches. It keeps a link to every peer that it is told of, and connects again for ever.
//
// It promises little, and its users need no more: a message arrives at most once per stream, in order, or not at all.
// It knows nothing of epochs or owners but what it needs to keep the newest of two heartbeats.
package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/peer/peerpb"
)

const (
	// MessageBytesMax bounds one message: a bootstrap reply of 40,000 dispatchers is about 8 MiB. It holds up pings while
	// it travels, so it must be far from what takes as long as a link may be silent.
	MessageBytesMax = 8 * 1024 * 1024
	// windowBytes is HTTP/2's flow control: wide enough for a large message not to wait for the round trip many times.
	windowBytes = 4 * 1024 * 1024
	// frameOverheadMax is what a frame has beside its messages.
	frameOverheadMax = 64 * 1024
	// PingIntervalDefault and pingsMissedMax make a link count as down after 1.5 s of silence.
	PingIntervalDefault = 500 * time.Millisecond
	pingsMissedMax      = 3
)

// Config of a node's Peers.
type Config struct {
	NodeID    changefeed.NodeID
	Cluster   string       // the cluster's name
	ClusterID uint64       // of its etcd
	Listener  net.Listener // where other nodes connect; Run closes it
	TLS       *tls.Config  // for both directions; nil is plain text
	// Admit says under TLS whether a certificate, whose chain was verified, is that of a node; nil admits every one.
	Admit   func(id changefeed.NodeID, certificate *x509.Certificate) error
	Logger  *zap.Logger
	Metrics *Metrics
	// Deliver is called with each message that arrives, in order for each sender, by several goroutines at once. It must
	// return fast, as into a mailbox: while it runs, nothing else from that sender arrives. It may call Send.
	Deliver func(message.Envelope)
	// Data serves a stream of data that a peer opened, until it returns or ctx ends; nil serves none.
	Data func(ctx context.Context, from changefeed.NodeID, stream *Data) error
	// PingInterval is 0 for the default.
	PingInterval time.Duration
}

func (c *Config) validate() error {
	var errs []error
	if c.NodeID == "" {
		errs = append(errs, errors.New("no node id"))
	}
	if c.Cluster == "" {
		errs = append(errs, errors.New("no cluster name"))
	}
	if c.Listener == nil {
		errs = append(errs, errors.New("no listener"))
	}
	if c.Deliver == nil {
		errs = append(errs, errors.New("no Deliver"))
	}
	if c.PingInterval < 0 {
		errs = append(errs, errors.New("negative ping interval"))
	}
	return errors.Join(errs...)
}

// Peers are the links of one node. Between two nodes the one with the smaller id connects.
type Peers struct {
	config  Config
	self    *queue        // what the node says to itself
	changed chan struct{} // the set of peers changed
	tasks   sync.WaitGroup

	generation atomic.Uint64 // of the stream that was opened last, to whomever
	streams    atomic.Int64  // of data, opened by others

	mu    sync.Mutex
	links map[changefeed.NodeID]*link
}

// New makes the peers of a node. Nothing moves before Run.
func New(config Config) (*Peers, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	if config.Metrics == nil {
		config.Metrics = NewMetrics(nil)
	}
	if config.PingInterval == 0 {
		config.PingInterval = PingIntervalDefault
	}
	return &Peers{
		config: config, self: newQueue(), changed: make(chan struct{}, 1), links: map[changefeed.NodeID]*link{},
	}, nil
}

// Run serves the listener and keeps the links until ctx ends. It owns every goroutine of the peers, and returns nil when
// ctx ended.
func (p *Peers) Run(ctx context.Context) error {
	server := grpc.NewServer(p.serverOptions()...)
	peerpb.RegisterPeerServer(server, &acceptor{peers: p})
	ctx, cancel := context.WithCancelCause(ctx)
	served := make(chan error, 1)
	var tasks sync.WaitGroup
	tasks.Go(func() { served <- server.Serve(p.config.Listener) })
	tasks.Go(func() { p.talkToSelf(ctx) })
	tasks.Go(func() { p.keepDialing(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("peer: serve: %w", err)
	}
	cancel(err)
	p.closeLinks()
	server.Stop() // ends every stream and waits for its handler
	tasks.Wait()
	p.tasks.Wait()
	return err
}

// SetPeers says who the other nodes are and where they listen. A node that is left out is disconnected, and what waits
// for it is dropped.
func (p *Peers) SetPeers(addresses map[changefeed.NodeID]string) {
	p.mu.Lock()
	for id, l := range p.links {
		if _, stays := addresses[id]; !stays && l.wanted {
			delete(p.links, id)
			l.close(errNotWanted)
		}
	}
	for id, address := range addresses {
		if id == p.config.NodeID {
			continue
		}
		l := p.linkLocked(id)
		if !l.wanted {
			l.wanted, l.since = true, time.Now()
		}
		l.setAddress(address)
	}
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// linkLocked returns the link to a node, and makes it if need be.
func (p *Peers) linkLocked(id changefeed.NodeID) *link {
	l := p.links[id]
	if l == nil {
		l = newLink(id)
		p.links[id] = l
	}
	return l
}

// Send puts a message on its way and never blocks. It is sent under the epoch that it was made under, however long it
// waits; it may be lost, which is counted and not told. To this node itself it goes through a queue like any other.
func (p *Peers) Send(envelope message.Envelope) {
	kind := kindOf(&envelope)
	encoded, err := encode(envelope)
	if err != nil {
		p.config.Metrics.count(kind, Invalid)
		p.config.Logger.Error("message cannot be sent", zap.Stringer("kind", kind),
			zap.Stringer("changefeed", envelope.ID), zap.Error(err))
		return
	}
	item := &waiting{envelope: envelope, encoded: encoded, bytes: proto.Size(encoded)}
	if item.bytes > MessageBytesMax {
		p.config.Metrics.count(kind, TooLarge)
		p.config.Logger.Error("message is too large to be sent", zap.Stringer("kind", kind),
			zap.Stringer("changefeed", envelope.ID), zap.Int("bytes", item.bytes), zap.Int("bytes_max", MessageBytesMax))
		return
	}
	target := p.queueTo(envelope.To)
	if target == nil {
		p.config.Metrics.count(kind, DroppedPeer)
		return
	}
	dropped, coalesced := target.push(item)
	for range coalesced {
		p.config.Metrics.count(kind, Coalesced)
	}
	for _, old := range dropped {
		p.config.Metrics.count(kindOf(&old.envelope), DroppedFull)
	}
}

func (p *Peers) queueTo(id changefeed.NodeID) *queue {
	if id == p.config.NodeID {
		return p.self
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.links[id]; l != nil {
		return l.queue
	}
	return nil
}

// Reachable returns the peers that a live stream exists with, sorted.
func (p *Peers) Reachable() []changefeed.NodeID {
	return p.which(func(l *link) bool { return l.up() })
}

// Unreachable returns the peers of SetPeers without a live stream, sorted. A new peer gets as long to connect as a
// silent one gets to answer.
func (p *Peers) Unreachable() []changefeed.NodeID {
	grace := pingsMissedMax * p.config.PingInterval
	return p.which(func(l *link) bool { return l.wanted && !l.up() && time.Since(l.since) > grace })
}

func (p *Peers) which(holds func(*link) bool) []changefeed.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := []changefeed.NodeID{}
	for _, id := range slices.Sorted(maps.Keys(p.links)) {
		if holds(p.links[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *Peers) talkToSelf(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.self.ready:
		}
		for _, item := range p.self.pop() {
			if ctx.Err() != nil {
				return
			}
			p.config.Metrics.count(kindOf(&item.envelope), Received)
			p.config.Deliver(item.envelope)
		}
	}
}

func (p *Peers) closeLinks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.close(errStopping)
	}
}
