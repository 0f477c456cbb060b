package maintainer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/failpoint"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
	"fencerow/trace"
)

// resultsMax is above the number of requests that a core has under way, so that an answer never waits.
const resultsMax = 16

// runner drives one maintainer core: one goroutine steps it, one for each request that is under way waits for the
// answer.
type runner struct {
	host    *Host
	own     Ownership
	core    *Core
	log     *zap.Logger
	inbox   chan message.Envelope
	news    news
	results chan Input
	queries chan chan []SpanView
	done    chan struct{}
	stopped chan struct{} // closed by stop
	once    sync.Once
	cause   error
	ops     sync.WaitGroup
	view    atomic.Pointer[View]
	began   time.Time
	metered metered

	bootstrapped bool // the cover was built
	stepBegan    time.Time

	sink   sink.Sink // nil until opened
	source source.Source
	reader logReader
}

// news is what only matters in its newest form. It never blocks who brings it.
type news struct {
	mu      sync.Mutex // guards what follows, but wake
	list    *Nodes
	asked   *record.Handoff
	evicted map[changefeed.NodeID]record.Eviction
	leave   bool
	wake    chan struct{} // holds one token when there is something
}

func (n *news) nodes(nodes Nodes) {
	n.mu.Lock()
	n.list = &nodes
	n.mu.Unlock()
	n.ring()
}

func (n *news) handoff(handoff record.Handoff) {
	n.mu.Lock()
	n.asked = &handoff
	n.mu.Unlock()
	n.ring()
}

func (n *news) eviction(node changefeed.NodeID, eviction record.Eviction) {
	n.mu.Lock()
	if n.evicted == nil {
		n.evicted = make(map[changefeed.NodeID]record.Eviction)
	}
	n.evicted[node] = eviction
	n.mu.Unlock()
	n.ring()
}

func (n *news) leaving() {
	n.mu.Lock()
	n.leave = true
	n.mu.Unlock()
	n.ring()
}

func (n *news) ring() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take returns what is new, in the order in which it is told.
func (n *news) take() []Input {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Input
	if n.list != nil {
		out = append(out, NodesWatched{Nodes: *n.list})
	}
	for _, node := range slices.Sorted(maps.Keys(n.evicted)) {
		out = append(out, EvictionSeen{Node: node, Eviction: n.evicted[node]})
	}
	if n.asked != nil {
		out = append(out, HandoffRequested{Handoff: *n.asked})
	}
	if n.leave {
		out = append(out, NodeLeaves{})
	}
	n.list, n.asked, n.evicted = nil, nil, nil
	return out
}

func newRunner(h *Host, own Ownership) *runner {
	return &runner{
		host: h, own: own, core: NewCore(h.cfg.Core, own),
		log:   h.deps.Log.With(zap.Stringer("changefeed", own.ID), zap.Uint64("epoch", uint64(own.Record.Epoch))),
		inbox: make(chan message.Envelope, inboxMax), news: news{wake: make(chan struct{}, 1)},
		results: make(chan Input, resultsMax), queries: make(chan chan []SpanView), done: make(chan struct{}),
		stopped: make(chan struct{}), began: time.Now(),
	}
}

// stop tells the runner to end. It does not wait.
func (r *runner) stop(cause error) {
	r.once.Do(func() {
		r.cause = cause
		close(r.stopped)
	})
}

// run steps the core until it ends, is told to stop, or the session is over. When it returns nothing of the maintainer
// has an effect any more.
func (r *runner) run(parent context.Context) {
	defer close(r.done)
	ctx, cancel := context.WithCancelCause(parent)
	defer r.close()
	defer r.reader.close()
	defer r.ops.Wait()
	defer cancel(fence.ErrDeposed)
	r.stepBegan = time.Now()
	r.trace(trace.Start, r.began)
	r.log.Info("became owner", zap.String("reason", string(r.own.Record.Reason)))
	timer := time.NewTimer(r.core.Pause())
	defer timer.Stop()
	outcome := r.step(ctx, Started{NodesChangedAt: r.host.nodesChangedAt()})
	for outcome == 0 {
		select {
		case <-ctx.Done():
			outcome = OutcomeStopped
		case <-r.stopped:
			outcome = OutcomeStopped
		case env := <-r.inbox:
			outcome = r.step(ctx, Received{Envelope: env})
		case in := <-r.results:
			outcome = r.step(ctx, in)
		case <-r.news.wake:
			for _, in := range r.news.take() {
				if outcome == 0 {
					outcome = r.step(ctx, in)
				}
			}
		case answer := <-r.queries:
			answer <- r.core.Spans(r.now().At)
		case <-timer.C:
			outcome = r.tick(ctx)
			timer.Reset(r.core.Pause())
		}
	}
	r.log.Info("is no longer owner", zap.Stringer("outcome", outcome), zap.Error(r.reason()))
}

// tick lets time pass, after what has arrived by now was told: who has reported is not silent.
func (r *runner) tick(ctx context.Context) Outcome {
	listened := r.now().At
	for range len(r.inbox) {
		if outcome := r.step(ctx, Received{Envelope: <-r.inbox}); outcome != 0 {
			return outcome
		}
	}
	return r.step(ctx, Ticked{Listened: listened})
}

func (r *runner) reason() error {
	select {
	case <-r.stopped:
		return r.cause
	default:
		return nil
	}
}

