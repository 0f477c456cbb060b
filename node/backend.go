package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fencerow/api"
	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/record"
	"fencerow/sink/file"
	etcdsource "fencerow/source/etcd"
)

// backend is what the API works on: the records, and what this node knows. It reads and writes records itself, so that
// any node answers everything, whoever coordinates.
type backend struct{ *process }

var _ api.Backend = backend{}

func (b backend) Changefeed(ctx context.Context, id changefeed.ID) (api.View, error) {
	view, err := b.store.Changefeed(ctx, id)
	if err != nil {
		return api.View{}, b.shown(err)
	}
	return viewOf(view), nil
}

func (b backend) List(ctx context.Context, namespace string, after changefeed.ID, limit int) ([]api.View, bool, error) {
	page, err := b.store.List(ctx, namespace, after, limit)
	if err != nil {
		return nil, false, b.shown(err)
	}
	items := make([]api.View, len(page.Items))
	for i, item := range page.Items {
		items[i] = viewOf(item)
	}
	return items, page.More, nil
}

func (b backend) History(ctx context.Context, id changefeed.ID) ([]record.History, error) {
	seen, err := b.store.History(ctx, id)
	if err != nil {
		return nil, b.shown(err)
	}
	out := make([]record.History, 0, len(seen))
	for _, one := range seen {
		if one.Record != nil {
			out = append(out, *one.Record)
		}
	}
	return out, nil
}

func (b backend) CreateSpec(ctx context.Context, spec record.Spec) error {
	_, err := b.store.CreateSpec(ctx, spec)
	return b.shown(err)
}

func (b backend) UpdateSpec(ctx context.Context, read api.Stored[record.Spec], spec record.Spec) error {
	_, err := b.store.UpdateSpec(ctx, seenOf(read), spec)
	return b.shown(err)
}

func (b backend) ResetSpec(ctx context.Context, read api.View, spec record.Spec) error {
	_, err := b.store.ResetSpec(ctx, epochstore.View{
		ID: read.ID, Spec: seenOf(read.Spec), Epoch: seenOf(read.Epoch), Status: seenOf(read.Status),
	}, spec.UID, spec)
	return b.shown(err)
}

func (b backend) ForceRemove(ctx context.Context, id changefeed.ID) error {
	return b.shown(b.store.ForceRemove(ctx, id))
}

func (b backend) Cluster(ctx context.Context) (api.ClusterView, error) {
	cluster, err := b.store.Cluster(ctx)
	if err != nil {
		return api.ClusterView{}, b.shown(err)
	}
	view := api.ClusterView{Coordinator: cluster.Coordinator.Node, Term: cluster.Coordinator.Term}
	if cluster.Meta.Record != nil {
		view.Meta = *cluster.Meta.Record
	}
	for _, node := range cluster.Nodes {
		if node.Record != nil {
			view.Nodes = append(view.Nodes, *node.Record)
		}
	}
	return view, nil
}

func (b backend) RaiseFloor(ctx context.Context, above fence.Epoch) error {
	return b.shown(b.store.RaiseFloor(ctx, above))
}

func (b backend) Drain(ctx context.Context, name, by string) error {
	return b.shown(b.store.PutDrain(ctx, name, by))
}

func (b backend) Undrain(ctx context.Context, name string) (bool, error) {
	was, err := b.store.DeleteDrain(ctx, name)
	return was, b.shown(err)
}

func (b backend) Resign(ctx context.Context) error {
	_, err := b.store.ResignCoordinator(ctx)
	return b.shown(err)
}

// Store is the etcd of the records.
func (b backend) Store() endpoint.Store {
	hosts := make([]string, len(b.client.Endpoints()))
	for i, one := range b.client.Endpoints() {
		_, host, found := strings.Cut(one, "://")
		if !found {
			host = one
		}
		hosts[i] = host
	}
	return endpoint.Store{ClusterID: b.clusterID, Hosts: hosts}
}

// Self is the node's id, "" between two lives.
func (b backend) Self() changefeed.NodeID {
	if l := b.life.Load(); l != nil {
		return l.id
	}
	return ""
}

func (b backend) Loads() (maintainers, dispatchers int) {
	l := b.life.Load()
	if l == nil {
		return 0, 0
	}
	return l.maintainers.Count(), l.dispatchers.Dispatchers()
}

