package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/integration/proc"
)

// SessionTTL of the nodes of a lab.
const SessionTTL = 2 * time.Second

// Node is a server on a host of its own, which is started again after it was killed, and is given orders.
type Node struct {
	*proc.Process

	Name   string
	Host   *Host
	Orders *proc.Orders

	t    testing.TB
	args []string
}

// NewNode makes a node of a cluster that keeps its records in an etcd. It does not start it.
func NewNode(t testing.TB, name, cluster string, etcd []string) *Node {
	t.Helper()
	n := &Node{t: t, Name: name, Host: NewHost(t)}
	var err error
	n.Orders, err = proc.NewOrders()
	require.NoError(t, err)
	t.Cleanup(n.Orders.Close)
	n.args = []string{
		"server", "--name", name, "--cluster", cluster, "--etcd", strings.Join(etcd, ","), "--http-addr", string(n.API()),
		"--peer-addr", n.Host.IP + ":8301", "--allow-open-api", "--session-ttl", SessionTTL.String(), "--data-dir", t.TempDir(),
		"--log-format", "json",
	}
	return n
}

// API is the node's.
func (n *Node) API() proc.API { return proc.API(n.Host.IP + ":8300") }

// Run starts the node with a binary, and more of an environment.
func (n *Node) Run(binary string, env ...string) {
	n.t.Helper()
	n.Process = n.Host.Start(n.Name, append([]string{n.Orders.Env}, env...), append([]string{binary}, n.args...)...)
}

// callMax bounds one request to a node, which may be stopped or cut off.
const callMax = 2 * time.Second

// Call asks the node's API.
func (n *Node) Call(method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), callMax)
	defer cancel()
	return n.API().Call(ctx, method, path, body, into)
}

// AwaitReady waits until the node says that it is ready.
func (n *Node) AwaitReady() {
	n.t.Helper()
	Eventually(n.t, n.Name+" is ready", func() error {
		if !n.Alive() {
			n.t.Fatalf("%s ended:\n%s", n.Name, n.Output.Last(40))
		}
		ctx, cancel := context.WithTimeout(n.t.Context(), callMax)
		defer cancel()
		return n.API().Ready(ctx)
	})
}

// Cut keeps packets from and to addresses away from the node, both ways.
func (n *Node) Cut(ips ...string) {
	n.t.Helper()
	n.Host.CutFrom(Hear, ips...)
	n.Host.CutFrom(Say, ips...)
}

// Ask asks one node after another, until one answers.
func Ask(nodes []*Node, method, path string, body, into any) error {
	err := errors.New("there is no node")
	for _, n := range nodes {
		if err = n.Call(method, path, body, into); err == nil {
			return nil
		}
	}
	return err
}
