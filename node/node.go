package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/internal/wait"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/record"
	"fencerow/source/serial"
	"fencerow/trace"
	"fencerow/trace/otlp"
)

// process is what lives as long as the process, over all sessions of the node.
type process struct {
	config  Config
	log     *zap.Logger
	metrics *metrics

	member      *embed.Etcd // nil without an embedded member
	memberLevel zap.AtomicLevel
	client      *clientv3.Client
	guard       kv.Store
	fatal       chan error // etcd went back: the process ends
	keys        record.Keys
	store       *epochstore.Store
	clusterID   string // of the etcd that holds the records, hexadecimal
	etcdID      uint64 // the same as a number
	rejected    rejections
	traces      *otlp.Exporter // nil without an endpoint
	traced      trace.Recorder // nil likewise
	opener      *opener
	spool       *serial.Spool // of the logs that are read here

	certs        *certificates // of peers and HTTP; nil is plain text
	peerListener net.Listener  // taken at the start, for the first life
	life         atomic.Pointer[life]
}

// tracesMax bounds how long the last traces are sent at the end.
const tracesMax = 2 * time.Second

// spoolFolder is where, below the data directory, nodes keep for a while what slow spans are behind with.
const spoolFolder = "spool"

// streamedFolder is where, below the data directory, nodes keep the transactions that a PostgreSQL streams before they commit.
const streamedFolder = "streamed"

// lifePause is between two lives, so that an etcd that is not there is not asked without end.
const lifePause = 200 * time.Millisecond

// Run runs a node until ctx ends, which stops it cleanly within the stop timeout, or until it can't go on.
func Run(ctx context.Context, config Config) error {
	config, err := config.withDefaults()
	if err != nil {
		return err
	}
	if err := config.validate(); err != nil {
		return err
	}
	log, level, err := newLogger(config)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() //nolint:errcheck // there is no other place to say so
	p := &process{config: config, log: log, fatal: make(chan error, 1)}
	defer p.close(context.WithoutCancel(ctx))
	starting, cancel := context.WithTimeout(ctx, config.StartTimeout)
	defer cancel()
	server, err := p.start(starting, level)
	if err != nil {
		return err
	}
	cancel()
	return p.serve(ctx, server)
}

// start connects to etcd and makes everything that outlives a session.
func (p *process) start(ctx context.Context, level zap.AtomicLevel) (*httpServer, error) {
	var err error
	if p.metrics, err = newMetrics(prometheus.NewRegistry()); err != nil {
		return nil, err
	}
	if err := p.metrics.watchSession(p.remaining); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if p.config.TraceEndpoint != "" {
		if p.traces, err = otlp.New(ctx, otlp.Config{
			Endpoint: p.config.TraceEndpoint, Node: p.config.Name, Cluster: p.config.Cluster, Version: p.config.Version, Log: p.log,
		}); err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
		p.traced = p.traces.Recorder(ctx)
	}
	// The ports first: what is taken is said before anything is done.
	server, err := p.listen(ctx, level)
	if err != nil {
		return nil, err
	}
	if err := p.connect(ctx); err != nil {
		return nil, errors.Join(err, server.close())
	}
	p.opener = newOpener(p.clusterID, p.config, p.log)
	p.opener.store = p.store
	p.spool = serial.NewSpool(serial.SpoolConfig{
		Directory: filepath.Join(p.config.DataDir, spoolFolder, p.config.Name), Logger: p.log,
	})
	if err := p.metrics.watchSpool(p.spool.Used); err != nil {
		return nil, errors.Join(fmt.Errorf("node: %w", err), server.close())
	}
	if err := p.metrics.watchRetained(p.retained); err != nil {
		return nil, errors.Join(fmt.Errorf("node: %w", err), server.close())
	}
	if err := p.metrics.watchStreamed(p.streamed); err != nil {
		return nil, errors.Join(fmt.Errorf("node: %w", err), server.close())
	}
	return server, nil
}

// streamed returns what is kept of transactions in progress for the changefeeds that are owned here.
func (p *process) streamed() map[changefeed.ID]int64 {
	if l := p.life.Load(); l != nil {
		return l.logs.Streamed()
	}
	return nil
}

// retained returns what sources keep for the changefeeds that are owned here.
func (p *process) retained() map[changefeed.ID]int64 {
	if l := p.life.Load(); l != nil {
		return l.logs.Retained()
	}
	return nil
}

// remaining returns the seconds until the deadline of the session; 0 without one.
func (p *process) remaining() float64 {
	if l := p.life.Load(); l != nil {
		return l.session.Remaining().Seconds()
	}
	return 0
}

