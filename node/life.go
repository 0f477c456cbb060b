package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/maintainer"
	"fencerow/message"
	"fencerow/node/records"
	"fencerow/peer"
	"fencerow/record"
	"fencerow/source/serial"
)

// life is one session of the node: a node id, and everything that runs under it. What was started in a life ends with
// it and never meets the next one.
type life struct {
	process *process
	id      changefeed.NodeID
	session *epochstore.Session
	store   *epochstore.Store
	log     *zap.Logger
	metrics *metrics

	listener    net.Listener // of the peers, who close it when they ran
	peers       *peer.Peers
	logs        logs
	dispatchers *dispatcher.Host
	maintainers *maintainer.Host
	statuses    *records.Statuses
	epochs      *epochstore.Watch
	nodes       *epochstore.Watch
	handoffs    *epochstore.Watch
	drains      *epochstore.Watch
	evictions   *epochstore.Watch
	meta        *epochstore.Watch
	term        atomic.Int64 // of this node as coordinator; 0: it is not
	joined      atomic.Bool
	leaving     atomic.Bool
	draining    atomic.Bool
	leavingSoon chan struct{} // holds one token: look at leaving now
	known       atomic.Pointer[maintainer.Nodes]
}

// errLifeOver ends a life whose node goes on under another id.
var errLifeOver = errors.New("the session is over")

