package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/history"
)

// sessionTTL of the nodes under test.
const sessionTTL = 2 * time.Second

const nodesOfCluster = 3

// syncPoints is how often the changefeeds come to a barrier.
const syncPoints = 5 * time.Second

// shared are the etcds that all clusters copy from and to; each has prefixes of its own there.
type shared struct{ source, sink *member }

// cluster is some nodes on an etcd of their own, with two changefeeds: copy, to an etcd, and files.
type cluster struct {
	*shared

	t         *testing.T
	name      string
	etcd      []*member
	records   *clientv3.Client
	nodes     []*node
	directory string // of the file sink
	writers   *writers
	split     bool // whether the span that the split phase splits is split
	binary    string
}

// node is a server that is started again after it was killed.
type node struct {
	*process

	name      string
	host      *host
	args      []string
	orders    *control
	histories []string // a file for each of its processes
}

func (c *cluster) sourcePrefix() string { return "/" + c.name + "-orders/" }
func (c *cluster) targetPrefix() string { return "/" + c.name + "-copy/" }

// newCluster starts an etcd of some members, and the nodes, and creates the changefeeds.
func newCluster(t *testing.T, with *shared, name string, members, nodes int) *cluster {
	t.Helper()
	c := &cluster{shared: with, t: t, name: name, directory: filepath.Join(t.TempDir(), "files"), binary: binary}
	c.etcd = startEtcd(t, name, members)
	c.records = dial(t, c.endpoints()...)
	for i := range nodes {
		c.add(fmt.Sprintf("%s-n%d", name, i+1))
	}
	return c
}

func (c *cluster) endpoints() []string {
	var out []string
	for _, m := range c.etcd {
		out = append(out, m.endpoint)
	}
	return out
}

func (c *cluster) add(name string) {
	c.t.Helper()
	n := &node{name: name, host: newHost(c.t), orders: newControl(c.t)}
	n.args = []string{
		"server", "--name", name, "--cluster", c.name, "--etcd", strings.Join(c.endpoints(), ","), "--http-addr", n.host.ip + ":8300",
		"--peer-addr", n.host.ip + ":8301", "--allow-open-api", "--session-ttl", sessionTTL.String(), "--data-dir", c.t.TempDir(),
		"--log-format", "json",
	}
	c.nodes = append(c.nodes, n)
}

// startNodes starts all nodes, and waits until each is ready.
func (c *cluster) startNodes() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.restart(n)
	}
	for _, n := range c.nodes {
		c.awaitReady(n)
	}
}

func (c *cluster) restart(n *node) {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), fmt.Sprintf("%s-%d.history", n.name, len(n.histories)+1))
	n.histories = append(n.histories, path)
	n.process = n.host.start(n.name, []string{"CDC_FAILPOINTS=" + n.orders.path, "CDC_HISTORY=" + path}, append([]string{c.binary}, n.args...)...)
}

func (c *cluster) awaitReady(n *node) {
	c.t.Helper()
	eventually(c.t, n.name+" is ready", func() error {
		if !n.alive() {
			c.t.Fatalf("%s ended:\n%s", n.name, n.last(40))
		}
		return n.call(http.MethodGet, "/readyz", nil, nil)
	})
}

// create makes the changefeeds, split into one span a letter, and starts the writers.
func (c *cluster) create(rate int) {
	c.t.Helper()
	var splits []string
	for _, letter := range letters[1:] {
		splits = append(splits, c.sourcePrefix()+letter)
	}
	for name, sink := range map[string]string{"copy": "etcd://" + c.sink.endpoint + c.targetPrefix(), "files": "file://" + c.directory} {
		require.NoError(c.t, c.nodes[0].call(http.MethodPost, "/api/v1/changefeeds", map[string]any{
			"name": name, "source": "etcd://" + c.source.endpoint + c.sourcePrefix(), "sink": sink, "start": "now",
			"options": map[string]string{"split_keys": strings.Join(splits, ","), "sync_point_interval": syncPoints.String()},
		}, nil))
		c.awaitState(name, "running")
	}
	c.writers = startWriters(c.t, c.source.client, c.sourcePrefix(), rate)
}

// callLimit bounds one request to a node, which may be stopped or cut off.
const callLimit = 2 * time.Second

// call asks a node's API.
func (n *node) call(method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), callLimit)
	defer cancel()
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+n.host.ip+":8300"+path, sent)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s says %d: %s", method, path, response.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// action asks for something to be done to the changefeed copy, of any node that answers.
func (c *cluster) action(what string, body any) error {
	return c.ask(http.MethodPost, "/api/v1/changefeeds/default/copy/"+what, body, nil)
}

func (c *cluster) ask(method, path string, body, into any) error {
	var err error
	for _, n := range c.nodes {
		if err = n.call(method, path, body, into); err == nil {
			return nil
		}
	}
	return err
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
	eventually(c.t, c.name+": "+name+" is "+state, func() error {
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
			p, err := history.ReadFile(fmt.Sprintf("%s/%d", n.name, life+1), path)
			require.NoError(c.t, err)
			out = append(out, p)
		}
	}
	return out
}
