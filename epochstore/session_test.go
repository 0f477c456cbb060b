package epochstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
)

const ttl = 5 * time.Second

// turned is a clock that runs with the bubble's and can jump, as when the machine was suspended.
type turned struct {
	start time.Time
	jump  atomic.Int64
}

func (c *turned) now() changefeed.Time {
	return changefeed.Time(time.Since(c.start)) + changefeed.Time(c.jump.Load()) + 1
}

// bubble runs a test in virtual time, with a session of 5 s on a store in memory.
func bubble(t *testing.T, test func(t *testing.T, s bubbled)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store, clock := kvmem.New(kvmem.Config{}), &turned{start: time.Now()}
		defer func() { _ = store.Close() }()
		session, err := epochstore.NewSession(ctx, store, epochstore.SessionConfig{
			TTL: ttl, Clock: clock.now, Logger: zap.NewNop(),
		})
		require.NoError(t, err)
		test(t, bubbled{ctx: ctx, store: store, clock: clock, session: session})
		cancel()
		synctest.Wait()
	})
}

type bubbled struct {
	ctx     context.Context
	store   *kvmem.Store
	clock   *turned
	session *epochstore.Session
}

func (b bubbled) run() <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.session.Run(b.ctx) }()
	return done
}

func TestASessionLivesWhileItIsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, b bubbled) {
		done := b.run()
		for range 100 {
			time.Sleep(3 * time.Second) // virtual
			require.True(t, b.session.Alive())
			require.GreaterOrEqual(t, b.session.Remaining(), 2*time.Second)
		}
		require.NoError(t, b.session.Close(b.ctx))
		require.False(t, b.session.Alive())
		require.ErrorIs(t, <-done, epochstore.ErrSessionOver)
		_, err := b.store.KeepAlive(b.ctx, b.session.Lease())
		require.ErrorIs(t, err, kv.ErrLeaseNotFound, "revoked, so that nobody waits")
		require.NoError(t, b.session.Close(b.ctx), "again is nothing")
	})
}

// Hazards 50 and 51: cut off from etcd the node stops before its lease ends, and never starts again.
func TestASessionEndsBeforeItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, b bubbled) {
		done := b.run()
		ctx, cancel := b.session.Context(b.ctx)
		defer cancel()
		time.Sleep(20*time.Second + time.Millisecond)
		b.store.Cut()
		<-b.session.Done()
		require.False(t, b.session.Alive())
		require.Zero(t, b.session.Remaining())
		require.ErrorIs(t, <-done, epochstore.ErrSessionOver)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(ctx), epochstore.ErrSessionOver)
		b.store.Heal()
		lease, err := b.store.TimeToLive(b.ctx, b.session.Lease())
		require.NoError(t, err, "the lease outlives the session")
		require.Less(t, lease.TTL, 2*time.Second)
		_, err = b.store.KeepAlive(b.ctx, b.session.Lease())
		require.NoError(t, err)
		require.False(t, b.session.Alive(), "over for good")
	})
}

// The deadline counts from before a renewal was sent, however late its answer comes.
func TestTheDeadlineCountsFromTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &turned{start: time.Now()}
		slow := &slowLease{Store: kvmem.New(kvmem.Config{})}
		session, err := epochstore.NewSession(t.Context(), slow, epochstore.SessionConfig{
			TTL: ttl, Clock: clock.now, Logger: zap.NewNop(),
		})
		require.NoError(t, err)
		require.Equal(t, ttl-epochstore.Margin(ttl)-time.Second, session.Remaining(), "the grant took a second")
	})
}

type slowLease struct{ kv.Store }

func (s *slowLease) Grant(ctx context.Context, ttl time.Duration) (kv.Lease, error) {
	lease, err := s.Store.Grant(ctx, ttl)
	time.Sleep(time.Second) // virtual
	return lease, err
}

// Hazards 50 and 69: suspended past the deadline, with timers that know nothing of it: dead at the first question, also
// if the lease could still be renewed.
func TestASuspendedNodeIsDeadAtTheFirstQuestion(t *testing.T) {
	bubble(t, func(t *testing.T, b bubbled) {
		done := b.run()
		synctest.Wait()
		b.clock.jump.Store(int64(ttl - epochstore.Margin(ttl)))
		require.False(t, b.session.Alive())
		require.ErrorIs(t, <-done, epochstore.ErrSessionOver)
		_, err := b.store.KeepAlive(b.ctx, b.session.Lease())
		require.NoError(t, err, "the lease lives")
		require.False(t, b.session.Alive())
	})
}

func TestALostLeaseEndsTheSession(t *testing.T) {
	bubble(t, func(t *testing.T, b bubbled) {
		done := b.run()
		require.NoError(t, b.store.Revoke(b.ctx, b.session.Lease()))
		require.ErrorIs(t, <-done, epochstore.ErrSessionOver)
		require.False(t, b.session.Alive())
	})
}

func TestASessionThatNobodyRenewsEnds(t *testing.T) {
	bubble(t, func(t *testing.T, b bubbled) {
		require.True(t, b.session.Alive())
		require.NoError(t, b.session.Err())
		time.Sleep(ttl - epochstore.Margin(ttl)) // virtual
		require.False(t, b.session.Alive())
		require.ErrorIs(t, b.session.Err(), epochstore.ErrSessionOver)
	})
}

func TestTheMarginIsAFifthAndAtLeastHalfASecond(t *testing.T) {
	require.Equal(t, 500*time.Millisecond, epochstore.Margin(2*time.Second))
	require.Equal(t, time.Second, epochstore.Margin(5*time.Second))
	require.Equal(t, 12*time.Second, epochstore.Margin(time.Minute))
}

func TestBootTimeRuns(t *testing.T) {
	first := epochstore.BootTime()
	require.Positive(t, first)
	require.Eventually(t, func() bool { return epochstore.BootTime() > first }, testLimit, time.Microsecond)
}

func TestAliveAllocatesNothing(t *testing.T) {
	session := memoryWorld(t).session()
	require.Zero(t, testing.AllocsPerRun(1000, func() { session.Alive() }))
}

func BenchmarkAlive(b *testing.B) {
	session := memoryWorld(b).session()
	b.ReportAllocs()
	for b.Loop() {
		if !session.Alive() {
			b.Fatal("dead")
		}
	}
}
