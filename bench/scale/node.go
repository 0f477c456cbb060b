package main

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/kv/kvetcd"
	"fencerow/maintainer"
	"fencerow/message"
	"fencerow/node/records"
	"fencerow/record"
)

// nodeTick is how often a node looks for what is due.
const nodeTick = 50 * time.Millisecond

// node is one node: its maintainers and its dispatchers, which one goroutine steps, on records of a real etcd.
type node struct {
	cluster  *cluster
	id       changefeed.NodeID
	start    time.Time
	kv       *kvetcd.Store
	store    *epochstore.Store
	session  *epochstore.Session
	watch    *epochstore.Watch
	statuses *records.Statuses
	reads    *records.Listing

	mu   sync.Mutex // guards mail
	mail []any      // frames, answers and updates, in order
	wake chan struct{}

	// owned by run
	core    *maintainer.HostCore
	feeds   map[changefeed.ID]*feed
	epochs  map[changefeed.ID]record.Epoch
	hosts   map[changefeed.ID]*hosted
	due     dues
	movedAt time.Time
}

// answer is to a request of a maintainer.
type answer struct {
	feed *feed
	in   maintainer.Input
}

// recordRead is the answer to a dispatcher host.
type recordRead struct {
	host *hosted
	in   dispatcher.RecordAnswer
}

// join takes a lease and registers a node.
func (c *cluster) join(ctx context.Context, i int) (*node, error) {
	store, err := c.etcd.Open()
	if err != nil {
		return nil, err
	}
	entry := nodeRecord(i)
	n := &node{
		cluster: c, id: entry.ID, start: time.Now(), kv: store, wake: make(chan struct{}, 1), core: maintainer.NewHostCore(entry.ID),
		feeds: make(map[changefeed.ID]*feed), epochs: make(map[changefeed.ID]record.Epoch), hosts: make(map[changefeed.ID]*hosted),
	}
	n.store = epochstore.New(counted{Store: store, cluster: c, prefix: c.keys.Of(record.KindStatus)}, c.keys, time.Now)
	if _, err := n.store.EnsureMeta(ctx); err != nil {
		return nil, err
	}
	n.session, err = epochstore.NewSession(ctx, store, epochstore.SessionConfig{
		TTL: sessionTTL, Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := n.store.Join(ctx, n.session, entry); err != nil {
		return nil, err
	}
	n.watch = n.store.Watch(epochstore.WatchConfig{
		Kinds: []record.Kind{record.KindEpoch}, Clock: epochstore.BootTime, Logger: zap.NewNop(),
	})
	n.reads = records.NewListing(n.store)
	n.statuses = records.NewStatuses(n.store, func() int { return nodesMax })
	return n, nil
}

func (n *node) now() changefeed.Time { return changefeed.Time(time.Since(n.start)) + 1 }

// post puts something into the node's mail. Anybody may.
func (n *node) post(item any) {
	n.mu.Lock()
	n.mail = append(n.mail, item)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *node) take() []any {
	n.mu.Lock()
	defer n.mu.Unlock()
	mail := n.mail
	n.mail = nil
	return mail
}

func (n *node) readEpochs(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-n.watch.Updates():
			n.post(update)
		}
	}
}

// run does what comes and what is due, until ctx ends.
func (n *node) run(ctx context.Context) error {
	ticker := time.NewTicker(nodeTick)
	defer ticker.Stop()
	for {
		listened := n.now()
		for _, item := range n.take() {
			n.handle(ctx, item)
		}
		n.tick(ctx, listened)
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		case <-ticker.C:
		}
	}
}

func (n *node) handle(ctx context.Context, item any) {
	switch item := item.(type) {
	case epochstore.Update:
		n.observe(ctx, item)
	case answer:
		item.feed.step(ctx, item.in)
	case recordRead:
		item.host.step(ctx, item.in)
	case frame:
		envelope, err := item.unpack()
		if err != nil {
			n.cluster.fail(err)
			return
		}
		if item.down {
			n.host(ctx, envelope.ID).step(ctx, dispatcher.Deliver{Envelope: envelope})
		} else if f := n.feeds[envelope.ID]; f != nil {
			f.step(ctx, maintainer.Received{Envelope: envelope})
		}
	}
}

// observe takes in who owns what.
func (n *node) observe(ctx context.Context, update epochstore.Update) {
	for _, change := range update.Changes {
		own, ok := records.Ownership(change)
		if !ok {
			continue
		}
		n.epochs[own.ID] = own.Record
		if h := n.hosts[own.ID]; h != nil {
			h.step(ctx, dispatcher.Observed{Record: own.Record})
		}
		for _, effect := range n.core.Step(maintainer.RecordObserved{Record: own}) {
			if start, ok := effect.(maintainer.StartMaintainer); ok {
				f := newFeed(n, start.Ownership)
				n.feeds[own.ID] = f
				f.step(ctx, maintainer.Started{})
			}
		}
	}
}

// tick lets time pass for whoever waits for it.
func (n *node) tick(ctx context.Context, listened changefeed.Time) {
	for _, f := range n.feeds {
		if f.next <= listened {
			f.step(ctx, maintainer.Ticked{Listened: listened})
			f.next = n.now().Add(f.core.Pause())
		}
	}
	if n.cluster.moving.Load() && time.Since(n.movedAt) >= heartbeat {
		n.movedAt = time.Now()
		for _, h := range n.hosts {
			h.move(ctx)
		}
	}
	for len(n.due) > 0 && n.due[0].at <= listened {
		h := n.due[0].host
		heap.Pop(&n.due)
		h.tick(ctx, listened)
	}
}

func (n *node) send(envelope message.Envelope) {
	one, err := pack(envelope)
	if err != nil {
		n.cluster.fail(err)
		return
	}
	n.cluster.byID[one.to].post(one)
}

// dues is a heap of when hosted changefeeds want to be ticked.
type dues []dueAt

type dueAt struct {
	at   changefeed.Time
	host *hosted
}

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at < d[j].at }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)        { *d = append(*d, x.(dueAt)) } //nolint:errcheck // ours
func (d *dues) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}
