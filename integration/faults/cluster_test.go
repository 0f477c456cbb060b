package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/history"
	"fencerow/integration/lab"
)

const nodesOfCluster = 3

// syncPoints is how often the changefeeds come to a barrier.
const syncPoints = 5 * time.Second

// shared are the etcds that all clusters copy from and to; each has prefixes of its own there.
type shared struct{ source, sink *lab.Member }

// cluster is some nodes on an etcd of their own, with two changefeeds: copy, to an etcd, and files.
type cluster struct {
	*shared

	t         *testing.T
	name      string
	etcd      []*lab.Member
	records   *clientv3.Client
	nodes     []*node
	directory string // of the file sink
	writers   *writers
	split     bool // whether the span that the split phase splits is split
	binary    string
}

// node is a server whose processes write what they do.
type node struct {
	*lab.Node

	histories []string // a file for each of its processes
}

// signal sends a signal to the node's process; one that is gone is no fault.
func (c *cluster) signal(n *node, s syscall.Signal) {
	c.t.Helper()
	if err := n.Signal(s); err != nil {
		c.t.Log(err)
	}
}

func (c *cluster) sourcePrefix() string { return "/" + c.name + "-orders/" }
func (c *cluster) targetPrefix() string { return "/" + c.name + "-copy/" }

// newCluster starts an etcd of some members, and the nodes, and creates the changefeeds.
func newCluster(t *testing.T, with *shared, name string, members, nodes int) *cluster {
	t.Helper()
	c := &cluster{shared: with, t: t, name: name, directory: filepath.Join(t.TempDir(), "files"), binary: binary}
	c.etcd = lab.StartEtcd(t, binary, name, members)
	c.records = lab.Dial(t, lab.Endpoints(c.etcd)...)
	for i := range nodes {
		c.add(fmt.Sprintf("%s-n%d", name, i+1))
	}
	return c
}

func (c *cluster) add(name string) {
	c.t.Helper()
	c.nodes = append(c.nodes, &node{Node: lab.NewNode(c.t, name, c.name, lab.Endpoints(c.etcd))})
}

// startNodes starts all nodes, and waits until each is ready.
func (c *cluster) startNodes() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.restart(n)
	}
	for _, n := range c.nodes {
		n.AwaitReady()
	}
}

func (c *cluster) restart(n *node) {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), fmt.Sprintf("%s-%d.history", n.Name, len(n.histories)+1))
	n.histories = append(n.histories, path)
	n.Run(c.binary, "CDC_HISTORY="+path)
}

// create makes the changefeeds, split into one span a letter, and starts the writers.
func (c *cluster) create(rate int) {
	c.t.Helper()
	var splits []string
	for _, letter := range letters[1:] {
		splits = append(splits, c.sourcePrefix()+letter)
	}
	for name, sink := range map[string]string{"copy": "etcd://" + c.sink.Endpoint + c.targetPrefix(), "files": "file://" + c.directory} {
		require.NoError(c.t, c.nodes[0].Call(http.MethodPost, "/api/v1/changefeeds", map[string]any{
			"name": name, "source": "etcd://" + c.source.Endpoint + c.sourcePrefix(), "sink": sink, "start": "now",
			"options": map[string]string{"split_keys": strings.Join(splits, ","), "sync_point_interval": syncPoints.String()},
		}, nil))
		c.awaitState(name, "running")
	}
	c.writers = startWriters(c.t, c.source.Client, c.sourcePrefix(), rate)
}

// callLimit bounds one request to an etcd.
const callLimit = 2 * time.Second

// action asks for something to be done to the changefeed copy, of any node that answers.
func (c *cluster) action(what string, body any) error {
	return c.ask(http.MethodPost, "/api/v1/changefeeds/default/copy/"+what, body, nil)
}

func (c *cluster) ask(method, path string, body, into any) error {
	var nodes []*lab.Node
	for _, n := range c.nodes {
		nodes = append(nodes, n.Node)
	}
	return lab.Ask(nodes, method, path, body, into)
}

// feed is what the tests read of a changefeed.
type feed struct {
	State     string `json:"state"`
	OwnerName string `json:"owner_name"`
	Error     any    `json:"error"`

	Checkpoint int64 `json:"checkpoint,string"`
}

func (c *cluster) feed(name string) (feed, error) {
	var f feed
	return f, c.ask(http.MethodGet, "/api/v1/changefeeds/default/"+name, nil, &f)
}

func (c *cluster) awaitState(name, state string) {
	c.t.Helper()
	lab.Eventually(c.t, c.name+": "+name+" is "+state, func() error {
		f, err := c.feed(name)
		if err == nil && f.State != state {
			err = fmt.Errorf("it is %q of %s (%v)", f.State, f.OwnerName, f.Error)
		}
		return err
	})
}

// spans says which nodes run spans of copy; an error if not all spans run.
func (c *cluster) spans() (map[string]int, error) {
	var list struct {
		Items []struct {
			NodeName string `json:"node_name"`
			State    string `json:"state"`
		} `json:"items"`
	}
	if err := c.ask(http.MethodGet, "/api/v1/changefeeds/default/copy/spans", nil, &list); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, span := range list.Items {
		if span.State != "running" {
			return nil, fmt.Errorf("a span of %s is %s", span.NodeName, span.State)
		}
		out[span.NodeName]++
	}
	return out, nil
}

// processes reads what all processes of the cluster wrote.
func (c *cluster) processes() []*history.Process {
	c.t.Helper()
	var out []*history.Process
	for _, n := range c.nodes {
		for life, path := range n.histories {
			p, err := history.ReadFile(fmt.Sprintf("%s/%d", n.Name, life+1), path)
			require.NoError(c.t, err)
			out = append(out, p)
		}
	}
	return out
}
