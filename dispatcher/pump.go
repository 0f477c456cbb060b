package dispatcher

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/trace"
)

const (
	// retryFirst and retryLongest bound the pauses between two tries.
	retryFirst   = 100 * time.Millisecond
	retryLongest = 10 * time.Second
	// progressEvery is how often marks are written that moved without a change. A change is never held back for it.
	progressEvery = 500 * time.Millisecond
	// waitsLookEvery is how often a reader that has nothing is asked what it waits for.
	waitsLookEvery = time.Second
	// closeWait is how long the closing of a reader, a writer, a source or a sink is waited for. What hangs longer is
	// left behind: it has no claim and no write any more.
	closeWait = 5 * time.Second
)

// What a dispatcher waits for, as people are shown it.
const (
	waitsForSource = "source"
	waitsForClaim  = "sink claim"
	waitsForWrite  = "sink write"
	waitsForLog    = "redo log of other spans"
	waitsForRetry  = "next try"
)

// Ends of a pump that are no faults.
var (
	errStopped = errors.New("dispatcher: stopped as asked")
	errRevoked = errors.New("dispatcher: the token was revoked or the session has ended")
)

// pace says how soon progress is told.
type pace uint8

const (
	inTurn pace = iota
	atOnce
)

type pumpConfig struct {
	start   StartPump
	links   *links
	session Session // the one it was started under; never a later one
	clock   func() changefeed.Time
	metrics *Metrics
	mailbox *mailbox
	ahead   *readAhead
	log     *zap.Logger
	traced  trace.Recorder
}

// pump moves the changes of one span from the source to the sink, under one token. Its goroutine claims the span, and
// then writes one batch while another goroutine reads what comes next.
//
// The order on the data path is: claim, read from the pieces that the claim returned, write, count. Crash between two
// of them: the pieces in the sink say what was done; nothing else is believed.
type pump struct {
	pumpConfig
	limits        limits
	writes        prometheus.Observer
	cancelContext context.CancelFunc
	revoked       atomic.Bool
	traffic       Traffic
	fenced        bool
	began         time.Time
	wrote         bool   // the first write was traced
	unknown       bool   // the last write's outcome is not known, and no claim has told since
	obeyed        uint64 // the order of the hold that it obeys
	apart         bool   // pages are written one by one, since together it failed
	doubt         *Forgotten

	mu       sync.Mutex // guards what follows
	progress Progress
	dirty    bool
	order    *stopOrder
	held     holdOrder
	ordered  chan struct{} // an order came
}

// stopOrder is what a pump was asked to stop at; the zero mark is at once.
type stopOrder struct{ at change.Mark }

func newPump(config pumpConfig) *pump {
	kind, _, _ := strings.Cut(config.start.Spec.Sink, ":")
	return &pump{
		pumpConfig: config,
		limits:     limitsOf(config.start.Spec),
		writes:     config.metrics.writes.WithLabelValues(kind),
		ordered:    make(chan struct{}, 1),
		began:      time.Now(),
		held:       holdOrder{order: config.start.Order, at: config.start.Hold},
		traffic:    NewTraffic(SampleRate, uint64(config.start.Token.Seq())),
	}
}

// traceFirst tells of the first write that is durable.
func (p *pump) traceFirst() {
	if p.wrote {
		return
	}
	p.wrote = true
	p.traced.Record(trace.Step{
		Kind: trace.FirstWrite, ID: p.start.Spec.ID(), UID: p.start.UID, Epoch: p.start.Token.Epoch(), Seq: p.start.Token.Seq(),
		From: p.began, To: time.Now(),
	})
}

// stop asks the pump to stop at a mark, or at once. At once is not taken back.
func (p *pump) stop(at change.Mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.order != nil && p.order.at == (change.Mark{}) {
		return
	}
	p.order = &stopOrder{at: at}
	notify(p.ordered)
}

