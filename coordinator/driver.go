package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/trace"
)

// Bounds of the driver.
const (
	// bumpBatchMax is what fits one transaction, so that no bump waits for those of another.
	bumpBatchMax = 32
	// handoffBatchMax likewise.
	handoffBatchMax = 32
	// tickEvery is how exact the core's delays are.
	tickEvery = 100 * time.Millisecond
	// writeTimeout is after how long a write's outcome is called unknown.
	writeTimeout = 5 * time.Second
	// answersMax is above what the core has in flight, so that no answer waits while the loop sends effects.
	answersMax = BumpsInFlightMax + choresInFlightMax + trimsInFlightMax + expelsInFlightMax + 2
)

// ErrWatchEnded says that what was observed ended before the term: the coordinator can't go on.
var ErrWatchEnded = errors.New("coordinator: the watch of the records ended")

// ErrDistrust says that what was observed is not what is stored: the next term has to list anew.
var ErrDistrust = errors.New("coordinator: the records are not as they are watched")

// Store does the core's writes, each guarded by the election key of the term that it was made for. Its errors are of
// five classes: nil (done), [fence.ErrDeposed] (the term is over), [fence.ErrStale] (not done: decide afresh),
// [fence.ErrUnknown] (may have been done), anything else (not done, may be tried again). It resolves unknown outcomes by
// the nonce as far as it can. It may be called concurrently.
type Store interface {
	// Bump does independent bumps; the outcomes are in the same order.
	Bump(ctx context.Context, decisions []Decision) []Outcome
	// RequestHandoffs asks owners to release; the errors are in the same order.
	RequestHandoffs(ctx context.Context, handoffs []Handoff) []error
	Remove(ctx context.Context, removal Removal) error
	Upkeep
}

// Upkeep is the writes that are not about who owns what.
type Upkeep interface {
	TrimHistory(ctx context.Context, id changefeed.ID) error
	RaiseLevel(ctx context.Context, level int) error
	// Expel revokes the lease of a node that did not acknowledge an eviction, if that still stands.
	Expel(ctx context.Context, expulsion Expulsion) error
	// Probe writes something of the term that is no record of a changefeed, such as the election key's own value.
	Probe(ctx context.Context) error
}

// Watch observes the records.
type Watch interface {
	// Inputs delivers what is observed: every record as it stood after the election, a Listed, then what changes. Bounded
	// by its reader; closed when the watch can't go on.
	Inputs() <-chan []Input
	// Age says how old what was delivered is.
	Age() time.Duration
}

// Driver runs a core for one term.
type Driver struct {
	core    *Core
	term    int64
	store   Store
	watch   Watch
	metrics *Metrics
	log     *zap.Logger
	traced  trace.Recorder
	started time.Time
	answers chan Input
}

// Parts is what a driver is made of.
type Parts struct {
	Store   Store
	Watch   Watch
	Metrics *Metrics
	Log     *zap.Logger
	Traced  trace.Recorder // may be nil
}

// NewDriver returns the driver of the term in config. A new term is a new driver.
func NewDriver(config Config, parts Parts) (*Driver, error) {
	core, err := NewCore(config, 0)
	if err != nil {
		return nil, err
	}
	return &Driver{
		core: core, term: config.Term, store: parts.Store, watch: parts.Watch, metrics: parts.Metrics,
		log: parts.Log.Named("coordinator").With(zap.Int64("term", config.Term)), started: time.Now(), traced: parts.Traced,
		answers: make(chan Input, answersMax),
	}, nil
}

// Run coordinates until ctx ends, which it must when the term does, or until the store says that the term is over
// ([fence.ErrDeposed]) the watch ends ([ErrWatchEnded]), or it can't be right ([ErrDistrust]). Whatever it began has ended when it returns.
func (d *Driver) Run(ctx context.Context) error {
	d.metrics.term.Set(float64(d.term))
	defer d.metrics.term.Set(0)
	defer d.metrics.writesFailing.Set(0)
	d.log.Info("became coordinator")
	defer d.log.Info("coordinator no more")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.loop(ctx, group) })
	return group.Wait()
}

func (d *Driver) loop(ctx context.Context, group *errgroup.Group) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		// Together the steps of one turn make large batches.
		var effects []Effect
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case inputs, open := <-d.watch.Inputs():
			if !open {
				return ErrWatchEnded
			}
			for _, in := range inputs {
				effects = append(effects, d.step(in)...)
			}
		case answer := <-d.answers:
			effects = append(effects, d.step(answer)...)
			for range len(d.answers) {
				effects = append(effects, d.step(<-d.answers)...)
			}
		case <-ticker.C:
		}
		effects = append(effects, d.step(Tick{WatchAge: d.watch.Age()})...)
		if err := distrusted(effects); err != nil {
			return err
		}
		d.do(ctx, group, effects)
	}
}

// distrusted returns an error if the core gave up what it watches.
func distrusted(effects []Effect) error {
	for _, effect := range effects {
		if distrust, found := effect.(Distrust); found {
			return fmt.Errorf("%w: what is watched of %s is not what is stored", ErrDistrust, distrust.ID)
		}
	}
	return nil
}

func (d *Driver) step(in Input) []Effect {
	return d.core.Step(changefeed.Time(time.Since(d.started)), in)
}

