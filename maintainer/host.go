package maintainer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/failpoint"
	"fencerow/message"
	"fencerow/record"
	"fencerow/trace"
)

// Bounds of the host's queues. Records may block whoever brings them; messages never do, they are dropped.
const (
	eventsMax = 256
	inboxMax  = 1024 // messages of one changefeed: a second of many nodes' heartbeats, and the answers to a burst
	// opTimeout bounds one request to a store, a sink or a source, so that its outcome is known to be unknown.
	opTimeoutDefault = 10 * time.Second
)

// HostConfig configures a host.
type HostConfig struct {
	Core      Config
	OpTimeout time.Duration // of one request; 0: 10 s
}

func (c *HostConfig) validate() error {
	var faults []error
	if c.Core.Node == "" {
		faults = append(faults, errors.New("the node id is empty"))
	}
	for _, item := range []struct {
		name  string
		value time.Duration
	}{
		{"session TTL", c.Core.SessionTTL},
		{"heartbeat", c.Core.Heartbeat},
		{"status interval", c.Core.StatusInterval},
		{"status refresh", c.Core.StatusRefresh},
		{"resend minimum", c.Core.ResendMin},
		{"resend maximum", c.Core.ResendMax},
		{"answer wait", c.Core.AnswerWait},
		{"stop wait", c.Core.StopWait},
	} {
		if item.value <= 0 {
			faults = append(faults, fmt.Errorf("%s %v is not above 0", item.name, item.value))
		}
	}
	return errors.Join(faults...)
}

// Deps is what a host works with. All are needed.
type Deps struct {
	Records   Records
	Statuses  StatusWriter
	Evictions EvictionWriter
	Sender    Sender
	Opener    Opener
	Logs      Logs
	Session   Session
	Log       *zap.Logger
	Metrics   *Metrics
	Traced    trace.Recorder // may be nil
}

func (d *Deps) validate() error {
	if d.Records == nil || d.Statuses == nil || d.Evictions == nil || d.Sender == nil || d.Opener == nil || d.Logs == nil || d.Session == nil ||
		d.Log == nil || d.Metrics == nil {
		return errors.New("a dependency is missing")
	}
	return nil
}

// Host runs the maintainers of the changefeeds that this node owns, each in a goroutine of its own, under one session.
// Its methods may be called by any goroutine; Run is called once.
type Host struct {
	cfg    HostConfig
	deps   Deps
	events chan HostInput
	done   chan struct{} // closed when Run has returned
	base   time.Time

	mu      sync.Mutex // guards what follows
	runners map[changefeed.ID]*runner
	latest  latest
}

// latest is what a maintainer that starts later is told too.
type latest struct {
	nodes     Nodes
	changedAt changefeed.Time // when nodes came or went last; this one's coming is the first that it sees
	handoffs  map[changefeed.ID]record.Handoff
	evictions map[changefeed.UID]map[changefeed.NodeID]record.Eviction
}

// NewHost returns a host that runs nothing.
func NewHost(cfg HostConfig, deps Deps) (*Host, error) {
	if cfg.OpTimeout == 0 {
		cfg.OpTimeout = opTimeoutDefault
	}
	if err := errors.Join(cfg.validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("maintainer: host: %w", err)
	}
	return &Host{
		cfg: cfg, deps: deps, events: make(chan HostInput, eventsMax), done: make(chan struct{}), base: time.Now(),
		runners: make(map[changefeed.ID]*runner), latest: latest{
			handoffs:  make(map[changefeed.ID]record.Handoff),
			evictions: make(map[changefeed.UID]map[changefeed.NodeID]record.Eviction),
		},
	}, nil
}

// Listed tells all epoch records there are. Like the other records it is told in the order of the watch.
func (h *Host) Listed(ctx context.Context, records []Ownership) error {
	return h.tell(ctx, RecordsListed{Records: records})
}

// Observed tells an epoch record that was written.
func (h *Host) Observed(ctx context.Context, own Ownership) error {
	return h.tell(ctx, RecordObserved{Record: own})
}

// Deleted tells that a changefeed's epoch record is gone.
func (h *Host) Deleted(ctx context.Context, id changefeed.ID) error {
	h.mu.Lock()
	delete(h.latest.handoffs, id)
	h.mu.Unlock()
	return h.tell(ctx, RecordDeleted{ID: id})
}

// SessionEnded tells that the node may own nothing any more: everything stops, and nothing starts again.
func (h *Host) SessionEnded(ctx context.Context) error { return h.tell(ctx, SessionEnded{}) }

// ErrStopped says that a host that has stopped was told something.
var ErrStopped = errors.New("maintainer: the host has stopped")

func (h *Host) tell(ctx context.Context, in HostInput) error {
	select {
	case h.events <- in:
		return nil
	case <-h.done:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("maintainer: tell the host: %w", context.Cause(ctx))
	}
}

// Handoff tells a handoff record that was listed or written. It never blocks.
func (h *Host) Handoff(id changefeed.ID, handoff record.Handoff) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest.handoffs[id] = handoff
	if r := h.runners[id]; r != nil {
		r.news.handoff(handoff)
	}
}

// HandoffDeleted tells that a handoff record is gone. It never blocks.
func (h *Host) HandoffDeleted(id changefeed.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.latest.handoffs, id)
}

