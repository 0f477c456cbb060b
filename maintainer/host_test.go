package maintainer

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
)

// world is a fake of everything around a host: records in memory, a sink and a source without contents, and a dispatcher
// host on n1 that does what it is asked.
type world struct {
	mu      sync.Mutex // guards everything below
	specs   map[changefeed.ID]StoredSpec
	status  map[changefeed.ID]StoredStatus
	epochs  map[changefeed.ID]Ownership
	nodes   Nodes
	order   []string
	slow    map[string]chan struct{} // requests that wait until it is closed, whatever their context says
	alive   bool
	host    *Host
	running map[changefeed.ID]message.Status
}

func newWorld() *world {
	return &world{
		specs: map[changefeed.ID]StoredSpec{}, status: map[changefeed.ID]StoredStatus{}, epochs: map[changefeed.ID]Ownership{},
		nodes: Nodes{Revision: 1, Nodes: []record.Node{{ID: "n1", Name: "n1", Liveness: record.Alive}}}, alive: true,
		slow: map[string]chan struct{}{}, running: map[changefeed.ID]message.Status{},
	}
}

func (w *world) create(name string, epoch fence.Epoch) Ownership {
	id := changefeed.ID{Namespace: "default", Name: name}
	uid := changefeed.UID("u-" + name)
	own := Ownership{ID: id, Revision: int64(epoch), Record: record.Epoch{UID: uid, Epoch: epoch, Owner: "n1", SpecRevision: 3}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.specs[id] = StoredSpec{Revision: 3, Spec: record.Spec{
		UID: uid, Namespace: "default", Name: name, Start: record.StartSnapshot, Desired: changefeed.DesiredRunning,
	}}
	w.epochs[id] = own
	return own
}

func (w *world) did(what string) {
	w.mu.Lock()
	w.order = append(w.order, what)
	wait := w.slow[what]
	w.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

func (w *world) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := 0
	for _, one := range w.order {
		if one == what {
			count++
		}
	}
	return count
}

func (w *world) ReadSpec(_ context.Context, id changefeed.ID) (StoredSpec, error) {
	w.did("spec " + id.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.specs[id], nil
}

func (w *world) ReadStatus(_ context.Context, id changefeed.ID) (StoredStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status[id], nil
}

func (w *world) ReadEpoch(_ context.Context, id changefeed.ID) (Ownership, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.epochs[id], nil
}

func (w *world) ListNodes(context.Context) (Nodes, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes, nil
}

func (w *world) WriteStatus(_ context.Context, own Ownership, previous int64, status record.Status) (int64, error) {
	w.did("write " + own.ID.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epochs[own.ID].Revision != own.Revision || w.status[own.ID].Revision != previous {
		return 0, fmt.Errorf("write: %w", fence.ErrStale)
	}
	w.status[own.ID] = StoredStatus{Status: status, Revision: previous + 1}
	return previous + 1, nil
}

func (w *world) Alive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alive
}

func (w *world) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (w *world) OpenSink(spec record.Spec) (sink.Sink, Fencing, error) {
	return &fakeSink{w: w, name: spec.Name}, FencedByClaims, nil
}

func (w *world) OpenSource(spec record.Spec, _ Ownership) (source.Source, error) {
	return &fakeSource{w: w, name: spec.Name}, nil
}

// Send is the dispatcher host.
func (w *world) Send(env message.Envelope) {
	var body message.Body
	w.mu.Lock()
	switch ask := env.Body.(type) {
	case message.Bootstrap:
		body = message.BootstrapReply{}
	case message.Place:
		status := statusOf(ask.Span, fence.Mint(env.Epoch, ask.Seq), message.DispatcherRunning, 7)
		w.running[env.ID] = status
		body = message.Statuses{Statuses: []message.Status{status}}
	case message.Stop:
		status := w.running[env.ID]
		status.State = message.DispatcherStopped
		delete(w.running, env.ID)
		body = message.Statuses{Statuses: []message.Status{status}}
	case message.Close:
		body = message.Closed{}
	}
	host := w.host
	w.mu.Unlock()
	if body != nil {
		host.Deliver(message.Envelope{ID: env.ID, UID: env.UID, Epoch: env.Epoch, From: env.To, To: env.From, Body: body})
	}
}

type fakeSink struct {
	w    *world
	name string
}

func (s *fakeSink) Raise(_ context.Context, epoch fence.Epoch, _ sink.Known) error {
	s.w.did(fmt.Sprintf("raise %s %d", s.name, epoch))
	return nil
}

func (s *fakeSink) Claim(context.Context, sink.Claim) (sink.Writer, error) {
	return nil, errUnreachable
}

func (s *fakeSink) Remove(context.Context, fence.Epoch) error {
	s.w.did("remove " + s.name)
	return nil
}

func (s *fakeSink) Close() error {
	s.w.did("close sink " + s.name)
	return nil
}

type fakeSource struct {
	w    *world
	name string
}

func (s *fakeSource) Identity(context.Context) (string, error)      { return "s1", nil }
func (s *fakeSource) Head(context.Context) (change.Position, error) { return 7, nil }
func (s *fakeSource) Span() changefeed.Span                         { return changefeed.Whole() }
func (s *fakeSource) Close() error                                  { return nil }

func (s *fakeSource) Read(context.Context, source.Request) (source.Reader, error) {
	return nil, errUnreachable
}

// inWorld runs a host in virtual time until the test is over.
func inWorld(t *testing.T, test func(t *testing.T, w *world, h *Host, registry *prometheus.Registry)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		registry := prometheus.NewRegistry()
		metrics, err := NewMetrics(registry)
		require.NoError(t, err)
		host, err := NewHost(HostConfig{Core: DefaultConfig("n1")}, Deps{
			Records: w, Statuses: w, Evictions: w, Sender: w, Opener: w, Logs: noLogs{}, Session: w, Log: zaptest.NewLogger(t), Metrics: metrics,
		})
		require.NoError(t, err)
		w.host = host
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- host.Run(ctx) }()
		test(t, w, host, registry)
		cancel()
		require.NoError(t, <-done)
		require.Zero(t, host.Count())
	})
}

