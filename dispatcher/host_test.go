package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// metric returns a value as it is scraped; 0 if there is none.
func metric(t *testing.T, b *bed, name string) float64 {
	t.Helper()
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	promhttp.HandlerFor(b.registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, request)
	for line := range strings.Lines(recorder.Body.String()) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			require.NoError(t, err)
			return value
		}
	}
	return 0
}

func TestHostMovesChangesAndTellsHowFar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		synctest.Wait()
		require.Zero(t, b.opened, "an idle changefeed opens nothing (hazard 49)")

		low, high := b.place(1, "-m"), b.place(2, "m-")
		for i := range 500 {
			b.source.put(keyOf(i))
		}
		pass(time.Second)
		require.Equal(t, positions(500), sorted(b.sink.positions()))
		require.Equal(t, 1, b.opened, "one source for all dispatchers of a changefeed")
		for _, token := range []fence.Token{low, high} {
			status := b.last(token)
			require.Equal(t, message.DispatcherRunning, status.State)
			require.Equal(t, change.At(500), status.Mark)
			require.Equal(t, "s1", status.SourceID)
			require.NotZero(t, status.Changes)
			require.NotZero(t, status.Bytes)
		}
		require.Equal(t, 2, b.host.Dispatchers())

		b.host.Deliver(from("n1", 7, message.Close{}).Envelope)
		synctest.Wait()
		require.Equal(t, 1, b.count(message.KindClosed))
		require.True(t, b.sink.closed)
		require.True(t, b.source.closed)
	})
}

func TestHostWritesAtOnceWhenTheSinkIsIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		b.place(1, "-")
		synctest.Wait()
		for i := range 5 {
			b.source.put(keyOf(i))
			synctest.Wait() // no time passes
			require.Len(t, b.sink.positions(), i+1)
		}
	})
}

func TestHostLetsChangesWaitForOthersIfAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
		b.host.Deliver(from("n1", 7, b.bootstrap(changefeed.Options{"flush_interval": "100ms"})).Envelope)
		b.place(1, "-")
		synctest.Wait()
		for i := range 5 {
			b.source.put(keyOf(i))
			pass(10 * time.Millisecond)
		}
		require.Empty(t, b.sink.positions())
		pass(100 * time.Millisecond)
		require.Len(t, b.sink.positions(), 5)
		batches, _ := b.sink.counts()
		require.Equal(t, 1, batches)
	})
}

// Progress without a change is written now and then, and nothing at all while nothing moves.
func TestHostWritesProgressNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		for i := range 50 {
			b.source.commit(change.Position(i + 1)) //nolint:gosec // small
			pass(100 * time.Millisecond)
		}
		pass(2 * time.Second)
		require.Equal(t, change.At(50), b.last(token).Mark)
		batches, _ := b.sink.counts()
		require.LessOrEqual(t, batches, 12)
		before, _ := b.sink.counts()
		pass(time.Minute)
		after, _ := b.sink.counts()
		require.Equal(t, before, after)
	})
}

// Hazard 40: a host with an empty memory asks the record first.
func TestHostAsksTheRecordBeforeItBelievesABootstrap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		b.host.Deliver(from("n1", 7, b.bootstrap(nil)).Envelope)
		synctest.Wait()
		require.Equal(t, 1, b.count(message.KindRejected), "nothing before the listing")

		b.host.Listed(nil)
		b.host.Deliver(from("n1", 7, b.bootstrap(nil)).Envelope)
		synctest.Wait()
		require.Equal(t, 1, b.reads)
		require.Equal(t, 2, b.count(message.KindRejected))
		require.Empty(t, b.host.mailboxes, "forgotten at once (hazard 47)")

		b.mu.Lock()
		b.records[testID] = epochRecord("u", 7, "n1")
		b.mu.Unlock()
		b.host.Deliver(from("n1", 7, b.bootstrap(nil)).Envelope)
		synctest.Wait()
		require.Equal(t, 1, b.count(message.KindBootstrapReply))
		require.Equal(t, 2.0, metric(t, b, `cdc_fence_rejections_total{rule="F12"}`))
	})
}

// Hazard 47: what was removed is forgotten, and what comes late for it is answered from the records.
func TestHostForgetsWhatWasRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		b.place(1, "-")
		synctest.Wait()
		require.Equal(t, 1.0, metric(t, b, `cdc_dispatchers{changefeed="orders",namespace="default"}`))
		b.host.Deliver(from("n1", 7, message.Close{Removed: true}).Envelope)
		synctest.Wait()
		require.Len(t, b.host.mailboxes, 1)
		b.host.Deleted(testID)
		synctest.Wait()
		require.Empty(t, b.host.mailboxes)
		require.Zero(t, metric(t, b, `cdc_dispatchers{changefeed="orders",namespace="default"}`))

		b.host.Deliver(from("n1", 7, b.bootstrap(nil)).Envelope) // hazard 36
		b.place(2, "-")
		synctest.Wait()
		require.Zero(t, b.host.Dispatchers())
		require.Empty(t, b.host.mailboxes)
	})
}

