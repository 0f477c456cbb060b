package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/kv/kvetcd"
)

// DevConfig is what `cdc-node dev` is started with.
type DevConfig struct {
	DataDir  string
	HTTPAddr string
	Version  string
	LogLevel string
	Stdout   io.Writer
	Stderr   io.Writer
}

const (
	demoPrefix   = "/demo/"
	demoName     = "demo"
	demoKeys     = 20
	demoEvery    = 500 * time.Millisecond
	demoDeleteIn = 10 // one change in so many is a delete
	demoRetry    = 50 * time.Millisecond
)

// RunDev runs one process with nothing to set up: embedded etcd, one node, a demo changefeed over a small workload, its
// changes on stdout. It returns when ctx ends.
func RunDev(ctx context.Context, config DevConfig) error {
	if config.Stdout == nil {
		config.Stdout = os.Stdout
	}
	if config.Stderr == nil {
		config.Stderr = os.Stderr
	}
	etcdClient, err := devAddr(ctx, DefaultEtcdClientURL[len("http://"):])
	if err != nil {
		return err
	}
	etcdPeer, err := devAddr(ctx, DefaultEtcdPeerURL[len("http://"):])
	if err != nil {
		return err
	}
	peerAddr, err := devAddr(ctx, DefaultPeerAddr)
	if err != nil {
		return err
	}
	httpAddr := cmp.Or(config.HTTPAddr, DefaultHTTPAddr)
	settings := Config{
		Name: "dev", DataDir: filepath.Join(config.DataDir, "node"), HTTPAddr: httpAddr, PeerAddr: peerAddr,
		Member:   Member{ListenClient: "http://" + etcdClient, ListenPeer: "http://" + etcdPeer},
		LogLevel: cmp.Or(config.LogLevel, "warn"), Version: config.Version, Stdout: config.Stdout, Stderr: config.Stderr,
		StopTimeout: DefaultStopTimeout,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := Run(ctx, settings); err != nil {
			return err
		}
		return context.Canceled // a node that ends takes the demo with it
	})
	group.Go(func() error { return demo(ctx, etcdClient, httpAddr, config.Stderr) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// devAddr returns the usual address if it is free, else one with another port: a demo takes what there is.
func devAddr(ctx context.Context, usual string) (string, error) {
	for _, addr := range []string{usual, "127.0.0.1:0"} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }()
		return listener.Addr().String(), nil
	}
	return "", &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "address", Value: usual, Detail: "is taken and no other port is free",
		Cure: "end what listens on loopback",
	}
}

// demo creates the demo changefeed and writes until ctx ends.
func demo(ctx context.Context, etcd, httpAddr string, out io.Writer) error {
	store, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{etcd}})
	if err != nil {
		return fmt.Errorf("node: demo: %w", err)
	}
	defer func() { _ = store.Close() }()
	api, err := client.New(client.Config{Server: "http://" + httpAddr})
	if err != nil {
		return fmt.Errorf("node: demo: %w", err)
	}
	create := shape.Create{
		Name: demoName, Source: "etcd://" + etcd + demoPrefix, Sink: "stdout:", Start: "now",
	}
	for {
		_, err := api.Create(ctx, create)
		if err == nil || changefeed.AsFault(err, "").Code == changefeed.CodeExists {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		wait.For(ctx, demoRetry)
	}
	tell(out, etcd, httpAddr)
	return work(ctx, store)
}

func tell(out io.Writer, etcd, httpAddr string) {
	server := ""
	if httpAddr != DefaultHTTPAddr {
		server = " --server http://" + httpAddr
	}
	_, _ = fmt.Fprintf(out, `
The console is at http://%[4]s/

A demo changefeed copies %[1]s of the embedded etcd at %[2]s to stdout. To try next, in another terminal
(go build -o cdc-node ./cmd/cdc-node):

  ./cdc-node changefeed list%[3]s
  ./cdc-node changefeed get demo%[3]s
  ./cdc-node etcdctl --endpoints %[2]s put /orders/1 'a first order'
  ./cdc-node changefeed create orders --source etcd://%[2]s/orders/ --sink file:///tmp/orders --start snapshot%[3]s
  ./cdc-node sink cat file:///tmp/orders
  ./cdc-node etcdctl --endpoints %[2]s get --prefix /cdc/default/

Ctrl-C ends it and leaves nothing behind.

`, demoPrefix, etcd, server, httpAddr)
}

// work is the demo's workload: a few keys that change and go.
func work(ctx context.Context, store *clientv3.Client) error {
	for count := 1; ; count++ {
		key := fmt.Sprintf("%sitem-%02d", demoPrefix, rand.IntN(demoKeys)) //nolint:gosec // a demo
		var err error
		if count%demoDeleteIn == 0 {
			_, err = store.Delete(ctx, key)
		} else {
			_, err = store.Put(ctx, key, fmt.Sprintf("change %d", count))
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if err != nil {
			return fmt.Errorf("node: demo: %w", err)
		}
		wait.For(ctx, demoEvery)
	}
}
