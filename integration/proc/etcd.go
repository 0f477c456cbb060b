package proc

import (
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Member is a member of an etcd that is to be started. Addresses are host:port.
type Member struct {
	Name    string
	Dir     string
	Clients []string // the first is the one that is told others
	Peer    string
	Cluster string // name=URL of all members; empty: it is alone
}

// Args are those of `cdc-node`, with more flags of etcd at the end.
func (m Member) Args(more ...string) []string {
	client, peer := "http://"+strings.Join(m.Clients, ",http://"), "http://"+m.Peer
	cluster := m.Cluster
	if cluster == "" {
		cluster = m.Name + "=" + peer
	}
	return append([]string{
		"etcd", "--name", m.Name, "--data-dir", m.Dir, "--listen-client-urls", client, "--advertise-client-urls", "http://" + m.Clients[0],
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--log-level", "error",
	}, more...)
}

// dialMax bounds the making of one connection.
const dialMax = 5 * time.Second

// Dial makes a client of an etcd.
func Dial(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: dialMax})
}
