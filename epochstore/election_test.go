package epochstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/record"
)

func TestTheNextCandidateWinsWhenTheFirstResigns(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		first := w.lead("n1")
		won := make(chan *epochstore.Lead, 1)
		session := w.session()
		go func() {
			lead, err := w.store.Campaign(w.ctx, session, "n2")
			if err == nil {
				won <- lead
			}
		}()
		candidates := func() int {
			prefix := w.keys.Of(record.KindCandidate)
			result, err := w.raw.Range(w.ctx, kv.Range{Key: prefix, End: kv.PrefixEnd(prefix)})
			require.NoError(t, err)
			return len(result.Pairs)
		}
		require.Eventually(t, func() bool { return candidates() == 2 }, testLimit, time.Millisecond)
		coordinator, err := w.store.Coordinator(w.ctx)
		require.NoError(t, err)
		require.Equal(t, changefeed.NodeID("n1"), coordinator.Node)
		require.Equal(t, first.Term(), coordinator.Term)
		require.NoError(t, first.Probe(w.ctx))
		require.Empty(t, won)
		_, err = w.store.ResignCoordinator(w.ctx)
		require.NoError(t, err)
		second := <-won
		require.Greater(t, second.Term(), first.Term())
		require.ErrorIs(t, first.Probe(w.ctx), epochstore.ErrTermOver)
		require.ErrorIs(t, first.Wait(w.ctx), epochstore.ErrTermOver)
		require.NoError(t, first.Resign(w.ctx), "of a term that is over it is nothing")
		coordinator, err = w.store.Coordinator(w.ctx)
		require.NoError(t, err)
		require.Equal(t, changefeed.NodeID("n2"), coordinator.Node)
	})
}

// Hazard 5: the session that wins is dead: its first act is refused, and it wins nothing.
func TestADeadSessionWinsNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		session := w.session()
		looked := false
		w.flaky.onRange(func() {
			if !looked {
				looked = true
				require.NoError(t, w.raw.Revoke(w.ctx, session.Lease()))
			}
		})
		_, err := w.store.Campaign(w.ctx, session, "n1")
		require.ErrorIs(t, err, epochstore.ErrSessionOver)
		require.True(t, looked)
	})
}

// A node that gives up its campaign is no candidate any more, while its session lives on.
func TestACandidateThatGivesUpWithdraws(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.lead("n1")
		ctx, cancel := context.WithCancel(w.ctx)
		session := w.session()
		done := make(chan error, 1)
		go func() {
			_, err := w.store.Campaign(ctx, session, "n2")
			done <- err
		}()
		key := w.keys.Candidate(int64(session.Lease()))
		require.Eventually(t, func() bool { return w.get(key).ModRevision != 0 }, testLimit, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Zero(t, w.get(key).ModRevision)
		require.True(t, session.Alive())
	})
}

// A campaign's put whose answer is lost is found again, as the same term.
func TestACampaignSurvivesALostAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.flaky.inject(nil, once(lost))
		lead := w.lead("n1")
		coordinator, err := w.store.Coordinator(w.ctx)
		require.NoError(t, err)
		require.Equal(t, lead.Term(), coordinator.Term)
	})
}

// Hazard 13: the holder's lease ends; the next one wins, with a higher term, and the first knows that it is over.
func TestTheNextCandidateWinsWhenTheFirstDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		server, clock := kvmem.NewServer(kvmem.Config{}), &turned{start: time.Now()}
		keys, err := record.NewKeys("election")
		require.NoError(t, err)
		type member struct {
			store   *kvmem.Store
			session *epochstore.Session
			records *epochstore.Store
		}
		join := func() member {
			raw := server.Open()
			session, err := epochstore.NewSession(ctx, raw, epochstore.SessionConfig{
				TTL: ttl, Clock: clock.now, Logger: zap.NewNop(),
			})
			require.NoError(t, err)
			go func() { _ = session.Run(ctx) }()
			records := epochstore.New(raw, keys, time.Now)
			_, err = records.EnsureMeta(ctx)
			require.NoError(t, err)
			return member{store: raw, session: session, records: records}
		}
		a, b := join(), join()
		first, err := a.records.Campaign(ctx, a.session, "n1")
		require.NoError(t, err)
		over := make(chan error, 1)
		go func() { over <- first.Wait(ctx) }()
		a.store.Cut()
		began := time.Now()
		second, err := b.records.Campaign(ctx, b.session, "n2")
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(began), ttl+time.Second)
		require.Greater(t, second.Term(), first.Term())
		require.False(t, a.session.Alive())
		require.ErrorIs(t, <-over, epochstore.ErrSessionOver)
		cancel()
		_ = a.store.Close()
		_ = b.store.Close()
		synctest.Wait()
	})
}
