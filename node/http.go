package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"fencerow/api"
	"fencerow/changefeed"
	"fencerow/kv/kvetcd"
)

// httpServer serves the API as long as the process lives.
type httpServer struct {
	listener net.Listener
	server   *http.Server
	log      *zap.Logger
}

// settleIntervals of the status interval are waited for before a checkpoint counts as behind its sink.
const settleIntervals = 2

// Bounds of connections.
const (
	connectionsMax    = 4096             // to the API; more wait in the kernel
	idleConnectionMax = 30 * time.Second // to other nodes, so that a renewed certificate is met soon
)

// shutdownMax bounds the end of requests that are under way.
const shutdownMax = 3 * time.Second

// listen takes both ports, so that one that is taken is said at once, and makes the API's server.
func (p *process) listen(ctx context.Context, level zap.AtomicLevel) (*httpServer, error) {
	tokens := api.Tokens{}
	var err error
	if p.config.HTTPTokenFile != "" {
		if tokens, err = api.ReadTokens(p.config.HTTPTokenFile); err != nil {
			return nil, &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "--http-token-file", Value: p.config.HTTPTokenFile,
				Cure: "give a file of lines role:token", Err: err,
			}
		}
	}
	if p.config.TLS.Enabled() {
		if p.certs, err = openCertificates(p.config.TLS, p.config.Name, p.log); err != nil {
			return nil, err
		}
	}
	if p.peerListener, err = listenTCP(ctx, "--peer-addr", p.config.PeerAddr); err != nil {
		return nil, err
	}
	p.config.PeerAddr = p.peerListener.Addr().String()
	if p.config.AdvertisePeer == "" {
		p.config.AdvertisePeer = p.config.PeerAddr
	}
	listener, err := listenTCP(ctx, "--http-addr", p.config.HTTPAddr)
	if err != nil {
		return nil, err
	}
	if p.config.AdvertiseHTTP == "" {
		p.config.AdvertiseHTTP = listener.Addr().String()
	}
	listener = netutil.LimitListener(listener, connectionsMax)
	scheme, client := "http", &http.Client{}
	if p.certs != nil {
		listener = tls.NewListener(listener, p.certs.server(tls.NoClientCert))
		scheme, client.Transport = "https", &http.Transport{DialTLSContext: p.certs.dial, IdleConnTimeout: idleConnectionMax}
	}
	handler := api.New(api.Config{
		Cluster: p.config.Cluster, Version: p.config.Version, Kinds: Kinds(), Literals: literals(p.config), Tokens: tokens,
		Hosts: append([]string{p.config.AdvertiseHTTP, p.config.HTTPAddr}, p.config.HTTPHosts...), Level: level, Gatherer: p.metrics.registry,
		Client: client, Scheme: scheme, Log: p.log, Settle: settleIntervals*p.config.StatusInterval + time.Second,
	}, backend{p})
	return &httpServer{listener: listener, server: api.NewHTTPServer(handler), log: p.log}, nil
}

func listenTCP(ctx context.Context, flag, addr string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: flag, Value: addr, Detail: "can't be listened on",
			Cure: "give another address, or end what holds it", Err: err,
		}
	}
	return listener, nil
}

// run serves until ctx ends.
func (s *httpServer) run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("node: serve HTTP: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownMax)
	defer cancel()
	if err := s.server.Shutdown(closing); err != nil {
		s.log.Info("requests were cut off", zap.Error(err), zap.Error(s.server.Close()))
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("node: serve HTTP: %w", err)
	}
	return nil
}

// close ends a server that was never run.
func (s *httpServer) close() error { return s.listener.Close() }

// peerTLS is the configuration between nodes; nil is plain text.
func (p *process) peerTLS() *tls.Config {
	if p.certs == nil {
		return nil
	}
	return p.certs.peers()
}

// dialControl connects to the etcd of the records. It does not wait for it.
func dialControl(config Config, endpoints []string) (*clientv3.Client, error) {
	password := ""
	if config.EtcdPasswordFile != "" {
		text, err := os.ReadFile(config.EtcdPasswordFile)
		if err != nil {
			return nil, &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "--etcd-password-file", Value: config.EtcdPasswordFile,
				Detail: "can't be read", Cure: "give a file that this process can read", Err: err,
			}
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	settings := kvetcd.Config{User: config.EtcdUser, Password: password}
	if config.EtcdTLS.Enabled() {
		files, err := config.EtcdTLS.files().Client()
		if err != nil {
			return nil, etcdTLSFault(err)
		}
		settings.TLS = files
	}
	scheme := "http://"
	if settings.TLS != nil {
		scheme = "https://"
	}
	for _, one := range endpoints {
		if !strings.Contains(one, "://") {
			one = scheme + one
		}
		settings.Endpoints = append(settings.Endpoints, one)
	}
	client, err := kvetcd.Dial(settings)
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "--etcd", Value: strings.Join(endpoints, ","), Detail: "can't be used",
			Cure: "give endpoints such as 10.0.0.5:2379, separated by commas", Err: err,
		}
	}
	return client, nil
}

func etcdTLSFault(err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "--etcd-cert, --etcd-key, --etcd-ca", Detail: "can't be used",
		Cure: "give PEM files that this process can read", Err: err,
	}
}