func (w *world) state(name string) changefeed.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status[changefeed.ID{Namespace: "default", Name: name}].Status.State
}

// settle lets virtual time pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestHostRunsWhatItOwns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Host, registry *prometheus.Registry) {
		own := w.create("a", 5)
		require.NoError(t, h.Listed(t.Context(), []Ownership{own}))
		settle(1300 * time.Millisecond)
		require.Equal(t, changefeed.StateRunning, w.state("a"))
		require.Equal(t, 1, w.count("raise a 5"))
		spans, found := h.Spans(t.Context(), own.ID)
		require.True(t, found)
		require.Len(t, spans, 1)
		require.Equal(t, change.Position(7), spans[0].Checkpoint)
		require.Len(t, h.Views(), 1)
		require.Equal(t, 5, countOfChangefeeds(t, registry))

		require.NoError(t, h.Deleted(t.Context(), own.ID))
		settle(time.Second)
		require.Zero(t, h.Count())
		require.Equal(t, 1, w.count("close sink a"))
		require.Zero(t, countOfChangefeeds(t, registry), "gone with the ownership")
		_, found = h.Spans(t.Context(), own.ID)
		require.False(t, found)
	})
}

// countOfChangefeeds counts the series that are about a changefeed.
func countOfChangefeeds(t *testing.T, registry *prometheus.Registry) int {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	count := 0
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "cdc_changefeed_") {
			count += len(family.GetMetric())
		}
	}
	return count
}

func TestHandoffBeforeTheMaintainerIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Host, _ *prometheus.Registry) {
		own := w.create("a", 5)
		h.Handoff(own.ID, record.Handoff{UID: own.Record.UID, Epoch: 5, Reason: changefeed.ReasonMoved})
		require.NoError(t, h.Observed(t.Context(), own))
		settle(time.Second)
		require.Equal(t, changefeed.StateReleased, w.state("a"))
		require.Zero(t, h.Count())
	})
}