// cancel revokes the token: no write begins any more, and the one in flight is cancelled.
func (p *pump) cancel() {
	p.revoked.Store(true)
	p.cancelContext()
}

// asked returns the stop order; false if there is none.
func (p *pump) asked() (change.Mark, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.order == nil {
		return change.Mark{}, false
	}
	return p.order.at, true
}

// stopsNow reports whether the pump was asked to stop at once.
func (p *pump) stopsNow() bool {
	at, asked := p.asked()
	return asked && at == change.Mark{}
}

// sample returns the progress for the owner.
func (p *pump) sample() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirty = false
	return p.progress
}

// known returns the progress as the pump itself sees it.
func (p *pump) known() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress
}

// publish changes the progress, and has it told.
func (p *pump) publish(pace pace, update func(*Progress)) {
	p.mu.Lock()
	update(&p.progress)
	tell := !p.dirty || pace == atOnce
	p.dirty = true
	p.mu.Unlock()
	if tell {
		p.mailbox.moved(p, pace)
	}
}

// waits tells what the pump waits for from now on.
func (p *pump) waits(what string) {
	now := p.clock()
	p.publish(inTurn, func(progress *Progress) { progress.WaitingOn, progress.WaitingSince = what, now })
}

// run tries until it is asked to stop, has lost its right, or has failed for good. It says that it has ended as soon
// as no write is in flight any more, and only then closes what it opened, which may take long.
func (p *pump) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = retryFirst, retryLongest, 2
	failures := 0
	for {
		a := &attempt{pump: p}
		err := a.do(ctx)
		if a.moved {
			failures = 0
			pause.Reset()
		}
		failures++
		outcome := p.judge(ctx, a, err, failures)
		if outcome.Over {
			p.end(outcome.Fault)
			p.closing(func() {
				a.close(p.log)
				for _, err := range p.links.release() {
					if err != nil {
						p.log.Warn("source or sink not closed", zap.Error(err))
					}
				}
			})
			return
		}
		p.closing(func() { a.close(p.log) })
		p.doubt = outcome.Doubt
		if failures == 1 && (errors.Is(err, fence.ErrUnknown) || p.doubt != nil) {
			continue // the claim tells what became of the write, or whether others have written
		}
		p.log.Warn("dispatcher tries again", zap.Int("failures", failures), zap.Error(err))
		p.publish(atOnce, func(progress *Progress) { progress.Fault = outcome.Fault })
		p.rest(ctx, pause.NextBackOff())
	}
}

// judge says whether the pump is over, and with which fault.
func (p *pump) judge(ctx context.Context, a *attempt, err error, failures int) Outcome {
	ended := Attempt{
		Err: err, Asked: p.revoked.Load() || ctx.Err() != nil || p.stopsNow(), Failures: failures, Retries: p.limits.retries,
		Code: changefeed.CodeSinkUnreachable, Claimed: Pieces{held: a.pieces},
	}
	if from, ok := errors.AsType[*originError](err); ok {
		ended.Code = from.code
	}
	outcome := ended.Outcome()
	if outcome.Fenced {
		p.log.Info("shut out by the sink", zap.Error(err))
		p.fenced = true
	}
	return outcome
}

// end tells the core that the pump has no effect any more.
func (p *pump) end(fault *changefeed.Fault) {
	final := p.known()
	if p.unknown {
		final.Known = false // a write may have landed: the mark is only the last that is known
	}
	p.mailbox.push(DispatcherEnded{Token: p.start.Token, Progress: final, Fault: fault, Fenced: p.fenced})
}

// rest waits before the next try, until an order comes.
func (p *pump) rest(ctx context.Context, d time.Duration) {
	p.waits(waitsForRetry)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ordered:
		notify(p.ordered) // the next try sees it too
	case <-ctx.Done():
	}
}

// closing closes something, and waits for it only so long.
func (p *pump) closing(closeAll func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		closeAll()
	}()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		p.log.Warn("closing takes too long, left behind")
	}
}
