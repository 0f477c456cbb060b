package lab

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/proc"
)

// Ports of etcd's members, each on a host of its own.
const (
	ClientPort = ":2379"
	peerPort   = ":2380"
)

// Member is one member of an etcd, on a host of its own.
type Member struct {
	*proc.Process

	Host     *Host
	Endpoint string
	Client   *clientv3.Client
}

// StartEtcd starts an etcd of n members and waits until it answers.
func StartEtcd(t testing.TB, binary, name string, n int) []*Member {
	t.Helper()
	hosts := make([]*Host, n)
	cluster := make([]string, n)
	for i := range hosts {
		hosts[i] = NewHost(t)
		cluster[i] = hosts[i].Space + "=http://" + hosts[i].IP + peerPort
	}
	var all []*Member
	for _, h := range hosts {
		m := &Member{Host: h, Endpoint: h.IP + ClientPort}
		spec := proc.Member{
			Name: h.Space, Dir: filepath.Join(t.TempDir(), "etcd"), Clients: []string{m.Endpoint}, Peer: h.IP + peerPort,
			Cluster: strings.Join(cluster, ","),
		}
		m.Process = h.Start("etcd "+name, nil, append([]string{binary}, spec.Args("--unsafe-no-fsync")...)...)
		all = append(all, m)
	}
	for _, m := range all {
		m.Client = Dial(t, m.Endpoint)
		Eventually(t, "etcd "+name+" answers", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := m.Client.Get(ctx, "ready")
			return err
		})
	}
	return all
}

// Endpoints returns where members are reached.
func Endpoints(members []*Member) []string {
	var out []string
	for _, m := range members {
		out = append(out, m.Endpoint)
	}
	return out
}

// Dial makes a client of an etcd until the test ends.
func Dial(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := proc.Dial(endpoints...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// WaitMax bounds every wait for a condition: far above what a loaded machine needs, so that only a fault reaches it.
const WaitMax = 60 * time.Second

// Eventually waits until condition returns nil, and fails with its last error.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	if err := proc.Await(WaitMax, condition); err != nil {
		t.Fatalf("%s: not within %v: %v", what, WaitMax, err)
	}
}
