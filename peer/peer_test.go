package peer

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLimit is generous: tests run on machines that are busy with others.
const (
	testLimit = 30 * time.Second
	testPoll  = 2 * time.Millisecond
	testPing  = 200 * time.Millisecond
)

// inbox collects what is delivered to a node.
type inbox struct {
	mu  sync.Mutex
	got []message.Envelope
}

func (i *inbox) deliver(envelope message.Envelope) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, envelope)
}

func (i *inbox) all() []message.Envelope {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]message.Envelope(nil), i.got...)
}

// patient keeps a busy machine from taking a link for dead, where that is not what is tested.
func patient(c *Config) { c.PingInterval = testLimit }

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got)
}

type node struct {
	*Peers
	inbox   *inbox
	address string
	stop    func()
}

func startNode(t *testing.T, id changefeed.NodeID, change func(*Config)) *node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &node{inbox: &inbox{}, address: listener.Addr().String()}
	config := Config{
		NodeID: id, Cluster: "test", ClusterID: 7, Listener: listener, Deliver: n.inbox.deliver, PingInterval: testPing,
	}
	if change != nil {
		change(&config)
	}
	n.Peers, err = New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(n.stop)
	return n
}

func introduce(nodes ...*node) {
	addresses := map[changefeed.NodeID]string{}
	for _, n := range nodes {
		addresses[n.config.NodeID] = n.address
	}
	for _, n := range nodes {
		n.SetPeers(addresses)
	}
}

func eventually(t *testing.T, condition func() bool, text string) {
	t.Helper()
	require.Eventually(t, condition, testLimit, testPoll, text)
}

func (n *node) counted(kind message.Kind, outcome Outcome) int {
	var metric dto.Metric
	if err := n.config.Metrics.messages.WithLabelValues(kind.String(), string(outcome)).Write(&metric); err != nil {
		return -1
	}
	return int(metric.GetCounter().GetValue())
}

func to(n, from *node, epoch fence.Epoch, body message.Body) message.Envelope {
	return message.Envelope{
		ID: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1", Epoch: epoch,
		From: from.config.NodeID, To: n.config.NodeID, Body: body,
	}
}

func TestThreeNodesTalkInBothDirectionsAndToThemselves(t *testing.T) {
	nodes := []*node{startNode(t, "a", patient), startNode(t, "b", patient), startNode(t, "c", patient)}
	introduce(nodes...)
	for _, n := range nodes {
		eventually(t, func() bool { return len(n.Reachable()) == 2 }, "connected")
		require.Empty(t, n.Unreachable())
	}
	const each = 3000
	for i := range each {
		for _, sender := range nodes {
			for _, receiver := range nodes {
				sender.Send(to(receiver, sender, fence.Epoch(i+1), message.Stop{Token: fence.Mint(1, fence.Seq(i))}))
			}
		}
	}
	for _, n := range nodes {
		eventually(t, func() bool { return n.inbox.count() == each*len(nodes) }, "everything came")
		next := map[changefeed.NodeID]fence.Epoch{}
		for _, envelope := range n.inbox.all() {
			next[envelope.From]++
			require.Equal(t, next[envelope.From], envelope.Epoch, "in order for each sender")
			require.Equal(t, n.config.NodeID, envelope.To)
		}
		require.Equal(t, each*len(nodes), n.counted(message.KindStop, Received))
	}
}

func TestAMessageToNobodyIsCounted(t *testing.T) {
	n := startNode(t, "a", nil)
	envelope := to(n, n, 1, message.Closed{})
	envelope.To = "stranger"
	n.Send(envelope)
	require.Equal(t, 1, n.counted(message.KindClosed, DroppedPeer))
	n.Send(message.Envelope{To: "a"})
	require.Equal(t, 1, n.counted(0, Invalid))
}

func TestATooLargeMessageDoesNotEndTheStream(t *testing.T) {
	a, b := startNode(t, "a", patient), startNode(t, "b", patient)
	introduce(a, b)
	large := changefeed.Span{Start: make([]byte, MessageBytesMax)}
	a.Send(to(b, a, 1, message.Place{Span: large}))
	nearly := changefeed.Span{Start: make([]byte, MessageBytesMax-1024)}
	a.Send(to(b, a, 1, message.Place{Span: nearly}))
	a.Send(to(b, a, 1, message.Closed{}))
	eventually(t, func() bool { return len(b.inbox.all()) == 2 }, "the others came")
	require.Equal(t, 1, a.counted(message.KindPlace, TooLarge))
}

func TestANodeOfAnotherClusterIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"another name": func(c *Config) { c.Cluster = "other" },
		"another etcd": func(c *Config) { c.ClusterID = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := startNode(t, "a", nil), startNode(t, "b", change)
			introduce(a, b)
			a.Send(to(b, a, 1, message.Closed{}))
			eventually(t, func() bool { return len(a.Unreachable()) == 1 && len(b.Unreachable()) == 1 }, "seen as unreachable")
			require.Empty(t, b.inbox.all())
		})
	}
}