// newLife takes a lease and makes what runs under it.
func (p *process) newLife(ctx context.Context) (*life, error) {
	session, err := epochstore.NewSession(ctx, p.guard, epochstore.SessionConfig{
		TTL: p.config.SessionTTL, Clock: epochstore.BootTime, Logger: p.log,
	})
	if err != nil {
		return nil, err
	}
	id := changefeed.NodeID(uuid.NewString())
	l := &life{
		process: p, id: id, session: session, store: p.store, metrics: p.metrics,
		log: p.log.With(zap.String("node", string(id))), leavingSoon: make(chan struct{}, 1),
	}
	l.statuses = records.NewStatuses(p.store, l.nodesKnown)
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.unlisten(), session.Close(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (l *life) build(ctx context.Context) error {
	p := l.process
	var err error
	if l.listener, err = p.takePeerListener(ctx); err != nil {
		return err
	}
	meta, err := l.store.Meta(ctx)
	if err != nil {
		return err
	}
	l.peers, err = peer.New(peer.Config{
		NodeID: l.id, Cluster: p.config.Cluster, ClusterID: p.etcdID, Listener: l.listener, TLS: p.peerTLS(), Admit: l.admitPeer, Logger: l.log,
		Metrics: l.metrics.peer, Deliver: l.deliver, Data: l.serveData,
	})
	if err != nil {
		return fmt.Errorf("node: peers: %w", err)
	}
	if l.logs.Node, err = serial.NewNode(serial.Config{Self: l.id, Dialer: overPeers{l}, Spool: p.spool, Logger: l.log}); err != nil {
		return fmt.Errorf("node: logs: %w", err)
	}
	l.dispatchers, err = dispatcher.New(dispatcher.Config{
		Node: l.id, Legacy: meta.Exists() && beforeEpochs(*meta.Record), Records: records.Maintaining{Store: l.store}, Sender: l.peers,
		Session: l.session, Opener: p.opener.dispatchers(l.logs), Evictions: evicting{store: l.store, node: l.id}, Logger: l.log,
		Metrics: l.metrics.dispatcher, Rejected: p.rejected.tell, Traced: p.traced,
	})
	if err != nil {
		return fmt.Errorf("node: dispatcher host: %w", err)
	}
	core := maintainer.DefaultConfig(l.id)
	core.SessionTTL, core.StatusInterval = l.session.TTL(), p.config.StatusInterval
	l.maintainers, err = maintainer.NewHost(maintainer.HostConfig{Core: core}, maintainer.Deps{
		Records: records.NewListing(l.store), Statuses: l.statuses, Evictions: records.Evicting{Store: l.store}, Sender: l.peers,
		Opener: p.opener.maintainers(), Logs: l.logs,
		Session: bounded{l.session}, Log: l.log, Metrics: l.metrics.maintainer, Traced: p.traced,
	})
	if err != nil {
		return fmt.Errorf("node: maintainer host: %w", err)
	}
	watch := func(kinds ...record.Kind) *epochstore.Watch {
		return l.store.Watch(epochstore.WatchConfig{Kinds: kinds, Clock: epochstore.BootTime, Logger: l.log})
	}
	// Each has a stream of its own: etcd answers a progress request only when all watchers of a stream have caught up.
	l.epochs, l.nodes, l.handoffs = watch(record.KindEpoch), watch(record.KindNode), watch(record.KindHandoff)
	l.drains, l.evictions, l.meta = watch(record.KindDrain), watch(record.KindEviction), watch(record.KindMeta)
	return nil
}

// takePeerListener returns the listener that was taken at the start, and in later lives a new one on the same address.
func (p *process) takePeerListener(ctx context.Context) (net.Listener, error) {
	if listener := p.peerListener; listener != nil {
		p.peerListener = nil
		return listener, nil
	}
	return listenTCP(ctx, "--peer-addr", p.config.PeerAddr)
}

// unlisten gives the port back of a life in which the peers never ran.
func (l *life) unlisten() error {
	if l.listener == nil {
		return nil
	}
	return l.listener.Close()
}

// deliver takes a message from a peer to who it is for. It returns at once.
func (l *life) deliver(envelope message.Envelope) {
	if envelope.Body.Kind().Down() {
		l.dispatchers.Deliver(envelope)
		return
	}
	l.maintainers.Deliver(envelope)
}

// run lives until ctx ends, which is a clean stop, or the session is over (errLifeOver).
func (l *life) run(ctx context.Context) error {
	// Work outlives ctx, so that a clean stop can be done in order; it ends with the session.
	work, endWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWork(errLifeOver)
	group, work := errgroup.WithContext(work)
	group.Go(func() error { return l.renew(work) })
	registration, err := l.join(ctx)
	if err == nil {
		err = l.stillUnderstood(ctx)
	}
	if err != nil {
		endWork(err)
		return errors.Join(err, ignoreOver(group.Wait()), l.unlisten(), l.session.Close(context.WithoutCancel(ctx)))
	}
	for _, run := range []func(context.Context) error{
		l.peers.Run, l.statuses.Run, l.epochs.Run, l.nodes.Run, l.handoffs.Run, l.drains.Run, l.evictions.Run, l.meta.Run,
		func(ctx context.Context) error { return l.readEpochs(ctx, registration.Revision) },
		l.readNodes, l.readHandoffs, l.readDrains, l.readEvictions, l.readMeta,
	} {
		group.Go(func() error { return run(work) })
	}
	// These three end one after another in a clean stop.
	campaigning, resign := context.WithCancel(work)
	maintaining, endMaintaining := context.WithCancel(work)
	dispatching, endDispatching := context.WithCancel(work)
	defer resign()
	defer endMaintaining()
	defer endDispatching()
	resigned, maintained, dispatched := make(chan struct{}), make(chan struct{}), make(chan struct{})
	group.Go(func() error { defer close(resigned); return l.campaign(campaigning) })
	group.Go(func() error { defer close(maintained); return l.maintainers.Run(maintaining) })
	group.Go(func() error { defer close(dispatched); return l.dispatchers.Run(dispatching) })
	group.Go(func() error { return l.publish(work, registration) })
	l.log.Info("joined", zap.String("name", registration.Node.Name), zap.Duration("session_ttl", l.session.TTL()),
		zap.String("http", registration.Node.HTTP), zap.String("peer", registration.Node.Peer))
	select {
	case <-work.Done():
	case <-ctx.Done():
		l.leave(work, stages{
			{"dispatchers flush", endDispatching, dispatched},
			{"maintainers store their checkpoints", func() { l.maintainers.Leave(work); endMaintaining() }, maintained},
			{"coordinator resigns", resign, resigned},
		})
	}
	endWork(errLifeOver)
	err = ignoreOver(group.Wait())
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMax)
	defer cancel()
	if closeErr := l.session.Close(closing); closeErr != nil {
		l.log.Info("the lease was not revoked; it ends by itself", zap.Error(closeErr))
	}
	return err
}

// closeMax bounds the last request of a life.
const closeMax = 3 * time.Second

// renew keeps the session alive, and ends the life when it is over.
func (l *life) renew(ctx context.Context) error {
	if err := l.session.Run(ctx); err != nil {
		l.log.Warn("session over: everything that ran under this node id stops", zap.Error(err))
		return errLifeOver
	}
	return nil
}

// join registers the node. A name that another lease still holds is waited for.
func (l *life) join(ctx context.Context) (epochstore.Registration, error) {
	config := l.process.config
	return l.store.Join(ctx, l.session, record.Node{
		ID: l.id, Name: config.Name, HTTP: config.AdvertiseHTTP, Peer: config.AdvertisePeer, Version: config.Version,
		Level: record.LevelCurrent, Started: time.Now().UTC(), Liveness: record.Alive,
	})
}

// ignoreOver returns nil for the ends of a life that are no fault.
func ignoreOver(err error) error {
	if errors.Is(err, errLifeOver) || errors.Is(err, context.Canceled) || errors.Is(err, epochstore.ErrSessionOver) {
		return nil
	}
	return err
}

// stage is one step of a clean stop.
type stage struct {
	what string
	end  func()
	done <-chan struct{}
}

type stages []stage

// leave ends the parts of a life in order, so that nobody waits for a lease to expire and nothing is replayed.
func (l *life) leave(ctx context.Context, in stages) {
	l.leaving.Store(true)
	l.log.Info("leaving")
	timer := time.NewTimer(l.process.config.StopTimeout)
	defer timer.Stop()
	l.handOver(ctx)
	for _, stage := range in {
		l.log.Debug("stopping", zap.String("stage", stage.what))
		stage.end()
		select {
		case <-stage.done:
		case <-ctx.Done():
			return
		case <-timer.C:
			l.log.Warn("stopping took too long; the rest ends now", zap.String("stage", stage.what))
			return
		}
	}
}