// do sends effects. Each is answered exactly once, unless the term ends before.
func (d *Driver) do(ctx context.Context, group *errgroup.Group, effects []Effect) {
	var bumps []Decision
	var handoffs []Handoff
	for _, effect := range effects {
		switch effect := effect.(type) {
		case Bump:
			bumps = append(bumps, effect.Decision)
		case RequestHandoff:
			handoffs = append(handoffs, effect.Handoff)
		default:
			d.doOne(ctx, group, effect)
		}
	}
	for batch := range batches(bumps, bumpBatchMax) {
		d.spawn(ctx, group, func(ctx context.Context) []Input { return d.bump(ctx, batch) })
	}
	for batch := range batches(handoffs, handoffBatchMax) {
		d.spawn(ctx, group, func(ctx context.Context) []Input { return d.requestHandoffs(ctx, batch) })
	}
}

func (d *Driver) doOne(ctx context.Context, group *errgroup.Group, effect Effect) {
	answer := func(do func(ctx context.Context) Input) {
		d.spawn(ctx, group, func(ctx context.Context) []Input { return []Input{do(ctx)} })
	}
	switch effect := effect.(type) {
	case Remove:
		answer(func(ctx context.Context) Input {
			return RemoveAnswered{Removal: effect.Removal, Err: d.store.Remove(ctx, effect.Removal)}
		})
	case TrimHistory:
		answer(func(ctx context.Context) Input {
			return TrimAnswered{ID: effect.ID, Err: d.store.TrimHistory(ctx, effect.ID)}
		})
	case RaiseLevel:
		answer(func(ctx context.Context) Input { return LevelAnswered{Err: d.store.RaiseLevel(ctx, effect.Level)} })
	case Expel:
		answer(func(ctx context.Context) Input {
			d.log.Warn("a node did not acknowledge its eviction in time: its lease is revoked",
				zap.String("node", string(effect.Expulsion.Node)), zap.String("uid", string(effect.Expulsion.UID)))
			return ExpelAnswered{Expulsion: effect.Expulsion, Err: d.store.Expel(ctx, effect.Expulsion)}
		})
	case Probe:
		answer(func(ctx context.Context) Input { return ProbeAnswered{Err: d.store.Probe(ctx)} })
	default:
		d.report(effect)
	}
}

// report tells people what the core reports.
func (d *Driver) report(effect Effect) {
	switch effect := effect.(type) {
	case Bumped:
		d.metrics.bumps.WithLabelValues(string(effect.Record.Reason)).Inc()
		d.log.Info("epoch bumped", zap.Stringer("changefeed", effect.ID), zap.Uint64("epoch", uint64(effect.Record.Epoch)),
			zap.String("owner", string(effect.Record.Owner)), zap.String("owner_name", effect.Record.OwnerName),
			zap.String("reason", string(effect.Record.Reason)))
	case Invalid:
		d.log.Error("record does not parse; the changefeed is left alone until it is corrected",
			zap.Stringer("changefeed", effect.ID), zap.String("record", effect.Record), zap.String("fault", effect.Fault))
	case WritesFailing:
		if effect.Err == nil {
			d.metrics.writesFailing.Set(0)
			d.log.Info("writes succeed again")
			return
		}
		d.metrics.writesFailing.Set(1)
		d.log.Error("writes fail: nothing is decided until they succeed", zap.Error(effect.Err))
	}
}

// spawn does a write beside the loop. How many there are is bounded by the core.
func (d *Driver) spawn(ctx context.Context, group *errgroup.Group, write func(context.Context) []Input) {
	group.Go(func() error {
		timed, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		for _, answer := range write(timed) {
			if errors.Is(errorOf(answer), fence.ErrDeposed) {
				return fmt.Errorf("coordinator: term %d: %w", d.term, fence.ErrDeposed)
			}
			select {
			case d.answers <- answer:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
}

func (d *Driver) bump(ctx context.Context, decisions []Decision) []Input {
	begun := time.Now()
	outcomes := d.store.Bump(ctx, decisions)
	took := time.Since(begun).Seconds()
	answers := make([]Input, len(decisions))
	for i, decision := range decisions {
		outcome := Outcome{Err: fmt.Errorf("coordinator: bump %s: %w: no outcome", decision.ID, fence.ErrUnknown)}
		if i < len(outcomes) {
			outcome = outcomes[i]
		}
		if outcome.Err == nil {
			d.metrics.bumpSeconds.Observe(took)
			d.traced.Record(trace.Step{
				Kind: trace.Bump, ID: decision.ID, UID: outcome.Record.UID, Epoch: outcome.Record.Epoch, From: begun, To: time.Now(),
				Reason: outcome.Record.Reason, Owner: outcome.Record.OwnerName,
			})
		}
		answers[i] = BumpAnswered{ID: decision.ID, Nonce: decision.Nonce, Outcome: outcome}
	}
	return answers
}

func (d *Driver) requestHandoffs(ctx context.Context, handoffs []Handoff) []Input {
	failures := d.store.RequestHandoffs(ctx, handoffs)
	answers := make([]Input, len(handoffs))
	for i, handoff := range handoffs {
		err := fmt.Errorf("coordinator: request handoff of %s: %w: no outcome", handoff.ID, fence.ErrUnknown)
		if i < len(failures) {
			err = failures[i]
		}
		answers[i] = HandoffAnswered{Handoff: handoff, Err: err}
	}
	return answers
}

func errorOf(answer Input) error {
	switch answer := answer.(type) {
	case BumpAnswered:
		return answer.Outcome.Err
	case HandoffAnswered:
		return answer.Err
	case RemoveAnswered:
		return answer.Err
	case TrimAnswered:
		return answer.Err
	case LevelAnswered:
		return answer.Err
	case ExpelAnswered:
		return answer.Err
	case ProbeAnswered:
		return answer.Err
	default:
		return nil
	}
}

// batches cuts a list into parts of at most size.
func batches[T any](list []T, size int) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(list) > 0 {
			n := min(size, len(list))
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}
