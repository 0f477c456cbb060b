package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/internal/wait"
	"fencerow/node/records"
)

// campaignPause is between two terms, so that a node whose terms end at once does not spin.
const campaignPause = 100 * time.Millisecond

// resignMax bounds the resignation of a coordinator that leaves.
const resignMax = 2 * time.Second

// standBackLook is how often a node looks whether it is to leave coordination to others, or no more.
const standBackLook = 100 * time.Millisecond

// campaign stands for election for as long as the life lasts, and coordinates whenever it is elected. A node that is
// drained does so until everything else has left it: then it resigns, and stands back while another can.
func (l *life) campaign(ctx context.Context) error {
	for ctx.Err() == nil {
		if l.standsBack() {
			wait.For(ctx, standBackLook)
			continue
		}
		if err := l.stand(ctx); err != nil {
			if ctx.Err() != nil || errors.Is(err, epochstore.ErrSessionOver) {
				return nil //nolint:nilerr // the session ends the life by itself
			}
			l.log.Warn("election failed; trying again", zap.Error(err))
			wait.For(ctx, campaignPause)
		}
	}
	return nil
}

// standsBack reports whether the node is drained and empty, and another can coordinate.
func (l *life) standsBack() bool {
	return l.draining.Load() && l.maintainers.Count()+l.dispatchers.Dispatchers() == 0 && l.successors() > 0
}

// stand is one candidacy, and the term if it was elected. It ends early when the node is to stand back; the error is that of
// an election.
func (l *life) stand(ctx context.Context) error {
	standing, end := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer end()
	looking.Go(func() {
		for standing.Err() == nil {
			if l.standsBack() {
				end()
				return
			}
			wait.For(standing, standBackLook)
		}
	})
	lead, err := l.store.Campaign(standing, l.session, l.id)
	if err != nil {
		if standing.Err() != nil && ctx.Err() == nil {
			return nil // it stands back
		}
		return err
	}
	l.term.Store(lead.Term())
	err = l.coordinate(standing, lead)
	l.term.Store(0)
	l.resign(ctx, lead)
	if err != nil && standing.Err() == nil {
		l.log.Info("term ended", zap.Int64("term", lead.Term()), zap.Error(err))
		wait.For(ctx, campaignPause)
	}
	return nil
}

// coordinate runs one term. Everything of it has ended when it returns: one context per term.
func (l *life) coordinate(ctx context.Context, lead *epochstore.Lead) error {
	watch := l.store.Watch(epochstore.WatchConfig{Kinds: records.CoordinatorKinds(), Clock: epochstore.BootTime, Logger: l.log})
	inputs := newCoordinatorWatch(watch)
	driver, err := coordinator.NewDriver(coordinator.Config{
		Term: lead.Term(), SessionTTL: l.session.TTL(), HandoffLimit: l.process.config.HandoffTimeout, Nonce: uuid.NewString,
	}, coordinator.Parts{
		Store: records.NewLeading(lead, l.store), Watch: inputs, Metrics: l.metrics.coordinator, Log: l.log, Traced: l.process.traced,
	})
	if err != nil {
		return fmt.Errorf("node: coordinator: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watch.Run(ctx) })
	group.Go(func() error { return inputs.run(ctx) })
	group.Go(func() error { return lead.Wait(ctx) })
	group.Go(func() error { return ended(driver.Run(ctx)) })
	return group.Wait()
}

// ended makes the end of a driver end its term, also when it ended without an error.
func ended(err error) error {
	if err == nil {
		return fence.ErrDeposed
	}
	return err
}

// resign gives the term back, so that nobody waits for the lease. A term that is over has nothing to give.
func (l *life) resign(ctx context.Context, lead *epochstore.Lead) {
	if !l.session.Alive() {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignMax)
	defer cancel()
	if err := lead.Resign(bounded); err != nil {
		l.log.Info("the term was not given back; it ends with the lease", zap.Error(err))
	}
}
