package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// fakeStore executes decisions on the records that it holds, each write after a while.
type fakeStore struct {
	mu       sync.Mutex
	revision int64
	took     time.Duration
	epochs   map[changefeed.ID]record.Epoch
	inFlight int
	most     int
	fail     error
	calls    int
}

func (s *fakeStore) begin(ctx context.Context, n int) error {
	s.mu.Lock()
	s.inFlight += n
	s.most = max(s.most, s.inFlight)
	s.calls++
	fail := s.fail
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight -= n
		s.mu.Unlock()
	}()
	timer := time.NewTimer(s.took)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errors.Join(fence.ErrUnknown, ctx.Err())
	case <-timer.C:
		return fail
	}
}

func (s *fakeStore) Bump(ctx context.Context, decisions []Decision) []Outcome {
	outcomes := make([]Outcome, len(decisions))
	err := s.begin(ctx, len(decisions))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range decisions {
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		s.revision++
		next := record.Epoch{UID: d.UID, Epoch: fence.Epoch(s.revision), Owner: d.Owner, SpecRevision: d.SpecRevision, Reason: d.Reason, Nonce: d.Nonce}
		s.epochs[d.ID] = next
		outcomes[i] = Outcome{Record: next, Revision: s.revision}
	}
	return outcomes
}

func (s *fakeStore) RequestHandoffs(ctx context.Context, handoffs []Handoff) []error {
	return make([]error, len(handoffs))
}
func (s *fakeStore) Remove(ctx context.Context, _ Removal) error { return s.begin(ctx, 1) }
func (s *fakeStore) TrimHistory(ctx context.Context, _ changefeed.ID) error {
	return s.begin(ctx, 1)
}
func (s *fakeStore) RaiseLevel(ctx context.Context, _ int) error  { return s.begin(ctx, 1) }
func (s *fakeStore) Probe(ctx context.Context) error              { return s.begin(ctx, 1) }
func (s *fakeStore) Expel(ctx context.Context, _ Expulsion) error { return s.begin(ctx, 1) }

func (s *fakeStore) owners() map[changefeed.NodeID]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[changefeed.NodeID]int{}
	for _, epoch := range s.epochs {
		out[epoch.Owner]++
	}
	return out
}

type fakeWatch struct {
	inputs chan []Input
	mu     sync.Mutex
	age    time.Duration
}

func (w *fakeWatch) Inputs() <-chan []Input { return w.inputs }
func (w *fakeWatch) Age() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.age
}

func seen[T any](value T, revision int64) Observed[T] {
	return Observed[T]{Value: &value, Revision: revision}
}

// cluster lists two nodes and n changefeeds.
func cluster(n int) []Input {
	inputs := []Input{MetaSeen{seen(record.Meta{Format: 1, Level: 1}, 1)}}
	for _, name := range []changefeed.NodeID{"n1", "n2"} {
		inputs = append(inputs, NodeSeen{name, seen(record.Node{ID: name, Name: string(name), Level: 1, Liveness: record.Alive}, 2)})
	}
	for i := range n {
		id := feedID(fmt.Sprintf("f%05d", i))
		inputs = append(inputs, SpecSeen{id, seen(record.Spec{
			UID: changefeed.UID("uid-" + id.Name), Namespace: id.Namespace,
			Name: id.Name, Desired: changefeed.DesiredRunning,
		}, int64(i+3))})
	}
	return append(inputs, Listed{})
}

func newDriver(t *testing.T, store Store, watch Watch) (*Driver, func(name string) float64) {
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics(registry)
	require.NoError(t, err)
	nonces := 0
	driver, err := NewDriver(Config{Term: 7, SessionTTL: 5 * time.Second, Nonce: func() string {
		nonces++
		return fmt.Sprint("nonce-", nonces)
	}}, Parts{Store: store, Watch: watch, Metrics: metrics, Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))})
	require.NoError(t, err)
	return driver, func(name string) float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == name {
				metric := family.GetMetric()[0]
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
		return 0
	}
}

// Hazards 13 and 20: ten thousand changefeeds at once are paced, none waits behind a slow one for long, and each gets
// one owner.
func TestDriverPacesMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 10_000
		store := &fakeStore{took: 5 * time.Millisecond, revision: 100_000, epochs: map[changefeed.ID]record.Epoch{}}
		watch := &fakeWatch{inputs: make(chan []Input, 1)}
		driver, metric := newDriver(t, store, watch)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- driver.Run(ctx) }()
		watch.inputs <- cluster(many)
		time.Sleep(time.Second) // virtual: 10,000 / 256 in flight × 5 ms
		require.Equal(t, map[changefeed.NodeID]int{"n1": many / 2, "n2": many / 2}, store.owners())
		require.LessOrEqual(t, store.most, BumpsInFlightMax)
		require.Equal(t, float64(many), metric("cdc_epoch_bumps_total"))
		require.Equal(t, 7.0, metric("cdc_coordinator_term"))
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Zero(t, metric("cdc_coordinator_term"))
	})
}

// Hazard 14: a store without space isn't hammered, the state is visible, and it recovers by itself.
func TestDriverWhileWritesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{fail: errFull, revision: 100_000, epochs: map[changefeed.ID]record.Epoch{}}
		watch := &fakeWatch{inputs: make(chan []Input, 1)}
		driver, metric := newDriver(t, store, watch)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- driver.Run(ctx) }()
		watch.inputs <- cluster(100)
		time.Sleep(time.Minute)
		require.Equal(t, 1.0, metric("cdc_coordinator_writes_failing"))
		require.Empty(t, store.owners())
		require.Less(t, store.calls, 100*60)
		store.mu.Lock()
		store.fail = nil
		store.mu.Unlock()
		time.Sleep(15 * time.Second)
		require.Zero(t, metric("cdc_coordinator_writes_failing"))
		require.Equal(t, map[changefeed.NodeID]int{"n1": 50, "n2": 50}, store.owners())
		cancel()
		<-done
	})
}

// Hazards 4 and 6: the end of the term, however it is learned, ends everything that it began.
func TestDriverEndsWithItsTerm(t *testing.T) {
	for name, end := range map[string]func(store *fakeStore, watch *fakeWatch){
		"a write says so": func(store *fakeStore, watch *fakeWatch) { store.fail = fence.ErrDeposed; watch.inputs <- cluster(40) },
		"the watch ends":  func(_ *fakeStore, watch *fakeWatch) { watch.inputs <- cluster(40); close(watch.inputs) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &fakeStore{took: time.Millisecond, epochs: map[changefeed.ID]record.Epoch{}}
				watch := &fakeWatch{inputs: make(chan []Input, 1)}
				driver, _ := newDriver(t, store, watch)
				done := make(chan error, 1)
				go func() { done <- driver.Run(t.Context()) }()
				end(store, watch)
				require.Error(t, <-done)
				require.Zero(t, store.inFlight) // synctest objects to goroutines that are left
			})
		})
	}
}

// A watch that is old decides nothing.
func TestDriverMindsTheAgeOfItsWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{revision: 100, epochs: map[changefeed.ID]record.Epoch{}}
		watch := &fakeWatch{inputs: make(chan []Input, 1), age: time.Minute}
		driver, _ := newDriver(t, store, watch)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- driver.Run(ctx) }()
		time.Sleep(time.Second)
		watch.inputs <- cluster(2)
		time.Sleep(time.Minute)
		require.Zero(t, store.calls)
		watch.mu.Lock()
		watch.age = time.Second
		watch.mu.Unlock()
		time.Sleep(time.Second)
		require.Len(t, store.owners(), 2)
		cancel()
		<-done
	})
}
