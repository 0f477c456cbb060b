package serial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/wait"
	"fencerow/source"
)

const (
	// gatherQuiet is how long no further subscription must have come before the log is opened at the lowest of them, and
	// gatherMost bounds that: each that comes later, and is further behind, has it opened anew.
	gatherQuiet = 50 * time.Millisecond
	gatherMost  = 500 * time.Millisecond
	// lingerMax is how long a log without a subscription stays open: its dispatchers may only be claiming anew.
	lingerMax = 10 * time.Second
	// lookEvery is how often it is looked whether a subscription that holds up the log has room again.
	lookEvery = 100 * time.Millisecond
	// retriesMax is how often in a row the log is opened again after an error that time may heal, before the dispatchers
	// hear of it.
	retriesMax   = 3
	retryFirst   = 50 * time.Millisecond
	retryLongest = 2 * time.Second
)

// HubConfig is what a hub is made of.
type HubConfig struct {
	Changefeed changefeed.ID
	UID        changefeed.UID
	Epoch      fence.Epoch // of the ownership that it reads under
	Source     source.Serial
	Stored     change.Position // the stored checkpoint, as read after the epoch began
	Identity   string          // of the source, as it is stored with the checkpoint
}

// Hub is the one reader of a serial source's log. It opens the log when somebody subscribes, at the lowest mark, and again
// whenever a subscription comes that is further behind.
type Hub struct {
	config HubConfig
	node   *Node
	log    *zap.Logger
	came   chan struct{} // a subscription came or went

	mu       sync.Mutex // guards what follows
	subs     []*subscription
	ended    bool
	open     source.Log // nil when the log is not open
	at       change.Mark
	stored   change.Position // the highest stored checkpoint that was told
	floor    change.Position // from where on nothing is lost
	prepared bool
	rewind   context.CancelCauseFunc // stops following, since somebody is further behind; nil when the log is not open
}

var errRewind = errors.New("serial: a subscription is further behind than the log was opened")

// Run serves until ctx ends, and ends the subscriptions. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	h.node.register(h)
	defer h.close()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = retryFirst, retryLongest
	for failures := 0; ; {
		if !h.gather(ctx) {
			return nil
		}
		moved, err := h.follow(ctx)
		if moved {
			failures = 0
			pause.Reset()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, errRewind):
			continue
		case errors.Is(err, fence.ErrStale): // a newer owner: who watches the records stops this one
			h.log.Info("the log is another owner's", zap.Error(err))
			h.endAll(errEnded)
		case changefeed.AsFault(err, "").Permanent || failures >= retriesMax:
			h.log.Warn("the log can't be read", zap.Int("failures", failures+1), zap.Error(err))
			h.endAll(err)
			failures = 0
		default:
			failures++
			h.log.Info("the log is opened again", zap.Int("failures", failures), zap.Error(err))
			h.say("the source's log, which is opened again after: " + err.Error())
		}
		if !wait.For(ctx, pause.NextBackOff()) {
			return nil
		}
	}
}

// gather waits for subscriptions, and a little for more of them, unless one has everything; false if ctx ended.
func (h *Hub) gather(ctx context.Context) bool {
	for h.count() == 0 {
		select {
		case <-h.came:
		case <-ctx.Done():
			return false
		}
	}
	most := time.NewTimer(gatherMost)
	defer most.Stop()
	quiet := time.NewTimer(gatherQuiet)
	defer quiet.Stop()
	for !h.covered() {
		select {
		case <-h.came:
			quiet.Reset(gatherQuiet)
		case <-quiet.C:
			return true
		case <-most.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// covered reports whether a subscription has everything, so that no other is to come.
func (h *Hub) covered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.subs, func(sub *subscription) bool { return sub.portion.whole })
}

func (h *Hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs)
}

