package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/kv/kvetcd"
	"fencerow/source"
)

const (
	// streamWindow is what one stream may have received unread; more lanes than one hold one each. A message that is
	// larger is let in when it is asked for.
	streamWindow = 128 << 10
	// connectionWindow is shared by the streams, and given back as data arrives, read or not.
	connectionWindow = 4 << 20
	// keepAliveTime is twice the least that etcd lets clients ping by default; it hangs up on those that come close.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// Config says what to read. URI's scheme is etcd.
type Config struct {
	URI     endpoint.URI
	Options changefeed.Options // those of [Options] are read, others are not looked at
	// Identity is the cluster id that is expected, once it was stored. Empty takes any.
	Identity string
	Logger   *zap.Logger
}

func (c Config) validate() error {
	var faults []error
	if c.URI.Scheme != endpoint.Etcd || len(c.URI.Hosts) == 0 {
		faults = append(faults, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "source", Value: c.URI.String(), Detail: "is not an etcd",
			Cure: "write etcd://host:2379/prefix/", Permanent: true,
		})
	}
	if c.Logger == nil {
		faults = append(faults, errors.New("etcd: no logger"))
	}
	return errors.Join(faults...)
}

// patience is how long faults of etcd are borne. Tests have less of it.
type patience struct {
	request time.Duration // for one request, so that a member that is cut off is noticed
	silence time.Duration // of a watch, though progress was asked for all the time, before it is looked into
	retry   time.Duration // a reader that loses etcd comes back by itself for as long: an election is not a fault
}

func patienceDefault() patience {
	return patience{request: 3 * time.Second, silence: 3 * time.Second, retry: 4 * time.Second}
}

// Source is a prefix of an etcd. See [source.Source].
type Source struct {
	settings
	patience patience
	uri      endpoint.URI
	options  changefeed.Options
	logger   *zap.Logger

	mu      sync.Mutex
	client  *clientv3.Client // nil until it is needed
	closed  bool
	cluster uint64 // 0 until it is known
	seen    int64  // the highest revision that a linearizable read returned
	checked bool   // the version was looked at
}

var _ source.Source = (*Source)(nil)

// New makes a source. It connects when it is first used.
func New(config Config) (*Source, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	settings, err := parseSettings(config.Options)
	if err != nil {
		return nil, err
	}
	s := &Source{settings: settings, patience: patienceDefault(), uri: config.URI, options: config.Options, logger: config.Logger}
	if config.Identity != "" {
		if s.cluster, err = strconv.ParseUint(config.Identity, 16, 64); err != nil {
			return nil, s.replaced(fmt.Sprintf("is an etcd, but what was read before is named %.60q", config.Identity))
		}
	}
	return s, nil
}

// Identity returns the id of the etcd cluster, in hexadecimal.
func (s *Source) Identity(ctx context.Context) (string, error) {
	if _, err := s.head(ctx); err != nil {
		return "", s.fault(err)
	}
	s.checkVersion(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.FormatUint(s.cluster, 16), nil
}

// Head returns the store's revision.
func (s *Source) Head(ctx context.Context) (change.Position, error) {
	head, err := s.head(ctx)
	if err != nil {
		return 0, s.fault(err)
	}
	return change.Position(head), nil
}

// Span returns the keys that begin with the prefix.
func (s *Source) Span() changefeed.Span { return s.uri.Span() }

// Close ends the connection.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	s.client = nil
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd: close: %w", err)
	}
	return nil
}

var errClosed = errors.New("etcd: the source was closed")

// dial returns the client, which it makes when it is first asked. The password is resolved then, on this node.
func (s *Source) dial() (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.client != nil {
		return s.client, nil
	}
	password, err := s.uri.Password.Resolve()
	if err != nil {
		return nil, err
	}
	tls, err := endpoint.TLS(s.options)
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if tls != nil {
		scheme = "https://"
	}
	var endpoints []string
	for _, host := range s.uri.Hosts {
		endpoints = append(endpoints, scheme+host)
	}
	s.client, err = kvetcd.Dial(kvetcd.Config{
		Endpoints: endpoints, User: s.uri.User, Password: password, TLS: tls,
		// Windows of a fixed size: by default they grow with the speed of the line, for each stream.
		Options: []grpc.DialOption{
			grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAliveTime, Timeout: keepAliveTimeout}),
		},
	})
	return s.client, err
}

func (s *Source) connection() (*grpc.ClientConn, error) {
	client, err := s.dial()
	if err != nil {
		return nil, err
	}
	return client.ActiveConnection(), nil
}

// head reads the store's revision, linearizably, and looks whether it is the store that it was.
func (s *Source) head(ctx context.Context) (int64, error) {
	client, err := s.dial()
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	before := s.seen
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.patience.request)
	defer cancel()
	// One key that any user who may read the prefix may read.
	key, _ := bounds(s.Span())
	response, err := client.Get(ctx, string(key), clientv3.WithCountOnly())
	if expired(err) {
		response, err = client.Get(ctx, string(key), clientv3.WithCountOnly()) // with a new token
	}
	if err != nil {
		return 0, fmt.Errorf("read the revision: %w", err)
	}
	head := response.Header.GetRevision()
	if err := s.sameCluster(response.Header.GetClusterId()); err != nil {
		return 0, err
	}
	if head < before {
		return 0, s.wentBack(head, before)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = max(s.seen, head)
	return head, nil
}

// sameCluster refuses another cluster than the one that was seen first.
func (s *Source) sameCluster(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == 0 {
		s.cluster = id
	}
	if s.cluster != id {
		return s.replaced(fmt.Sprintf("is cluster %x, and cluster %x was read before", id, s.cluster))
	}
	return nil
}

// checkVersion warns once of an etcd that a control plane would refuse. A source is taken as it is.
func (s *Source) checkVersion(ctx context.Context) {
	s.mu.Lock()
	client, checked := s.client, s.checked
	s.checked = true
	s.mu.Unlock()
	if checked || client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience.request)
	defer cancel()
	status, err := client.Status(ctx, client.Endpoints()[0])
	if err != nil {
		return // it was reached a moment ago; this is a courtesy
	}
	if err := kvetcd.CheckVersion(status.Version); err != nil {
		s.logger.Warn("source runs a version of etcd with known faults", zap.Stringer("source", s.uri), zap.Error(err))
	}
}
