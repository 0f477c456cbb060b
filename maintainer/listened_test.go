package maintainer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// halves brings a bench to a changefeed that runs on n1 and n2, and returns how n2 reports.
func halves(t *testing.T) (b *bench, report func(number uint64)) {
	t.Helper()
	b = newBench(5, "n1", "n2").ran(100, 2)
	low := statusOf(span("", "m"), fence.Mint(4, 1), message.DispatcherRunning, 100)
	high := statusOf(span("m", ""), fence.Mint(4, 2), message.DispatcherRunning, 100)
	b.step(Started{})
	b.from("n1", message.BootstrapReply{Dispatchers: []message.Status{low}})
	b.from("n2", message.BootstrapReply{Dispatchers: []message.Status{high}})
	require.True(t, b.core.View(b.now).Settled)
	b.from("n1", message.Heartbeat{Number: 1, Set: digestOf(low), Checkpoint: 100, Resolved: 100})
	report = func(number uint64) {
		b.from("n2", message.Heartbeat{Number: number, Set: digestOf(high), Checkpoint: 100, Resolved: 100})
	}
	report(1)
	return b, report
}

// A maintainer of a million spans takes the answers of its hosts in for seconds. Who has reported meanwhile is not silent.
func TestAHostIsNotSilentWhileItsReportsWait(t *testing.T) {
	b, report := halves(t)
	heard := b.now
	b.now = b.now.Add(b.core.silenceMax() + 10*time.Second)
	b.step(Ticked{Listened: heard})
	require.True(t, b.core.View(b.now).Settled)
	require.Nil(t, b.core.report.stalled)
	report(2)
	b.step(Ticked{})
	spans := b.core.Spans(b.now)
	require.Equal(t, changefeed.NodeID("n2"), spans[1].Node)
	require.Equal(t, fence.Mint(4, 2), spans[1].Token, "it runs on")
	require.NotEqual(t, changefeed.NodeID("n1"), spans[0].Node, "what did not report by then is given up")
}

// The driver tells what has arrived before it lets time pass.
func TestWhatArrivedIsToldBeforeTimePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		metrics, err := NewMetrics(prometheus.NewRegistry())
		require.NoError(t, err)
		host, err := NewHost(HostConfig{Core: DefaultConfig("n1")}, Deps{
			Records: w, Statuses: w, Evictions: w, Sender: w, Opener: w, Logs: noLogs{}, Session: w, Log: zaptest.NewLogger(t), Metrics: metrics,
		})
		require.NoError(t, err)
		r := newRunner(host, w.create("a", 5))
		require.Equal(t, Outcome(0), r.step(t.Context(), Started{}))
		for range 3 {
			r.inbox <- message.Envelope{ID: r.own.ID, UID: r.own.Record.UID, Epoch: 5, From: "n1", To: "n1", Body: message.Closed{}}
		}
		require.Equal(t, Outcome(0), r.tick(t.Context()))
		require.Empty(t, r.inbox)
		require.Equal(t, r.now().At, r.core.listened)
		r.ops.Wait()
	})
}
