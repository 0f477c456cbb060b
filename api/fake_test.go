package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/record"
)

// fake is a backend in memory, with compare-and-set like the real one.
type fake struct {
	mu       sync.Mutex
	revision int64
	views    map[changefeed.ID]View
	ended    map[changefeed.ID][]record.History
	nodes    []record.Node
	self     changefeed.NodeID
	spans    map[changefeed.ID][]Span
	progress []shape.Progress
	heads    map[string]Look // by the URI as it is shown
	floor    fence.Epoch
	resigned int
	drained  []string
	notReady error
	raw      []RawRecord
	listed   []RecordChange
	changes  chan RecordChange
	refused  chan Rejection
	holdings map[changefeed.ID]Holding
	sinkErr  error
	compare  func(ctx context.Context, how VerifyHow) (shape.Verified, error)
	before   func() // called before each update, without the lock
}

func newFake() *fake {
	return &fake{
		revision: 100, views: map[changefeed.ID]View{}, ended: map[changefeed.ID][]record.History{}, self: "node-1",
		nodes: []record.Node{{ID: "node-1", Name: "n1", HTTP: "127.0.0.1:1", Liveness: record.Alive}},
		spans: map[changefeed.ID][]Span{}, heads: map[string]Look{},
	}
}

func (f *fake) Changefeed(_ context.Context, id changefeed.ID) (View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	view, found := f.views[id]
	if !found {
		return View{ID: id}, &changefeed.Fault{Code: changefeed.CodeNotFound, Field: "changefeed", Value: id.String(), Detail: "does not exist", Cure: "list them"}
	}
	return view, nil
}

func (f *fake) Verify(ctx context.Context, _ record.Spec, how VerifyHow) (shape.Verified, error) {
	if f.compare == nil {
		return shape.Verified{}, nil
	}
	return f.compare(ctx, how)
}

func (f *fake) List(_ context.Context, namespace string, after changefeed.ID, limit int) ([]View, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []View
	for _, id := range slices.SortedFunc(maps.Keys(f.views), changefeed.ID.Compare) {
		if namespace != "" && id.Namespace != namespace || after != (changefeed.ID{}) && id.Compare(after) <= 0 {
			continue
		}
		if len(out) == limit {
			return out, true, nil
		}
		out = append(out, f.views[id])
	}
	return out, false, nil
}

func (f *fake) History(_ context.Context, id changefeed.ID) ([]record.History, error) {
	return f.ended[id], nil
}

func (f *fake) CreateSpec(_ context.Context, spec record.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, found := f.views[spec.ID()]; found {
		return &changefeed.Fault{Code: changefeed.CodeExists, Field: "changefeed", Value: spec.ID().String(), Detail: "exists", Cure: "choose another"}
	}
	f.revision++
	f.views[spec.ID()] = View{ID: spec.ID(), Spec: Stored[record.Spec]{Value: &spec, Revision: f.revision, CreateRevision: f.revision}}
	return nil
}

func (f *fake) UpdateSpec(_ context.Context, read Stored[record.Spec], spec record.Spec) error {
	if f.before != nil {
		f.before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	view := f.views[spec.ID()]
	if view.Spec.Revision != read.Revision {
		return &changefeed.Fault{Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: spec.ID().String(), Detail: "was changed", Cure: "read it again", Err: fence.ErrStale}
	}
	f.revision++
	view.Spec = Stored[record.Spec]{Value: &spec, Revision: f.revision, CreateRevision: read.CreateRevision}
	f.views[spec.ID()] = view
	return nil
}

func (f *fake) ResetSpec(ctx context.Context, read View, spec record.Spec) error {
	if err := f.UpdateSpec(ctx, read.Spec, spec); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	view := f.views[spec.ID()]
	view.Status = Stored[record.Status]{}
	f.views[spec.ID()] = view
	return nil
}

func (f *fake) ForceRemove(_ context.Context, id changefeed.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.views, id)
	return nil
}

func (f *fake) Cluster(context.Context) (ClusterView, error) {
	return ClusterView{Meta: record.Meta{Level: 1, ClusterID: "abc"}, Nodes: f.nodes, Coordinator: "node-1", Term: 7}, nil
}