func TestPauseAndRemoveThroughTheDriver(t *testing.T) {
	for reason, done := range map[changefeed.Reason]string{changefeed.ReasonPaused: "raise a 6", changefeed.ReasonRemoved: "remove a"} {
		t.Run(string(reason), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world, h *Host, _ *prometheus.Registry) {
				own := w.create("a", 5)
				require.NoError(t, h.Observed(t.Context(), own))
				settle(time.Second)
				h.Handoff(own.ID, record.Handoff{UID: own.Record.UID, Epoch: 5, Reason: reason})
				settle(time.Second)
				require.Equal(t, changefeed.StateReleased, w.state("a"))
				require.Equal(t, 1, w.count(done))
				require.Zero(t, h.Count())
			})
		})
	}
}

// hazard 31: a request that hangs, whatever its context says, holds up its own changefeed's next epoch, and no other.
func TestHangingStopHoldsUpOnlyItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Host, _ *prometheus.Registry) {
		hang := make(chan struct{})
		w.slow["raise a 5"] = hang
		require.NoError(t, h.Observed(t.Context(), w.create("a", 5)))
		settle(time.Second)
		require.NoError(t, h.Observed(t.Context(), w.create("a", 8)))
		require.NoError(t, h.Observed(t.Context(), w.create("b", 9)))
		settle(1300 * time.Millisecond)
		require.Equal(t, changefeed.StateRunning, w.state("b"))
		require.Zero(t, w.count("raise a 8"))
		close(hang)
		settle(1300 * time.Millisecond)
		require.Equal(t, 1, w.count("raise a 8"), "F6: after the older one has fully stopped")
		require.Equal(t, changefeed.StateRunning, w.state("a"))
	})
}

func TestNothingIsDoneAfterTheSession(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Host, _ *prometheus.Registry) {
		require.NoError(t, h.Observed(t.Context(), w.create("a", 5)))
		settle(2 * time.Second)
		w.mu.Lock()
		w.alive = false
		w.mu.Unlock()
		before := w.count("write a")
		settle(time.Minute)
		require.Equal(t, before, w.count("write a"))
		require.Zero(t, h.Count())
		require.NoError(t, h.SessionEnded(t.Context()))
		require.NoError(t, h.Observed(t.Context(), w.create("b", 9)))
		settle(time.Second)
		require.Zero(t, h.Count(), "a host never acts under the next session")
	})
}

func TestFloodOfMessagesBlocksNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Host, _ *prometheus.Registry) {
		hang := make(chan struct{})
		w.slow["spec a"] = hang
		own := w.create("a", 5)
		require.NoError(t, h.Observed(t.Context(), own))
		settle(time.Millisecond)
		for range 10 * inboxMax {
			h.Deliver(message.Envelope{ID: own.ID, UID: own.Record.UID, Epoch: 5, From: "n1", Body: message.Statuses{}})
			h.Deliver(message.Envelope{ID: changefeed.ID{Name: "nobody"}, Epoch: 5, Body: message.Statuses{}})
		}
		close(hang)
		settle(1300 * time.Millisecond)
		require.Equal(t, changefeed.StateRunning, w.state("a"))
	})
}

func TestConfigFaultsAreToldAllAtOnce(t *testing.T) {
	_, err := NewHost(HostConfig{}, Deps{})
	require.ErrorContains(t, err, "node id is empty")
	require.ErrorContains(t, err, "session TTL")
	require.ErrorContains(t, err, "dependency is missing")
}

// Evict and DropEviction do nothing: no node of this world is out of reach.
func (w *world) Evict(context.Context, Ownership, changefeed.NodeID, fence.Token) error { return nil }

func (w *world) DropEviction(context.Context, Ownership, changefeed.NodeID) error { return nil }