// follow opens the log at the lowest subscription and hands it out, until something ends it. moved says that the log gave
// something.
func (h *Hub) follow(ctx context.Context) (moved bool, err error) {
	if err := h.prepare(ctx); err != nil {
		return false, err
	}
	above, found := h.lowest()
	if !found {
		return false, nil
	}
	log, err := h.config.Source.Follow(ctx, above)
	if err != nil {
		return false, fmt.Errorf("serial: open the log: %w", err)
	}
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	h.opened(log, above, stop)
	defer h.shut(log)
	for {
		if h.count() == 0 && !h.linger(following) {
			return moved, context.Cause(following)
		}
		event, err := log.Next(following)
		if cause := context.Cause(following); cause != nil {
			return moved, cause
		}
		if err != nil {
			return moved, fmt.Errorf("serial: read the log: %w", err)
		}
		moved = true
		if err := h.handOut(following, &event); err != nil {
			return moved, err
		}
	}
}

// prepare learns, once, who the source is and from where on it loses nothing.
func (h *Hub) prepare(ctx context.Context) error {
	h.mu.Lock()
	prepared := h.prepared
	h.mu.Unlock()
	if prepared {
		return nil
	}
	identity, err := h.config.Source.Identity(ctx)
	if err != nil {
		return fmt.Errorf("serial: ask the source who it is: %w", err)
	}
	if err := source.Same(h.config.Identity, identity); err != nil {
		return err //nolint:wrapcheck // a fault, for people
	}
	floor, err := h.config.Source.Prepare(ctx, true)
	if err != nil {
		return fmt.Errorf("serial: prepare the source: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floor, h.prepared = max(floor, h.stored), true
	return nil
}

// lowest returns where the log is to be opened, and ends what is below all that the source still has; false if there is
// no subscription.
func (h *Hub) lowest() (change.Position, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var low change.Position
	kept := h.subs[:0]
	for _, sub := range h.subs {
		at := sub.at()
		if at.Whole() < h.floor {
			sub.inbox.end(&Gap{At: at, Floor: h.floor})
			sub.leave()
			continue
		}
		if len(kept) == 0 || at.Whole() < low {
			low = at.Whole()
		}
		kept = append(kept, sub)
	}
	clear(h.subs[len(kept):])
	h.subs = kept
	return low, len(kept) > 0
}

func (h *Hub) opened(log source.Log, above change.Position, stop context.CancelCauseFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.at, h.rewind = log, change.At(above), stop
	if h.stored > 0 {
		log.Acknowledge(h.stored)
	}
	for _, sub := range h.subs {
		sub.inbox.say("")
		h.fits(sub)
	}
	h.log.Info("the log is open", zap.Stringer("above", above), zap.Int("subscriptions", len(h.subs)))
}

// shut closes the log.
func (h *Hub) shut(log source.Log) {
	h.mu.Lock()
	h.open, h.rewind = nil, nil
	h.mu.Unlock()
	if err := log.Close(); err != nil {
		h.log.Debug("log not closed", zap.Error(err))
	}
}

// linger waits for a subscription; false if it took too long, or following ended.
func (h *Hub) linger(following context.Context) bool {
	timer := time.NewTimer(lingerMax)
	defer timer.Stop()
	for h.count() == 0 {
		select {
		case <-h.came:
		case <-timer.C:
			return false
		case <-following.Done():
			return false
		}
	}
	return true
}

// handOut gives an event of the log to every subscription. One without room holds up the log. One that is below what the event
// follows came since the event was read: the log has to be opened anew before anybody goes on.
func (h *Hub) handOut(ctx context.Context, event *source.Event) error {
	h.mu.Lock()
	if slices.ContainsFunc(h.subs, h.behind) {
		h.mu.Unlock()
		return errRewind
	}
	subs := slices.Clone(h.subs)
	h.at = event.To // who comes from now on, and is below, missed it
	h.mu.Unlock()
	for _, sub := range subs {
		if sub.offer(event) {
			continue
		}
		if err := h.await(ctx, sub, event); err != nil {
			return err
		}
	}
	return nil
}

// await waits until a subscription has room for an event.
func (h *Hub) await(ctx context.Context, sub *subscription, event *source.Event) error {
	h.say(fmt.Sprintf("%v, which is too slow", sub.portion.span))
	defer h.say("")
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !sub.offer(event) {
		select {
		case <-sub.room:
		case <-ticker.C: // others may have left room in the spool
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
