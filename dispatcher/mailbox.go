package dispatcher

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/failpoint"
	"fencerow/message"
)

const (
	// mailboxMax bounds the messages that wait in one mailbox. A maintainer that places 10,000 spans on one host sends
	// that many; what is dropped above it is asked again.
	mailboxMax = 16_384
	// readTimeout bounds one read of a record. The maintainer repeats its Bootstrap.
	readTimeout = 5 * time.Second
	// acknowledgeEvery is the longest time between two tries to acknowledge an eviction.
	acknowledgeEvery = 2 * time.Second
)

// mailbox holds what one changefeed's core is to be told. Anybody puts in, one goroutine reads; it never waits for
// anything but its mailbox, so that no slow source, sink or record holds up what the owner asks.
type mailbox struct {
	host    *Host
	id      changefeed.ID
	legacy  bool // when it was made
	running atomic.Int64

	mu       sync.Mutex // guards what follows
	inputs   []Input    // in the order they came
	messages int        // among them
	dirty    []*pump    // those that have progress to tell
	wake     chan struct{}
}

func newMailbox(host *Host, id changefeed.ID) *mailbox {
	return &mailbox{host: host, id: id, legacy: host.legacy, wake: make(chan struct{}, 1)}
}

// offer puts a message in, if there is room: messages may be lost.
func (m *mailbox) offer(envelope message.Envelope) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.messages >= mailboxMax {
		return false
	}
	m.messages++
	m.inputs = append(m.inputs, Deliver{Envelope: envelope})
	m.signal()
	return true
}

// push puts something in that must not be lost. There is at most one for each pump and read, and the records' changes.
func (m *mailbox) push(input Input) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inputs = append(m.inputs, input)
	m.signal()
}

// moved says that a pump has progress to tell, at the next tick or, if its state changed, at once.
func (m *mailbox) moved(p *pump, pace pace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty = append(m.dirty, p)
	if pace == atOnce {
		m.signal()
	}
}

// nudge has the mailbox read at once.
func (m *mailbox) nudge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signal()
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() ([]Input, []*pump) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inputs, dirty := m.inputs, m.dirty
	m.inputs, m.dirty, m.messages = nil, nil, 0
	return inputs, dirty
}

func (m *mailbox) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.inputs) == 0 && len(m.dirty) == 0
}

// reading is the state of the goroutine that reads a mailbox.
type reading struct {
	*mailbox
	core  *Core
	log   *zap.Logger
	pumps map[fence.Token]*pump
	links map[linksKey]*links
	tasks sync.WaitGroup // pumps, reads, acknowledgements

	acknowledging atomic.Int64 // acknowledgements under way: they must outlive what the core remembers of them
}

// run reads the mailbox until its core is forgotten, or until ctx has ended and no pump runs any more.
func (m *mailbox) run(ctx context.Context) {
	config := &m.host.config
	r := &reading{
		mailbox: m,
		core:    NewCore(CoreConfig{ID: m.id, Node: config.Node, Legacy: m.legacy}),
		log:     config.Logger.With(zap.Stringer("changefeed", m.id)),
		pumps:   make(map[fence.Token]*pump),
		links:   make(map[linksKey]*links),
	}
	tasks, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer r.tasks.Wait()
	defer cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ended := ctx.Done()
	for {
		r.read(tasks)
		if ctx.Err() != nil && ended == nil && r.core.Running() == 0 {
			return
		}
		if ended != nil && r.core.Idle() && r.acknowledging.Load() == 0 && m.host.forget(m) {
			return
		}
		var due <-chan time.Time
		if at, found := r.core.Due(); found {
			timer.Reset(max(at.Sub(m.host.now()), 0))
			due = timer.C
		}
		select {
		case <-m.wake:
		case <-due:
			r.read(tasks) // so that a heartbeat tells what is, not what was at the one before
			r.step(tasks, Tick{})
		case <-ended:
			ended = nil
			r.leave(tasks)
		}
	}
}

// leave ends everything: in good order while the session lives, else at once.
func (r *reading) leave(tasks context.Context) {
	if r.host.config.Session.Alive() {
		r.step(tasks, Leaving{})
		return
	}
	r.step(tasks, SessionEnded{})
}

// read tells the core what came in.
func (r *reading) read(tasks context.Context) {
	inputs, dirty := r.take()
	for _, p := range dirty {
		r.step(tasks, Reported{Token: p.start.Token, Progress: p.sample()})
	}
	for _, input := range inputs {
		r.step(tasks, input)
	}
}

