package serial

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
)

// hubWait is how long a subscription waits at the owner's node for the reader of the log, which starts when the owner has
// read the records.
const hubWait = 3 * time.Second

// Owner is who owns a changefeed, as a node has watched it.
type Owner struct {
	UID   changefeed.UID
	Epoch fence.Epoch
	Node  changefeed.NodeID // "": nobody
}

// Config is what a Node is made of.
type Config struct {
	Self   changefeed.NodeID
	Dialer Dialer
	Spool  *Spool // where what slow subscriptions lack is kept; nil: they hold up the others
	Logger *zap.Logger
}

func (c *Config) validate() error {
	if c.Self == "" || c.Dialer == nil || c.Logger == nil {
		return errors.New("serial: a node needs its id, a dialer and a logger")
	}
	return nil
}

// Dialer opens a pipe to the Serve of another node. ctx bounds the opening; the pipe lives until it is closed, or the node
// is none any more.
type Dialer interface {
	Dial(ctx context.Context, node changefeed.NodeID) (Pipe, error)
}

// Node is what one node has of serial logs under one session: the hubs of the changefeeds that it owns, and who owns the
// others. Its methods may be called by any goroutine.
type Node struct {
	config Config

	mu      sync.Mutex // guards what follows
	owners  map[changefeed.ID]Owner
	hubs    map[changefeed.UID]*Hub
	changed chan struct{} // closed when any of them changes
}

// NewNode returns a node that knows of no owner.
func NewNode(config Config) (*Node, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Node{
		config: config, owners: make(map[changefeed.ID]Owner), hubs: make(map[changefeed.UID]*Hub), changed: make(chan struct{}),
	}, nil
}

// touch tells all who wait that something changed. The lock is held.
func (n *Node) touch() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Listed takes in all owners there are.
func (n *Node) Listed(owners map[changefeed.ID]Owner) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners = owners
	n.touch()
}

// Observed takes in an owner as it was watched.
func (n *Node) Observed(id changefeed.ID, owner Owner) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners[id] = owner
	n.touch()
}

// Deleted takes in that a changefeed has no owner any more.
func (n *Node) Deleted(id changefeed.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.owners, id)
	n.touch()
}

// owner returns who owns the changefeed, and a channel that is closed when that may have changed.
func (n *Node) owner(id changefeed.ID, uid changefeed.UID) (Owner, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owner := n.owners[id]
	if owner.UID != uid {
		owner = Owner{}
	}
	return owner, n.changed
}

// NewHub makes the reader of a changefeed's log. It serves while its Run runs.
func (n *Node) NewHub(config HubConfig) *Hub {
	log := n.config.Logger.With(zap.Stringer("changefeed", config.Changefeed), zap.Uint64("epoch", uint64(config.Epoch)))
	return &Hub{config: config, node: n, log: log, came: make(chan struct{}, 1), stored: config.Stored}
}

// Retained returns how many bytes of their logs the sources of the changefeeds that are read here keep, of those that say so.
func (n *Node) Retained() map[changefeed.ID]int64 { return n.eachHub((*Hub).retained) }

// Streamed returns how many bytes of transactions in progress are kept on this node's disk for the changefeeds that are read here, of those
// whose sources stream them.
func (n *Node) Streamed() map[changefeed.ID]int64 { return n.eachHub((*Hub).streamed) }

// eachHub asks the hubs that are read here, and leaves out those that have no answer.
func (n *Node) eachHub(ask func(*Hub) (int64, bool)) map[changefeed.ID]int64 {
	n.mu.Lock()
	hubs := slices.Collect(maps.Values(n.hubs))
	n.mu.Unlock()
	out := make(map[changefeed.ID]int64, len(hubs))
	for _, hub := range hubs {
		if bytes, known := ask(hub); known {
			out[hub.config.Changefeed] = bytes
		}
	}
	return out
}

func (n *Node) register(h *Hub) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hubs[h.config.UID] = h
	n.touch()
}

func (n *Node) unregister(h *Hub) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hubs[h.config.UID] == h {
		delete(n.hubs, h.config.UID)
	}
}

// subscribe waits for the hub that the request means, and subscribes at it.
func (n *Node) subscribe(ctx context.Context, request *Request) (*Hub, *subscription, error) {
	if err := request.validate(); err != nil {
		return nil, nil, err
	}
	timer := time.NewTimer(hubWait)
	defer timer.Stop()
	for {
		n.mu.Lock()
		hub, changed := n.hubs[request.UID], n.changed
		owner := n.owners[request.Changefeed]
		n.mu.Unlock()
		if hub != nil && !hub.config.Epoch.OlderThan(request.Epoch) {
			sub, err := hub.subscribe(request)
			return hub, sub, err
		}
		if owner.UID == request.UID && owner.Node != n.config.Self && request.Epoch.OlderThan(owner.Epoch) {
			return nil, nil, errNoHub // and there will be none
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, nil, errNoHub
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}