// Evicted tells the eviction of a changefeed's dispatchers from a node that was listed or written. It never blocks.
func (h *Host) Evicted(uid changefeed.UID, node changefeed.NodeID, eviction record.Eviction) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.latest.evictions[uid]
	if of == nil {
		of = make(map[changefeed.NodeID]record.Eviction)
		h.latest.evictions[uid] = of
	}
	of[node] = eviction
	for _, r := range h.runners {
		if r.own.Record.UID == uid {
			r.news.eviction(node, eviction)
		}
	}
}

// EvictionDeleted tells that an eviction record is gone. It never blocks.
func (h *Host) EvictionDeleted(uid changefeed.UID, node changefeed.NodeID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.latest.evictions[uid], node)
	if len(h.latest.evictions[uid]) == 0 {
		delete(h.latest.evictions, uid)
	}
}

// now reads the clock of the host and of its maintainers. It is never 0, which cores use for "never".
func (h *Host) now() changefeed.Time { return changefeed.Time(time.Since(h.base) + time.Second) }

// nodesChangedAt returns when nodes came or went last.
func (h *Host) nodesChangedAt() changefeed.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest.changedAt
}

// NodesChanged tells all node records as of a revision. It never blocks.
func (h *Host) NodesChanged(nodes Nodes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if nodes.Revision < h.latest.nodes.Revision {
		return
	}
	if !nodes.SameAs(&h.latest.nodes) {
		h.latest.changedAt = h.now()
	}
	h.latest.nodes = nodes
	for _, r := range h.runners {
		r.news.nodes(nodes)
	}
}

// Deliver brings a message of a dispatcher host. It never blocks: one that finds no maintainer, or a full queue, is
// dropped, since whoever needs it asks again.
func (h *Host) Deliver(env message.Envelope) {
	h.mu.Lock()
	r := h.runners[env.ID]
	h.mu.Unlock()
	if r == nil {
		return
	}
	select {
	case r.inbox <- env:
	default:
		h.deps.Metrics.dropped.Inc()
	}
}

// Spans returns the cover of a changefeed that this node owns; false if it does not.
func (h *Host) Spans(ctx context.Context, id changefeed.ID) ([]SpanView, bool) {
	h.mu.Lock()
	r := h.runners[id]
	h.mu.Unlock()
	if r == nil {
		return nil, false
	}
	return r.spans(ctx)
}

// Views returns the changefeeds that this node owns, as they were at their last step, in no order.
func (h *Host) Views() []View {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]View, 0, len(h.runners))
	for _, r := range h.runners {
		if view := r.view.Load(); view != nil {
			out = append(out, *view)
		}
	}
	return out
}

// Count returns how many maintainers run.
func (h *Host) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.runners)
}

// Leave has every maintainer store its last checkpoint and end, in good order, and waits for that or for the context.
// Run goes on until its own context ends. Ownerships that come later are not started by a node that leaves: whoever
// calls this ends Run next.
func (h *Host) Leave(ctx context.Context) {
	h.mu.Lock()
	var leaving []*runner
	for _, r := range h.runners {
		r.news.leaving()
		leaving = append(leaving, r)
	}
	h.mu.Unlock()
	for _, r := range leaving {
		select {
		case <-r.done:
		case <-ctx.Done():
			return
		}
	}
}

// Run runs maintainers until the context ends, and then until all of them have stopped.
func (h *Host) Run(ctx context.Context) error {
	defer close(h.done)
	core := NewHostCore(h.cfg.Core.Node)
	ended := make(chan MaintainerEnded)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	defer group.Wait()
	stop := func() {
		h.do(core.Step(SessionEnded{}), nil)
		cancel(context.Canceled)
	}
	finished := ctx.Done()
	for {
		var in HostInput
		select {
		case in = <-h.events:
		case in = <-ended:
			gone := in.(MaintainerEnded) //nolint:errcheck // the channel's type
			h.forget(gone)
		case <-finished:
			finished = nil
			stop()
		}
		if in != nil {
			h.do(core.Step(in), func(own Ownership) {
				r := h.newRunner(own)
				group.Go(func() {
					if failpoint.On {
						failpoint.Hold(running, failpoint.Start, own.ID.String)
					}
					r.run(running)
					ended <- MaintainerEnded{ID: own.ID, Epoch: own.Record.Epoch}
				})
			})
		}
		if finished == nil && core.Running() == 0 {
			return nil
		}
	}
}

// do starts and stops maintainers. Neither waits for anything.
func (h *Host) do(effects []HostEffect, start func(Ownership)) {
	for _, effect := range effects {
		switch effect := effect.(type) {
		case StartMaintainer:
			start(effect.Ownership)
		case StopMaintainer:
			h.mu.Lock()
			if r := h.runners[effect.ID]; r != nil && r.own.Record.Epoch.Compare(effect.Epoch) == 0 {
				r.stop(fence.ErrDeposed)
				h.deps.Metrics.refused(refusedByRecord)
			}
			h.mu.Unlock()
		}
	}
}

func (h *Host) newRunner(own Ownership) *runner {
	r := newRunner(h, own)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runners[own.ID] = r
	if h.latest.nodes.Revision != 0 {
		r.news.nodes(h.latest.nodes)
	}
	if handoff, found := h.latest.handoffs[own.ID]; found {
		r.news.handoff(handoff)
	}
	for node, eviction := range h.latest.evictions[own.Record.UID] {
		r.news.eviction(node, eviction)
	}
	return r
}

func (h *Host) forget(gone MaintainerEnded) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.runners[gone.ID]; r != nil && r.own.Record.Epoch.Compare(gone.Epoch) == 0 {
		delete(h.runners, gone.ID)
	}
}
