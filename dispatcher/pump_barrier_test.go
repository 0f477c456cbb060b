package dispatcher

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
)

// A pump that holds writes everything up to the position, and nothing above; the position is recorded once; then it goes on
// where it was, and nothing is written twice or left out. Its source waits meanwhile.
func TestAPumpHoldsAtABarrierAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]sink.Limits{
		"batches as they come":    {},
		"one change at a time":    {Changes: 1},
		"three changes at a time": {Changes: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				defer b.stop()
				b.sink.limits = limits
				b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
				b.host.Deliver(from("n1", 7, b.bootstrap(changefeed.Options{"batch_changes": "4"})).Envelope)
				for i := range 10 {
					b.source.put(keyOf(i))
				}
				body := place(1, "-")
				body.Barrier = message.Barrier{Number: 1, Position: 5, Action: message.BarrierStop}
				b.host.Deliver(from("n1", 7, body).Envelope)
				pass(time.Second)
				require.Equal(t, positions(5), b.sink.positions())
				require.Equal(t, message.Held{Number: 1, Position: 5, Highest: 5}, b.held())
				for i := range 100 {
					b.source.put(keyOf(i))
				}
				pass(time.Minute)
				require.Equal(t, positions(5), b.sink.positions())
				require.Less(t, b.source.delivered(), 25, "the source waits")
				require.Equal(t, change.Position(5), b.last(fence.Mint(7, 1)).Barrier)
				require.Equal(t, waitsForOthers, b.last(fence.Mint(7, 1)).WaitingOn)

				b.barrier(2, 8, message.BarrierStop)
				pass(time.Second)
				require.Equal(t, positions(8), b.sink.positions())
				b.barrier(2, 8, message.BarrierWrite)
				pass(time.Second)
				require.Equal(t, []change.Position{8}, b.sink.syncs)
				require.Equal(t, message.Held{Number: 2, Position: 8, Highest: 8, Synced: 8}, b.held())
				b.barrier(2, 8, message.BarrierWrite) // as when the answer was lost
				pass(time.Second)
				require.Equal(t, []change.Position{8}, b.sink.syncs)

				b.barrier(2, 8, message.BarrierPass)
				pass(time.Second)
				require.Equal(t, positions(110), b.sink.positions())
				require.Zero(t, b.held().Position)

				// Below what was written it stops where it is, and says so.
				b.barrier(3, 20, message.BarrierStop)
				pass(time.Millisecond)
				b.source.put("x")
				pass(time.Second)
				require.Equal(t, positions(110), b.sink.positions())
				require.Equal(t, message.Held{Number: 3, Position: 20, Highest: 110, Synced: 8}, b.held())
				b.barrier(3, 20, message.BarrierWrite)
				pass(time.Second)
				require.Equal(t, []change.Position{8}, b.sink.syncs, "it does not stand there")
			})
		})
	}
}

// Where nothing changes a pump comes to the position all the same, and moves its mark at once.
func TestAnIdlePumpComesToABarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		b.source.commit(3)
		b.place(1, "-")
		pass(time.Second)
		b.barrier(1, 50, message.BarrierStop)
		pass(time.Millisecond)
		b.source.commit(77)
		pass(heartbeatGap)
		require.Equal(t, message.Held{Number: 1, Position: 50, Highest: 50}, b.held())
		b.barrier(1, 50, message.BarrierPass)
		pass(time.Second)
		require.Equal(t, change.At(77), b.last(fence.Mint(7, 1)).Mark)
	})
}

// What becomes of a pump whose record has an unknown outcome, is refused, or can't be done: it claims again and holds as
// before, ends, or waits to be asked again.
func TestAPumpAndTheOutcomesOfARecord(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		state  message.DispatcherState
		claims int
	}{
		"unknown": {fence.ErrUnknown, message.DispatcherRunning, 2},
		"stale":   {fence.ErrStale, message.DispatcherFailed, 1},
		"apart":   {sink.ErrApart, message.DispatcherRunning, 1},
		"down":    {errors.New("connection refused"), message.DispatcherRunning, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := ownedBed(t)
				defer b.stop()
				for i := range 9 {
					b.source.put(keyOf(i))
				}
				token := b.place(1, "-")
				pass(time.Second)
				b.barrier(1, 9, message.BarrierStop)
				pass(time.Millisecond)
				b.source.put("x")
				pass(time.Second)
				b.sink.set(func() { b.sink.onSync = func() error { return test.err } })
				b.barrier(1, 9, message.BarrierWrite)
				pass(time.Second)
				_, claims := b.sink.counts()
				require.Equal(t, test.claims, claims)
				require.Equal(t, test.state, b.last(token).State)
				require.Equal(t, 1, b.sink.asked, "it is done once for each time that the owner asks")
				require.Equal(t, positions(9), b.sink.positions())
				if test.state != message.DispatcherRunning {
					return
				}
				b.sink.set(func() { b.sink.onSync = nil })
				b.barrier(1, 9, message.BarrierWrite)
				pass(time.Second)
				require.Equal(t, []change.Position{9}, b.sink.syncs)
			})
		})
	}
}

// fence:F24. A record that an owner asked for and that was not begun when the next one took over is not begun.
func TestF24ARecordOfTheOwnerBeforeIsNotBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		p := newPump(pumpConfig{
			start: StartPump{Token: fence.Mint(7, 1), Order: 1, Hold: 9}, session: b.session, clock: b.host.now, metrics: b.host.config.Metrics,
			mailbox: newMailbox(b.host, testID),
		})
		p.sync(8)
		require.False(t, p.heldAt().sync, "another position")
		p.sync(9)
		p.hold(1, 9)
		require.False(t, p.heldAt().sync, "taken back")
		p.sync(9)
		require.True(t, p.heldAt().sync)
		require.False(t, p.heldAt().sync, "once")
	})
}
