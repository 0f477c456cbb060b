//go:build databases

package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/source/postgres"
)

// paused is a confirmation of the record after which its process stands still: what it was confirmed for happens once it goes on.
type paused struct {
	arrive, leave sync.Once
	reached, goes chan struct{}
}

func newPaused(t *testing.T) *paused {
	t.Helper()
	p := &paused{reached: make(chan struct{}), goes: make(chan struct{})}
	t.Cleanup(p.goOn)
	return p
}

func (p *paused) confirm(ctx context.Context) error {
	p.arrive.Do(func() { close(p.reached) })
	select {
	case <-p.goes:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *paused) goOn() { p.leave.Do(func() { close(p.goes) }) }

// kept says what of ours there is at the server.
func (w *world) kept() string {
	w.Helper()
	return w.text(`SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) || ' slots, '
		|| (SELECT count(*) FROM pg_publication) || ' publications'`)
}

// Neither slot nor publications can compare an epoch. An owner that stood still after it had the record confirmed, and meanwhile its
// changefeed was removed, would make them anew, and nobody would ever drop them: the server would keep its log until its disk is full.
func TestOrderWhoWasPausedMakesNothingAfterARemoval(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	still := newPaused(t)
	old := w.open(way{epoch: 8, confirm: still.confirm})
	failed := make(chan error, 1)
	go func() {
		_, err := old.Prepare(w.ctx, false)
		failed <- err
	}()
	<-still.reached
	require.NoError(t, w.open(way{epoch: 9}).Drop(w.ctx))
	still.goOn()
	require.Error(t, <-failed)
	require.Equal(t, "0 slots, 0 publications", w.kept())
}

// Nor does it take tables out of the publications that its successor, whose patterns are others, wants: what is written to them until
// somebody puts them in again would be lost.
func TestOrderWhoWasPausedTakesNoTablesAway(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)`)
	above, err := w.open(way{epoch: 7}).Prepare(w.ctx, false)
	require.NoError(t, err)
	still := newPaused(t)
	var about atomic.Bool
	old := w.open(way{epoch: 8, options: changefeed.Options{postgres.OptionTables: "public.a"}, confirm: func(ctx context.Context) error {
		if about.Load() {
			return still.confirm(ctx)
		}
		return nil
	}})
	revise, err := old.Keeping(w.ctx)
	require.NoError(t, err)
	about.Store(true)
	failed := make(chan error, 1)
	go func() { failed <- revise(w.ctx) }()
	<-still.reached // it is about to take b away

	log := w.followFrom(w.open(way{epoch: 9}), above)
	w.exec(`INSERT INTO b VALUES (1)`)
	w.take(log, 1)
	still.goOn()
	require.Error(t, <-failed)
	w.exec(`INSERT INTO b VALUES (2)`)
	require.Equal(t, []string{"0 create public.b:0000000000000000002 after(id=2)"}, lines(w.take(log, 1)))
}