func (f *fake) RaiseFloor(_ context.Context, above fence.Epoch) error {
	f.floor = above
	return nil
}

func (f *fake) Drain(_ context.Context, name, _ string) error {
	f.drained = append(f.drained, name)
	return nil
}

func (f *fake) Undrain(_ context.Context, name string) (bool, error) {
	was := slices.Contains(f.drained, name)
	f.drained = slices.DeleteFunc(f.drained, func(one string) bool { return one == name })
	return was, nil
}

func (f *fake) Resign(context.Context) error {
	f.resigned++
	return nil
}

func (f *fake) Store() endpoint.Store {
	return endpoint.Store{ClusterID: "abc", Hosts: []string{"127.0.0.1:2379"}}
}
func (f *fake) Self() changefeed.NodeID    { return f.self }
func (f *fake) Loads() (int, int)          { return 2, 5 }
func (f *fake) Progress() []shape.Progress { return f.progress }
func (f *fake) Spans(_ context.Context, id changefeed.ID) ([]Span, bool) {
	s, found := f.spans[id]
	return s, found
}
func (f *fake) Dump(context.Context) ([]RawRecord, error) { return f.raw, nil }

func (f *fake) Holding(_ context.Context, spec record.Spec) (Holding, error) {
	return f.holdings[spec.ID()], f.sinkErr
}

func (f *fake) Follow(ctx context.Context, tell func([]RecordChange, bool)) error {
	tell(f.listed, true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case change := <-f.changes:
			tell([]RecordChange{change}, false)
		}
	}
}

func (f *fake) Rejections() (<-chan Rejection, func()) { return f.refused, func() {} }

func (f *fake) Healthy() error { return nil }
func (f *fake) Ready() error   { return f.notReady }
func (f *fake) Look(ctx context.Context, uri endpoint.URI, _ changefeed.Options) (Look, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if look, found := f.heads[uri.String()]; found {
		return look, nil
	}
	return Look{}, errors.New("connection refused")
}

// own makes a node own a changefeed with a status.
func (f *fake) own(id changefeed.ID, owner changefeed.NodeID, state changefeed.State, checkpoint change.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	view := f.views[id]
	f.revision++
	view.Epoch = Stored[record.Epoch]{Revision: f.revision, Value: &record.Epoch{
		UID: view.Spec.Value.UID, Epoch: fence.Epoch(f.revision), Owner: owner, OwnerName: "n1", Term: 7, SpecRevision: view.Spec.Revision,
		Reason: changefeed.ReasonCreated, At: time.Unix(1_700_000_000, 0).UTC(),
	}}
	view.Status = Stored[record.Status]{}
	if state != "" {
		view.Status = Stored[record.Status]{Revision: f.revision, Value: &record.Status{
			UID: view.Spec.Value.UID, Epoch: fence.Epoch(f.revision), State: state, Checkpoint: checkpoint, Resolved: checkpoint, Spans: 1,
		}}
	}
	f.views[id] = view
}

func kinds() Kinds {
	return Kinds{
		Sources: map[endpoint.Scheme][]changefeed.Option{endpoint.Etcd: {{Name: "previous", Default: "false"}}},
		Sinks: map[endpoint.Scheme][]changefeed.Option{
			endpoint.Etcd: nil, endpoint.Blackhole: nil,
			endpoint.File: {{Name: "compress", Doc: "none or zstd", Check: func(v string) error {
				if v != "none" && v != "zstd" {
					return fmt.Errorf("unknown")
				}
				return nil
			}}},
		},
		Common: []changefeed.Option{{Name: "split_keys"}, {Name: "redo"}},
	}
}

func serve(t *testing.T, backend Backend, change ...func(*Config)) (*client.Client, *httptest.Server) {
	t.Helper()
	config := Config{Cluster: "default", Version: "test", Kinds: kinds(), Gatherer: prometheus.NewRegistry(), Level: zap.NewAtomicLevel(), Log: zap.NewNop()}
	for _, c := range change {
		c(&config)
	}
	server := httptest.NewServer(New(config, backend))
	t.Cleanup(server.Close)
	c, err := client.New(client.Config{Server: server.URL, Timeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, server
}