// close ends the connections; all requests have ended.
func (r *runner) close() {
	r.host.deps.Metrics.forget(r.own.ID, r.metered.state)
	var err error
	if r.sink != nil {
		err = errors.Join(err, r.sink.Close())
	}
	if r.source != nil {
		err = errors.Join(err, r.source.Close())
	}
	if err != nil {
		r.log.Warn("connections did not close cleanly", zap.Error(err))
	}
}

// now is the moment of a step.
func (r *runner) now() Now { return Now{At: r.host.now(), Wall: time.Now().UTC()} }

// step takes an input in and does what the core decided. It returns an outcome when the maintainer has ended.
func (r *runner) step(ctx context.Context, in Input) Outcome {
	if !r.host.deps.Session.Alive() {
		r.stop(errors.New("the session is over"))
		return OutcomeStopped
	}
	r.logResult(in)
	now := r.now()
	effects := r.core.Step(now, in)
	r.watch(r.core.View(now.At))
	for _, effect := range effects {
		switch effect := effect.(type) {
		case Send:
			if failpoint.On {
				hold(ctx, effect.Envelope)
			}
			r.host.deps.Sender.Send(effect.Envelope)
		case Open:
			r.results <- r.open(effect.Spec)
		case ServeLog:
			r.serveLog(ctx, effect)
		case Acknowledge:
			r.reader.log.Acknowledge(effect.Stored)
		case Refused:
			r.host.deps.Metrics.refused(effect.Rule)
		case Moved:
			r.host.deps.Metrics.motions.WithLabelValues(effect.Why.String()).Inc()
		case End:
			return effect.Outcome
		default:
			r.request(ctx, effect)
		}
	}
	return 0
}

// hold waits at an armed failpoint, and tells of what is placed.
func hold(ctx context.Context, env message.Envelope) {
	failpoint.Hold(ctx, failpoint.Send, func() string { return fmt.Sprintf("%T of %v to %s", env.Body, env.ID, env.To) })
	if place, ok := env.Body.(message.Place); ok {
		failpoint.Trace("place", map[string]any{
			"node": env.From, "to": env.To, "namespace": env.ID.Namespace, "name": env.ID.Name, "uid": env.UID,
			"epoch": env.Epoch, "seq": place.Seq, "start": place.Span.Start, "end": place.Span.End,
		})
	}
}

// watch keeps the summary for others, and logs what changed.
func (r *runner) watch(view View) {
	before := r.view.Swap(&view)
	if view.State != "" && (before == nil || before.State != view.State) {
		r.log.Info("state changed", zap.String("state", string(view.State)), zap.Stringer("checkpoint", view.Checkpoint))
	}
	if view.Spans > 0 && !r.bootstrapped {
		r.bootstrapped = true
		r.trace(trace.Bootstrap, r.stepBegan)
		r.stepBegan = time.Now()
	}
	if view.Settled && !r.metered.settled {
		r.trace(trace.Place, r.stepBegan)
		r.metered.settled = true
		r.host.deps.Metrics.takeover.Observe(time.Since(r.began).Seconds())
	}
	r.host.deps.Metrics.observe(view, &r.metered)
}

// trace says that a step of the ownership, begun then, is over.
func (r *runner) trace(kind trace.Kind, from time.Time) {
	r.host.deps.Traced.Record(trace.Step{
		Kind: kind, ID: r.own.ID, UID: r.own.Record.UID, Epoch: r.own.Record.Epoch, From: from, To: time.Now(),
	})
}

// logResult logs errors that the core turns into a retry or a state.
func (r *runner) logResult(in Input) {
	if raised, ok := in.(Raised); ok && errors.Is(raised.Err, fence.ErrStale) {
		r.host.deps.Metrics.refused(refusedFloor)
	}
	if err := inputError(in); err != nil {
		r.log.Warn("a request failed", zap.String("request", fmt.Sprintf("%T", in)), zap.Error(err))
	}
}

func inputError(in Input) error {
	switch in := in.(type) {
	case RecordsRead:
		return in.Err
	case Opened:
		return in.Err
	case Raised:
		return in.Err
	case StartResolved:
		return in.Err
	case NodesListed:
		return in.Err
	case SinkRemoved:
		return in.Err
	case SourceDropped:
		return in.Err
	case StatusWritten:
		return in.Err
	case StatusRead:
		return in.Err
	case EpochRead:
		return in.Err
	case EvictionPut:
		return in.Err
	case EvictionDropped:
		return in.Err
	case SyncRead:
		return in.Err
	}
	return nil
}

// open makes the connections. It does no I/O.
func (r *runner) open(spec record.Spec) Opened {
	if r.sink == nil {
		opened, fencing, err := r.host.deps.Opener.OpenSink(spec)
		if err != nil {
			return Opened{Err: fmt.Errorf("maintainer: open sink: %w", err)}
		}
		r.sink, r.metered.fencing = opened, fencing
	}
	if r.source == nil {
		opened, err := r.host.deps.Opener.OpenSource(spec, r.own)
		if err != nil {
			return Opened{Err: fmt.Errorf("maintainer: open source: %w", err)}
		}
		r.source = opened
	}
	_, syncs := r.sink.(sink.Syncing)
	_, serial := r.source.(source.Serial)
	return Opened{Whole: r.source.Span(), Fencing: r.metered.fencing, Syncs: syncs, Serial: serial}
}

// spans asks the goroutine of the core for the cover.
func (r *runner) spans(ctx context.Context) ([]SpanView, bool) {
	answer := make(chan []SpanView, 1)
	select {
	case r.queries <- answer:
		return <-answer, true
	case <-r.done:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
}
