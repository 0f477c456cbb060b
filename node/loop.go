package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/record"
	"fencerow/source"
)

// guardedSource refuses to say who it is while it and its sink would feed each other. At creation only hosts may be
// known, since nothing answered; here both were reached, and are told apart by their cluster ids. Every dispatcher asks
// for the identity before it claims or reads anything.
type guardedSource struct {
	source.Source
	opener *opener
	spec   record.Spec
	from   endpoint.URI

	mu      sync.Mutex // guards checked
	checked string     // the identity that was found good
}

// Identity returns the source's identity if it may be copied to the sink.
func (g *guardedSource) Identity(ctx context.Context) (string, error) {
	identity, err := g.Source.Identity(ctx)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	good := g.checked == identity
	g.mu.Unlock()
	if good {
		return identity, nil
	}
	if err := g.opener.checkLoop(ctx, g.spec, g.from, identity); err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.checked = identity
	return identity, nil
}

// checkLoop compares the clusters that were reached: the source's, the sink's, and that of the records.
func (o *opener) checkLoop(ctx context.Context, spec record.Spec, from endpoint.URI, identity string) error {
	control := endpoint.Store{ClusterID: o.cluster}
	read := endpoint.Store{ClusterID: identity, Hosts: from.Hosts}
	if err := endpoint.CheckSource(from, read, control); err != nil {
		return err
	}
	to, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: o.literals})
	if err != nil {
		return permanent(err)
	}
	if to.Scheme != endpoint.Etcd {
		return nil
	}
	cluster, err := o.targetCluster(ctx, to, spec.Options)
	if err != nil {
		return &changefeed.Fault{
			Code: changefeed.CodeSinkUnreachable, Field: "sink", Value: to.String(), Detail: "can't be asked which etcd it is",
			Cure: "check that it runs, can be reached from this node, and takes our user", Err: err,
		}
	}
	written := endpoint.Store{ClusterID: cluster, Hosts: to.Hosts}
	if err := endpoint.CheckSink(to, written, control); err != nil {
		return err
	}
	return endpoint.CheckLoop(from, to, read, written)
}

// targetCluster asks an etcd for its cluster id, and warns of a version that the control plane would refuse.
func (o *opener) targetCluster(ctx context.Context, to endpoint.URI, options changefeed.Options) (string, error) {
	store, err := dialTarget(to, options)
	if err != nil {
		return "", err
	}
	defer func() { _ = store.Close() }()
	answer, err := store.Range(ctx, kv.Range{Key: string(to.Path), KeysOnly: true})
	if err != nil {
		return "", fmt.Errorf("node: read the target's cluster id: %w", err)
	}
	client := store.Client()
	// What it answers here is a courtesy: the target was reached, and is used as it is.
	if status, err := client.Status(ctx, client.Endpoints()[0]); err == nil {
		if err := kvetcd.CheckVersion(status.Version); err != nil {
			o.log.Warn("sink runs a version of etcd with known faults", zap.Stringer("sink", to), zap.Error(err))
		}
	}
	return strconv.FormatUint(answer.ClusterID, 16), nil
}