// A second listing, after the watch was lost, tells what was deleted meanwhile.
func TestHostListsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		b.place(1, "-")
		synctest.Wait()
		require.Equal(t, 1, b.host.Dispatchers())
		b.host.Listed(nil)
		synctest.Wait()
		require.Zero(t, b.host.Dispatchers())
	})
}

// Hazards 31, 48: a sink that hangs holds up neither its own mailbox nor others, nor the end of the host.
func TestHostOutlivesAHangingSink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		hang := make(chan struct{})
		b.sink.set(func() {
			b.sink.hang = hang
			b.sink.onWrite = func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("write: %w: %w", ctx.Err(), fence.ErrUnknown)
			}
		})
		token := b.place(1, "-")
		b.source.put("k")
		pass(3 * time.Second)
		status := b.last(token)
		require.Equal(t, waitsForWrite, status.WaitingOn)
		require.Greater(t, status.WaitingFor, 2*time.Second)

		b.host.Deliver(from("n1", 7, message.Stop{Token: token}).Envelope)
		synctest.Wait()
		require.Equal(t, message.DispatcherStopping, b.last(token).State)
		pass(stopGrace + time.Second)
		status = b.last(token)
		require.Equal(t, message.DispatcherStopped, status.State)
		require.False(t, status.Known, "the write may have landed")
		require.True(t, b.sink.closed, "its Close hangs, and nobody waits for it")

		began := time.Now()
		b.stop()
		require.Less(t, time.Since(began), 2*closeWait)
		close(hang)
	})
}

func TestHostNeverBlocksDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.stop() // nobody reads any more
		for range mailboxMax + 10 {
			b.host.Deliver(from("n1", 7, message.ListStatuses{}).Envelope)
		}
		require.NotZero(t, metric(t, b, "cdc_dispatcher_messages_dropped_total"))
	})
	m := newMailbox(&Host{}, testID)
	for range mailboxMax {
		require.True(t, m.offer(message.Envelope{}))
	}
	require.False(t, m.offer(message.Envelope{}))
	m.push(Listed{}) // what must not be lost has room
	inputs, _ := m.take()
	require.Len(t, inputs, mailboxMax+1)
}

func TestHostAcknowledgesAnEvictionUntilItIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("k")
		synctest.Wait()
		b.mu.Lock()
		b.ackErrors = []error{errDown, errDown, errDown}
		b.mu.Unlock()
		b.host.Evicted("u", record.Eviction{Epoch: 7, Seq: 3})
		pass(time.Minute)
		require.Len(t, b.acked, 1)
		require.Equal(t, fence.Mint(7, 3), b.acked[0].Token)
		require.Len(t, b.acked[0].Finals, 1)
		require.Equal(t, token, b.acked[0].Finals[0].Token)
		require.Zero(t, b.host.Dispatchers())
	})
}

// A node that leaves in good order finishes the write in flight.
func TestHostLeavesInGoodOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		b.sink.set(func() {
			b.sink.onWrite = func(ctx context.Context) error {
				select {
				case <-time.After(2 * time.Second):
					return nil
				case <-ctx.Done():
					return fence.ErrUnknown
				}
			}
		})
		b.place(1, "-")
		b.source.put("k")
		pass(time.Second)
		b.stop()
		require.Equal(t, positions(1), b.sink.positions())
	})
}

func TestHostStopsAtOnceWithItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		b.sink.set(func() {
			b.sink.onWrite = func(ctx context.Context) error {
				<-ctx.Done()
				return fence.ErrUnknown
			}
		})
		b.place(1, "-")
		b.source.put("k")
		synctest.Wait()
		b.session.end()
		began := time.Now()
		b.stop()
		require.Zero(t, time.Since(began))
		require.Empty(t, b.sink.positions())
	})
}

func TestHostNamesWhatItLacks(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	for _, what := range []string{"node id", "records", "sender", "session", "opener", "evictions", "logger", "metrics"} {
		require.ErrorContains(t, err, "no "+what)
	}
}

// An eviction may be seen before the record that says which changefeed it is about, and before anything runs here.
func TestHostIsEvictedBeforeItKnowsTheRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		defer b.stop()
		b.host.Evicted("u", record.Eviction{Epoch: 7, Seq: 3})
		b.host.Listed(map[changefeed.ID]record.Epoch{testID: epochRecord("u", 7, "n1")})
		pass(time.Second)
		require.Len(t, b.acked, 1)
		require.Equal(t, fence.Mint(7, 3), b.acked[0].Token)
	})
}