// Progress tells of what this node owns.
func (b backend) Progress() []shape.Progress {
	l := b.life.Load()
	if l == nil {
		return nil
	}
	views := l.maintainers.Views()
	out := make([]shape.Progress, len(views))
	for i, view := range views {
		out[i] = shape.Progress{Namespace: view.ID.Namespace, Name: view.ID.Name, Epoch: view.Epoch, Changes: view.Changes, Bytes: view.Bytes}
		if lag := view.Lag.Seconds(); lag >= 0 {
			out[i].LagSeconds = &lag
		}
	}
	return out
}

// spansMax bounds the question for a cover, which its maintainer answers between two steps.
const spansMax = 2 * time.Second

func (b backend) Spans(ctx context.Context, id changefeed.ID) ([]api.Span, bool) {
	l := b.life.Load()
	if l == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, spansMax)
	defer cancel()
	views, found := l.maintainers.Spans(ctx, id)
	if !found {
		return nil, false
	}
	out := make([]api.Span, len(views))
	for i, view := range views {
		out[i] = api.Span{
			Span: view.Span, Node: view.Node, Token: view.Token, State: view.State, Mark: change.At(view.Checkpoint), Known: true,
			Resolved: view.Resolved, LagSeconds: view.Lag.Seconds(),
			SnapshotRows: view.SnapshotRows, SnapshotTotal: view.SnapshotTotal, Rate: view.Rate,
		}
	}
	return out, true
}

// Look asks a source or sink where it stands.
func (b backend) Look(ctx context.Context, uri endpoint.URI, options changefeed.Options) (api.Look, error) {
	if uri.Scheme == endpoint.File {
		head, err := file.ReadHead(string(uri.Path))
		return api.Look{Held: head.Exists(), Holder: ownerOf(head.Identity), HolderCluster: head.Identity.Cluster}, err
	}
	if uri.Scheme == endpoint.Postgres {
		return b.lookAtPostgres(ctx, uri, options)
	}
	if uri.Scheme != endpoint.Etcd {
		return api.Look{}, nil
	}
	look := api.Look{Store: endpoint.Store{Hosts: uri.Hosts}}
	opened, err := etcdsource.New(etcdsource.Config{URI: uri, Options: options, Logger: b.log})
	if err != nil {
		return look, err
	}
	defer func() { _ = opened.Close() }()
	if look.Head, err = opened.Head(ctx); err != nil {
		return look, err
	}
	look.Store.ClusterID, err = opened.Identity(ctx)
	return look, err
}

// Healthy returns nil while the loops turn.
func (b backend) Healthy() error { return nil }

// readyAgeMax is how old a watch may be for the node to count as ready.
const readyAgeMax = 5 * time.Second

// Ready returns nil while the node has a live session and current watches, else the reason.
func (b backend) Ready() error {
	l := b.life.Load()
	switch {
	case l == nil:
		return errors.New("no session: the node is joining, or etcd can't be reached")
	case !l.session.Alive():
		return errors.New("the session is over: etcd could not be reached in time")
	case l.leaving.Load():
		return errors.New("the node is stopping")
	case !l.joined.Load():
		return errors.New("the node is joining")
	}
	if age := l.epochs.Age(); age > readyAgeMax {
		return fmt.Errorf("the watch of the epoch records is %v old", age.Round(time.Millisecond))
	}
	return nil
}

// shown turns an error of etcd into what people are shown; others stay as they are.
func (b backend) shown(err error) error {
	var fault *changefeed.Fault
	if err == nil || errors.As(err, &fault) || errors.Is(err, fence.ErrStale) {
		return err
	}
	return &changefeed.Fault{
		Code: changefeed.CodeEtcdUnreachable, Detail: "etcd did not do it",
		Cure: "see that etcd is healthy and has space, and try again", Err: err,
	}
}

func viewOf(view epochstore.View) api.View {
	return api.View{ID: view.ID, Spec: storedOf(view.Spec), Epoch: storedOf(view.Epoch), Status: storedOf(view.Status)}
}

func storedOf[T any](seen epochstore.Seen[T]) api.Stored[T] {
	out := api.Stored[T]{Value: seen.Record, Revision: seen.ModRevision, CreateRevision: seen.CreateRevision}
	if seen.Err != nil {
		out.Fault = seen.Err.Error()
	}
	return out
}

func seenOf[T any](stored api.Stored[T]) epochstore.Seen[T] {
	return epochstore.Seen[T]{Record: stored.Value, ModRevision: stored.Revision, CreateRevision: stored.CreateRevision}
}
