// Package kvtest holds implementations of kv.Store to one behaviour. [Run] is the suite of directed cases that each
// passes alone; [Compare] runs the same random commands on two of them and wants the same answers and the same events.
// It also starts a real etcd inside a test's process, for every package that needs one.
package kvtest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"fencerow/kv/kvetcd"
)

// etcdStartMax is generous: tests run on machines that are busy with others.
const etcdStartMax = 60 * time.Second

// Etcd is one real member of etcd within this process, on loopback, in a temporary directory. It does not sync its
// files: tests do not survive the machine.
type Etcd struct {
	// Endpoint is where clients reach it.
	Endpoint string

	server *embed.Etcd
	dir    string
}

// StartEtcd starts one member and waits until it is ready. Start it once per package, in TestMain, since it takes about
// a second; options change its configuration. Call Close at the end.
func StartEtcd(options ...func(*embed.Config)) (*Etcd, error) {
	dir, err := os.MkdirTemp("", "kvtest-etcd-")
	if err != nil {
		return nil, fmt.Errorf("kvtest: etcd: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel = "fatal"
	config.LogOutputs = []string{os.DevNull}
	config.UnsafeNoFsync = true
	anyPort := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls = []url.URL{anyPort}
	config.ListenPeerUrls = []url.URL{anyPort}
	config.AdvertiseClientUrls = []url.URL{anyPort}
	config.AdvertisePeerUrls = []url.URL{anyPort}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	for _, option := range options {
		option(config)
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kvtest: etcd: %w", err), os.RemoveAll(dir))
	}
	etcd := &Etcd{server: server, dir: dir}
	limit := time.NewTimer(etcdStartMax)
	defer limit.Stop()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		etcd.Close()
		return nil, fmt.Errorf("kvtest: etcd: %w", err)
	case <-limit.C:
		etcd.Close()
		return nil, errors.New("kvtest: etcd was not ready in time")
	}
	etcd.Endpoint = "http://" + server.Clients[0].Addr().String()
	return etcd, nil
}

// Server returns the member itself, for tests that disturb it.
func (e *Etcd) Server() *embed.Etcd { return e.server }

// Close stops the member and removes its files. Call it once.
func (e *Etcd) Close() {
	e.server.Close()
	_ = os.RemoveAll(e.dir)
}

// Open returns a store of its own on the member.
func (e *Etcd) Open() (*kvetcd.Store, error) {
	client, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{e.Endpoint}})
	if err != nil {
		return nil, err
	}
	return kvetcd.New(client), nil
}
