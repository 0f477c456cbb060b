package serial_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
	"fencerow/source/serial"
	"fencerow/source/serial/serialtest"
	"fencerow/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var feed = serial.Feed{Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"}

// cluster is some nodes whose pipes are memory.
type cluster struct {
	t     *testing.T
	nodes map[changefeed.NodeID]*serial.Node
	serve sync.WaitGroup
	wrap  func(serial.Pipe) serial.Pipe // what dispatchers send and get, if something is to go wrong
}

func newCluster(t *testing.T, names ...changefeed.NodeID) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[changefeed.NodeID]*serial.Node{}}
	t.Cleanup(c.serve.Wait)
	for _, name := range names {
		node, err := serial.NewNode(serial.Config{Self: name, Dialer: c, Logger: zap.NewNop()})
		require.NoError(t, err)
		c.nodes[name] = node
	}
	return c
}

var errAway = errors.New("the node is away")

// Dial connects two nodes.
func (c *cluster) Dial(_ context.Context, to changefeed.NodeID) (serial.Pipe, error) {
	node := c.nodes[to]
	if node == nil {
		return nil, errAway
	}
	near, far := newPipe()
	c.serve.Go(func() { _ = node.Serve(context.Background(), far) })
	if c.wrap != nil {
		return c.wrap(near), nil
	}
	return near, nil
}

// pipe is one end of a connection in memory.
type pipe struct {
	out  chan<- []byte
	in   <-chan []byte
	over chan struct{}
	once *sync.Once
}

func newPipe() (near, far *pipe) {
	a, b, over, once := make(chan []byte, 1), make(chan []byte, 1), make(chan struct{}), &sync.Once{}
	return &pipe{out: a, in: b, over: over, once: once}, &pipe{out: b, in: a, over: over, once: once}
}

var errOver = errors.New("the pipe is closed")

func (p *pipe) Send(frame []byte) error {
	select {
	case <-p.over:
		return errOver
	default:
	}
	select {
	case p.out <- frame:
		return nil
	case <-p.over:
		return errOver
	}
}

func (p *pipe) Receive() ([]byte, error) {
	select {
	case frame := <-p.in:
		return frame, nil
	case <-p.over:
		return nil, errOver
	}
}

func (p *pipe) Close() { p.once.Do(func() { close(p.over) }) }

// own has a node read the log of a database, and every node know it. It returns what ends that.
func (c *cluster) own(name changefeed.NodeID, epoch fence.Epoch, from *serialtest.Database, stored change.Position) (*serial.Hub, func()) {
	c.t.Helper()
	hub := c.nodes[name].NewHub(serial.HubConfig{
		Changefeed: feed.Changefeed, UID: feed.UID, Epoch: epoch, Source: from.Open(epoch), Stored: stored, Identity: "memory",
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	c.t.Cleanup(stop)
	c.observe(name, epoch)
	return hub, stop
}

func (c *cluster) observe(owner changefeed.NodeID, epoch fence.Epoch) {
	for _, node := range c.nodes {
		node.Observed(feed.Changefeed, serial.Owner{UID: feed.UID, Epoch: epoch, Node: owner})
	}
}

// The suite of all sources, through hub and reader: on the owner's node, and on another.
func TestSourceSuite(t *testing.T) {
	for name, at := range map[string]changefeed.NodeID{"on the owner's node": "a", "on another node": "b"} {
		t.Run(name, func(t *testing.T) {
			var database *serialtest.Database
			var hub *serial.Hub
			open := func(onGap serial.OnGap) func(t *testing.T) source.Source {
				return func(t *testing.T) source.Source {
					t.Helper()
					database = serialtest.NewDatabase()
					database.EventChanges = 2
					_, err := database.Open(1).Prepare(t.Context(), false)
					require.NoError(t, err)
					c := newCluster(t, "a", "b")
					hub, _ = c.own("a", 1, database, 0)
					feed := feed
					feed.OnGap = onGap
					return c.nodes[at].NewSource(database.Open(0), feed)
				}
			}
			var mu sync.Mutex
			var shared source.Source
			sourcetest.Run(t, sourcetest.Subject{
				Serial: true,
				Open: func(t *testing.T) source.Source {
					t.Helper()
					mu.Lock()
					defer mu.Unlock()
					if shared == nil || shared.(*shares).test != t {
						shared = &shares{Source: open(serial.GapFails)(t), test: t}
					}
					return shared
				},
				OpenBridging: open(serial.GapResnapshots),
				Write: func(_ context.Context, writes []sourcetest.Write) (change.Position, error) {
					commit := make([]serialtest.Write, len(writes))
					for i, write := range writes {
						commit[i] = serialtest.Write{Key: write.Key, Value: write.Value, Deleted: write.Deleted}
					}
					return database.Commit(commit), nil
				},
				Key:   func(_ *testing.T, i int) string { return serialtest.Key(i) },
				Value: serialtest.Value,
				Forget: func(_ context.Context, position change.Position) error {
					hub.Acknowledge(position)
					return nil
				},
				Disturb: func(*testing.T) { database.Break() },
			})
		})
	}
}

// shares is one source for all that a test opens.
type shares struct {
	source.Source
	test *testing.T
}