// step tells the core one thing, and does what it decides.
func (r *reading) step(tasks context.Context, input Input) {
	if in, ok := input.(DispatcherEnded); ok {
		if failpoint.On {
			failpoint.Trace("end", map[string]any{
				"node": r.host.config.Node, "uid": r.pumps[in.Token].start.UID, "epoch": in.Token.Epoch(), "seq": in.Token.Seq(),
			})
		}
		delete(r.pumps, in.Token)
		r.log.Info("dispatcher ended", zap.Stringer("token", in.Token), zap.Stringer("mark", in.Progress.Mark),
			zap.Bool("known", in.Progress.Known), faultField(in.Fault))
	}
	if in, ok := input.(Observed); failpoint.On && ok {
		failpoint.Trace("known", map[string]any{
			"node": r.host.config.Node, "namespace": r.id.Namespace, "name": r.id.Name, "uid": in.Record.UID, "epoch": in.Record.Epoch,
		})
	}
	for _, effect := range r.core.Step(r.host.now(), input) {
		r.execute(tasks, effect)
	}
	if n := int64(r.core.Running()); r.running.Swap(n) != n {
		r.host.config.Metrics.dispatchers.WithLabelValues(r.id.Namespace, r.id.Name).Set(float64(n))
	}
}

func faultField(fault *changefeed.Fault) zap.Field {
	if fault == nil {
		return zap.Skip()
	}
	return zap.Error(fault)
}

// execute does one effect. Nothing in it waits.
func (r *reading) execute(tasks context.Context, effect Effect) {
	switch e := effect.(type) {
	case Send:
		r.host.config.Sender.Send(e.Envelope)
	case Refused:
		r.host.config.Metrics.Refused(e.Refusal.Rule())
		if tell := r.host.config.Rejected; tell != nil {
			tell(Rejection{
				ID: r.id, UID: e.UID, From: e.From, Rule: e.Refusal.Rule(), Command: e.Command.String(), Offered: e.Offered, Held: e.Held,
			})
		}
		r.log.Debug("command refused", zap.String("rule", e.Refusal.Rule()), zap.Stringer("command", e.Command))
	case ReadRecord:
		r.tasks.Go(func() { r.readRecord(tasks, e.Request) })
	case StartPump:
		r.startPump(tasks, e)
	case StopPump:
		if p := r.pumps[e.Token]; p != nil {
			p.stop(e.At)
		}
	case HoldPump:
		if p := r.pumps[e.Token]; p != nil {
			p.hold(e.Order, e.At)
		}
	case SyncPump:
		if p := r.pumps[e.Token]; p != nil {
			p.sync(e.At)
		}
	case CancelPump:
		if p := r.pumps[e.Token]; p != nil {
			p.cancel()
		}
	case AcknowledgeEviction:
		r.acknowledging.Add(1)
		r.tasks.Go(func() {
			defer r.nudge()
			defer r.acknowledging.Add(-1)
			r.acknowledge(tasks, e)
		})
	}
}

func (r *reading) readRecord(tasks context.Context, request uint64) {
	ctx, cancel := context.WithTimeout(tasks, readTimeout)
	defer cancel()
	found, exists, err := r.host.config.Records.Epoch(ctx, r.id)
	if err != nil {
		r.log.Warn("epoch record not read", zap.Error(err))
	}
	r.push(RecordAnswer{Request: request, Record: found, Found: exists, Failed: err != nil})
}

// acknowledge tells the records that an eviction is done, until they take it or it has become stale.
func (r *reading) acknowledge(tasks context.Context, e AcknowledgeEviction) {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = acknowledgeEvery
	done := Acknowledgement{ID: r.id, UID: e.UID, Token: e.Token, Finals: e.Finals}
	_, err := backoff.Retry(tasks, func() (struct{}, error) {
		err := r.host.config.Evictions.Acknowledge(tasks, done)
		if errors.Is(err, fence.ErrStale) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
	if err != nil {
		r.log.Warn("eviction not acknowledged", zap.Stringer("token", e.Token), zap.Error(err))
	}
}

func (r *reading) startPump(tasks context.Context, e StartPump) {
	key := linksKey{uid: e.UID, revision: e.SpecRevision}
	shared := r.links[key]
	if shared == nil || !shared.acquire() {
		shared = newLinks(r.host.config.Opener, e.Spec)
		r.links[key] = shared
	}
	for other, l := range r.links {
		if l.done() {
			delete(r.links, other)
		}
	}
	p := newPump(pumpConfig{
		start: e, links: shared, session: r.host.config.Session, clock: r.host.now, metrics: r.host.config.Metrics,
		mailbox: r.mailbox, ahead: &r.host.ahead, traced: r.host.config.Traced, log: r.log.With(zap.Stringer("token", e.Token)),
	})
	r.pumps[e.Token] = p
	ctx, cancel := context.WithCancel(tasks)
	p.cancelContext = cancel
	if failpoint.On {
		failpoint.Trace("start", map[string]any{
			"node": r.host.config.Node, "namespace": r.id.Namespace, "name": r.id.Name, "uid": e.UID,
			"epoch": e.Token.Epoch(), "seq": e.Token.Seq(), "start": e.Span.Start, "end": e.Span.End,
		})
	}
	r.log.Info("dispatcher starts", zap.Stringer("token", e.Token))
	r.tasks.Go(func() {
		defer cancel()
		p.run(ctx)
	})
}
