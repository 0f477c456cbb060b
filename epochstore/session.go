package epochstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/kv"
)

// Bounds of a session.
const (
	// marginMin is the least time before the lease's end at which the node stops to act.
	marginMin = 500 * time.Millisecond
	// marginShare is the share of the granted TTL that is the margin, if that is more.
	marginShare = 5
	// renewalsPerTTL is how often a lease is renewed while all is well.
	renewalsPerTTL = 5
	// renewalTimeoutShare is the share of the TTL after which a renewal without answer is given up and sent anew.
	renewalTimeoutShare = 4
	// wakeMax bounds how long the loop sleeps, since its timers stand still while the machine is suspended.
	wakeMax = 200 * time.Millisecond
	// revokeMax bounds the revocation at the end.
	revokeMax = 2 * time.Second

	endOfTime = changefeed.Time(math.MaxInt64)
	lost      = changefeed.Time(math.MinInt64) // deadline of a session that is over
)

// SessionConfig says how a node holds its lease.
type SessionConfig struct {
	TTL    time.Duration          // asked for; etcd may grant more
	Clock  func() changefeed.Time // [BootTime], except in tests
	Logger *zap.Logger
}

// Session is one lease of a node, with the local deadline until which the node may act as an owner: the moment before
// the last successful renewal was sent, plus the TTL, less a margin. Once that has passed the session is over for good,
// whatever etcd says. What was started under a session holds that session and never asks the next one.
//
// Run renews the lease; without it the session ends at its first deadline.
type Session struct {
	store  kv.Store
	clock  func() changefeed.Time
	logger *zap.Logger
	lease  kv.LeaseID
	ttl    time.Duration

	deadline atomic.Int64    // a changefeed.Time; lost once the session is over
	over     context.Context //nolint:containedctx // a session is a lifetime
	end      context.CancelCauseFunc
	revoke   sync.Once
}

// NewSession takes a lease. The caller runs it, and closes it at the end. ctx bounds the request, not the session.
func NewSession(ctx context.Context, store kv.Store, config SessionConfig) (*Session, error) {
	sent := config.Clock()
	lease, err := store.Grant(ctx, config.TTL)
	if err != nil {
		return nil, fmt.Errorf("epochstore: take a lease: %w", err)
	}
	over, end := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Session{
		store: store, clock: config.Clock, logger: config.Logger, lease: lease.ID, ttl: lease.TTL, over: over, end: end,
	}
	s.deadline.Store(int64(sent.Add(lease.TTL - Margin(lease.TTL))))
	return s, nil
}

// Margin is how long before the end of a lease its holder stops to act.
func Margin(granted time.Duration) time.Duration { return max(marginMin, granted/marginShare) }

// Lease returns the session's lease.
func (s *Session) Lease() kv.LeaseID { return s.lease }

// TTL returns the lease's time to live as etcd granted it.
func (s *Session) TTL() time.Duration { return s.ttl }

// Alive reports whether the node may act now. It is asked before every effect: one atomic load and one clock read.
func (s *Session) Alive() bool {
	deadline := s.deadline.Load()
	if s.clock() < changefeed.Time(deadline) {
		return true
	}
	s.expire(deadline)
	return false
}

// Deadline returns the moment on the session's clock at which the node must have stopped to act, unless the lease is
// renewed before. It lies in the past for ever once the session is over.
func (s *Session) Deadline() changefeed.Time { return changefeed.Time(s.deadline.Load()) }

// Remaining returns the time to the deadline; 0 once the session is over.
func (s *Session) Remaining() time.Duration {
	deadline := s.Deadline()
	if deadline == lost {
		return 0
	}
	return max(0, deadline.Sub(s.clock()))
}

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.over.Done() }

// Err returns nil while the session is not known to be over, then why.
func (s *Session) Err() error { return context.Cause(s.over) }

// Context returns a context that ends with the session, with its cause. It hurries what is under way; what must not
// happen after the deadline asks Alive, since a timer may be late.
func (s *Session) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(s.over, func() { cancel(context.Cause(s.over)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// expire ends the session if its deadline is still the one that has passed, so that no renewal brings it back.
func (s *Session) expire(deadline int64) {
	if s.deadline.CompareAndSwap(deadline, int64(lost)) {
		s.end(fmt.Errorf("%w: not renewed before its deadline", ErrSessionOver))
	}
}

// lose ends the session for a cause.
func (s *Session) lose(cause error) {
	s.deadline.Store(int64(lost))
	s.end(cause)
}

// Run renews the lease until ctx ends (then it returns nil and the lease lives on until Close or its end), or the
// session is over (then it returns why).
func (s *Session) Run(ctx context.Context) error {
	next := s.clock().Add(s.ttl / renewalsPerTTL)
	wake := time.NewTimer(wakeMax)
	defer wake.Stop()
	for {
		if !s.Alive() {
			return s.Err()
		}
		now := s.clock()
		if now >= next {
			if s.renew(ctx) {
				next = now.Add(s.ttl / renewalsPerTTL)
			} else {
				next = s.clock().Add(s.ttl / renewalsPerTTL / renewalTimeoutShare)
			}
			continue
		}
		wake.Reset(min(wakeMax, next.Sub(now), max(0, s.Deadline().Sub(now))))
		select {
		case <-ctx.Done():
			return nil
		case <-s.over.Done():
			return s.Err()
		case <-wake.C:
		}
	}
}

// renew sends one renewal and moves the deadline, if the session is still alive when the answer comes.
func (s *Session) renew(ctx context.Context) bool {
	timeout := min(s.ttl/renewalTimeoutShare, max(time.Millisecond, s.Remaining()))
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sent := s.clock()
	lease, err := s.store.KeepAlive(attempt, s.lease)
	if err != nil && ctx.Err() == nil {
		s.logger.Warn("lease not renewed", zap.Duration("remaining", s.Remaining()), zap.Error(err))
	}
	return s.Renewed(sent, lease, err)
}

// Renewed takes in the answer to a renewal that was sent at a moment of the session's clock, and reports whether that
// moved the deadline. Run does this; it is for who sends renewals in a way of its own.
func (s *Session) Renewed(sent changefeed.Time, lease kv.Lease, err error) bool {
	switch {
	case errors.Is(err, kv.ErrLeaseNotFound):
		s.lose(fmt.Errorf("%w: the lease has ended", ErrSessionOver))
		return false
	case err != nil:
		return false
	}
	old := s.deadline.Load()
	if s.clock() >= changefeed.Time(old) {
		s.expire(old)
		return false
	}
	renewed := sent.Add(lease.TTL - Margin(lease.TTL))
	return s.deadline.CompareAndSwap(old, int64(max(renewed, changefeed.Time(old))))
}

// Close ends the session and revokes its lease, so that nobody waits for its end. Only the first call does anything.
func (s *Session) Close(ctx context.Context) error {
	var err error
	s.revoke.Do(func() {
		s.lose(fmt.Errorf("%w: closed", ErrSessionOver))
		bounded, cancel := context.WithTimeout(ctx, revokeMax)
		defer cancel()
		err = s.store.Revoke(bounded, s.lease)
	})
	if err != nil && !errors.Is(err, kv.ErrLeaseNotFound) {
		return fmt.Errorf("epochstore: revoke the lease: %w", err)
	}
	return nil
}