// hazard 12: a node restarts at the same address under another id; what was meant for its earlier life does not arrive.
func TestAnotherNodeAtTheSameAddressGetsNothing(t *testing.T) {
	a, b := startNode(t, "a", nil), startNode(t, "b", nil)
	introduce(a, b)
	eventually(t, func() bool { return len(a.Reachable()) == 1 }, "connected")
	address := b.address
	b.stop()
	a.Send(to(b, a, 1, message.Closed{}))
	reborn := startNode(t, "b2", func(c *Config) {
		require.NoError(t, c.Listener.Close())
		var err error
		c.Listener, err = net.Listen("tcp", address)
		require.NoError(t, err)
	})
	eventually(t, func() bool { return len(a.Unreachable()) == 1 }, "not reached")
	a.SetPeers(map[changefeed.NodeID]string{"b2": address})
	reborn.SetPeers(map[changefeed.NodeID]string{"a": a.address})
	a.Send(message.Envelope{To: "b2", UID: "new", Body: message.Closed{}})
	eventually(t, func() bool { return len(reborn.inbox.all()) == 1 }, "the new one is reached")
	require.Equal(t, changefeed.UID("new"), reborn.inbox.all()[0].UID)
	require.Empty(t, a.Unreachable())
}

func TestALinkComesBackAndDeliversWhatWaited(t *testing.T) {
	a, b := startNode(t, "a", nil), startNode(t, "b", nil)
	proxy := startProxy(t, b.address)
	a.SetPeers(map[changefeed.NodeID]string{"b": proxy.address})
	b.SetPeers(map[changefeed.NodeID]string{"a": a.address})
	eventually(t, func() bool { return len(a.Reachable()) == 1 && len(b.Reachable()) == 1 }, "connected")
	for round := range 3 {
		proxy.refuse(true)
		proxy.cut()
		eventually(t, func() bool { return len(a.Unreachable()) == 1 && len(b.Unreachable()) == 1 }, "noticed")
		a.Send(to(b, a, fence.Epoch(round+1), message.Closed{}))
		b.Send(to(a, b, fence.Epoch(round+1), message.Closed{}))
		proxy.refuse(false)
		eventually(t, func() bool { return len(b.inbox.all()) == round+1 && len(a.inbox.all()) == round+1 }, "delivered")
	}
}

// hazard 53: a half-open stream looks alive to both ends.
func TestASilentLinkCountsAsDown(t *testing.T) {
	a, b := startNode(t, "a", nil), startNode(t, "b", nil)
	proxy := startProxy(t, b.address)
	a.SetPeers(map[changefeed.NodeID]string{"b": proxy.address})
	b.SetPeers(map[changefeed.NodeID]string{"a": a.address})
	eventually(t, func() bool { return len(a.Reachable()) == 1 && len(b.Reachable()) == 1 }, "connected")
	proxy.freeze() // what is connected stays so and swallows everything; new connections work
	began := time.Now()
	eventually(t, func() bool { return b.newestGeneration("a") >= 2 }, "a new stream was opened")
	require.Greater(t, time.Since(began), pingsMissedMax*testPing/2)
	a.Send(to(b, a, 1, message.Closed{}))
	eventually(t, func() bool { return len(b.inbox.all()) == 1 }, "it works")
}

func (n *node) newestGeneration(id changefeed.NodeID) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[id]
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return 0
	}
	return l.generation
}

func TestANodeThatIsNoPeerAnyMoreIsDropped(t *testing.T) {
	a, b := startNode(t, "a", nil), startNode(t, "b", nil)
	introduce(a, b)
	eventually(t, func() bool { return len(a.Reachable()) == 1 && len(b.Reachable()) == 1 }, "connected")
	a.SetPeers(nil)
	require.Empty(t, a.Reachable())
	require.Empty(t, a.Unreachable())
	eventually(t, func() bool { return len(b.Unreachable()) == 1 }, "the other end sees it")
	b.SetPeers(nil)
	require.Empty(t, b.Unreachable())
}

func TestDeliverMaySendAndAskForTheLinks(t *testing.T) {
	var b *node
	ready := make(chan struct{})
	a := startNode(t, "a", patient)
	b = startNode(t, "b", func(c *Config) {
		patient(c)
		c.Deliver = func(envelope message.Envelope) {
			<-ready
			b.Send(to(a, b, envelope.Epoch, message.Closed{}))
			b.Reachable()
		}
	})
	close(ready)
	introduce(a, b)
	const count = 500
	for i := range count {
		a.Send(to(b, a, fence.Epoch(i), message.Close{}))
		b.Reachable()
	}
	eventually(t, func() bool { return len(a.inbox.all()) == count }, "answered")
}

func TestConfigIsValidated(t *testing.T) {
	_, err := New(Config{PingInterval: -1})
	for _, text := range []string{"node id", "cluster", "listener", "Deliver", "ping"} {
		require.ErrorContains(t, err, text)
	}
}