// connect reaches etcd, refuses one that is too old, and reads or makes the cluster's record.
func (p *process) connect(ctx context.Context) error {
	endpoints := p.config.Etcd
	if len(endpoints) == 0 {
		p.memberLevel = zap.NewAtomicLevelAt(zap.ErrorLevel)
		member, err := startMember(ctx, p.config, p.log.Named("etcd").WithOptions(zap.IncreaseLevel(p.memberLevel)))
		if err != nil {
			return err
		}
		p.member = member
		endpoints = []string{memberEndpoint(member)}
		p.log.Info("embedded etcd serves: this is a cluster of its own unless --etcd-initial-cluster names others",
			zap.String("client", endpoints[0]))
	}
	var err error
	if p.client, err = dialControl(p.config, endpoints); err != nil {
		return err
	}
	etcd := kvetcd.New(p.client)
	if err := p.reach(ctx, etcd, endpoints); err != nil {
		return err
	}
	p.guard = epochstore.NewGuard(etcd, func(fault error) {
		select {
		case p.fatal <- fault:
		default:
		}
	})
	keys, err := record.NewKeys(p.config.Cluster)
	if err != nil {
		return err
	}
	p.keys = keys
	p.store = epochstore.New(p.guard, keys, time.Now).Counting(p.metrics.dispatcher.Refused)
	header, err := p.guard.Range(ctx, kv.Range{Key: keys.Meta(), KeysOnly: true})
	if err != nil {
		return unreachable(endpoints, err)
	}
	p.etcdID = header.ClusterID
	p.clusterID = strconv.FormatUint(header.ClusterID, 16)
	meta, err := p.store.EnsureMeta(ctx)
	if err != nil {
		return fmt.Errorf("node: the cluster's record: %w", err)
	}
	return understood(keys, *meta.Record)
}

// reach waits until etcd answers, and looks at its version.
func (p *process) reach(ctx context.Context, etcd *kvetcd.Store, endpoints []string) error {
	for {
		version, err := etcd.Version(ctx)
		if err == nil {
			if err := kvetcd.CheckVersion(version); err != nil && !p.config.AllowOldEtcd {
				return &changefeed.Fault{
					Code: changefeed.CodeEtcdTooOld, Field: "--etcd", Value: version, Detail: "is a version with known faults",
					Cure: "upgrade etcd to 3.6.14, 3.7.1 or newer, or give --allow-old-etcd", Err: err,
				}
			}
			return nil
		}
		if ctx.Err() != nil || kvetcd.Denied(err) {
			return unreachable(endpoints, err)
		}
		wait.For(ctx, lifePause)
	}
}

func unreachable(endpoints []string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeEtcdUnreachable, Field: "--etcd", Value: fmt.Sprint(endpoints), Detail: "does not answer",
		Cure: "see that etcd runs, has a leader and can be reached from here", Err: err,
	}
}

// serve lives one life after another until ctx ends.
func (p *process) serve(ctx context.Context, server *httpServer) error {
	group, serving := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, stop := context.WithCancel(serving)
	defer stop()
	group.Go(func() error { return server.run(serving) })
	group.Go(func() error {
		defer stop()
		return p.lives(ctx, serving)
	})
	return group.Wait()
}

// lives returns nil when ctx ended, after a clean stop, and an error if the node can't go on.
func (p *process) lives(ctx, serving context.Context) error {
	living, end := context.WithCancelCause(ctx)
	defer end(nil)
	context.AfterFunc(serving, func() { end(context.Cause(serving)) })
	var fault error
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		select {
		case fault = <-p.fatal:
			end(fault)
		case <-living.Done():
		}
	}()
	first := true
	for living.Err() == nil {
		err := p.live(living)
		if err != nil && (first || outgrown(err)) {
			end(err)
			<-watch
			return errors.Join(fault, err)
		}
		if err != nil {
			p.log.Warn("a life ended; beginning another", zap.Error(err))
			wait.For(living, lifePause)
		}
		first = false
	}
	end(nil)
	<-watch
	return fault
}

// live is one life. The error of the first one ends the process: it says what is wrong with how it was started.
func (p *process) live(ctx context.Context) error {
	starting, cancel := context.WithTimeout(ctx, p.config.StartTimeout)
	l, err := p.newLife(starting)
	cancel()
	if err != nil {
		return err
	}
	p.life.Store(l)
	defer p.life.Store(nil)
	return l.run(ctx)
}

// close ends what outlives sessions.
func (p *process) close(ctx context.Context) {
	if p.traces != nil {
		ctx, cancel := context.WithTimeout(ctx, tracesMax)
		if err := p.traces.Close(ctx); err != nil {
			p.log.Info("the last traces were not sent", zap.Error(err))
		}
		cancel()
	}
	if p.spool != nil {
		if err := p.spool.Close(); err != nil {
			p.log.Info("the spool was not closed", zap.Error(err))
		}
	}
	if p.client != nil {
		_ = p.client.Close()
	}
	if p.peerListener != nil {
		_ = p.peerListener.Close()
	}
	if p.member != nil {
		// A member that stops reports its own listeners as failed.
		p.memberLevel.SetLevel(zap.FatalLevel)
		p.member.Close()
		<-p.member.Server.StopNotify()
	}
}
