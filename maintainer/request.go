package maintainer

import (
	"context"
	"errors"
	"fmt"

	"fencerow/fence"
	"fencerow/sink"
	"fencerow/source"
)

// connections are what a maintainer opened.
type connections struct {
	sink   sink.Sink
	source source.Source
}

// request makes a request in a goroutine of its own, under the session's deadline. Its answer is an input.
func (r *runner) request(ctx context.Context, effect Effect) {
	connections := connections{sink: r.sink, source: r.source}
	r.ops.Go(func() {
		bound, cancel := r.host.deps.Session.Bound(ctx)
		defer cancel()
		limited, release := context.WithTimeout(bound, r.host.cfg.OpTimeout)
		defer release()
		in := r.perform(limited, connections, effect)
		if in == nil {
			return
		}
		select {
		case r.results <- in:
		case <-ctx.Done():
		}
	})
}

// perform makes one request and waits for its answer.
func (r *runner) perform(ctx context.Context, to connections, effect Effect) Input {
	deps, id := &r.host.deps, r.own.ID
	switch effect := effect.(type) {
	case ReadRecords:
		return r.readRecords(ctx)
	case Raise:
		err := to.sink.Raise(ctx, effect.Epoch, effect.Known)
		return Raised{Epoch: effect.Epoch, Err: wrap(err, "raise the floor in the sink")}
	case DropSource:
		return SourceDropped{Err: wrap(r.dropSource(ctx, to.source), "remove from the source")}
	case RemoveSink:
		return SinkRemoved{Err: wrap(to.sink.Remove(ctx, r.own.Record.Epoch), "remove from the sink")}
	case ResolveStart:
		return resolve(ctx, to)
	case ListNodes:
		nodes, err := deps.Records.ListNodes(ctx)
		return NodesListed{Nodes: nodes, Err: wrap(err, "list nodes")}
	case WriteStatus:
		revision, err := deps.Statuses.WriteStatus(ctx, r.own, effect.Previous, effect.Status)
		return StatusWritten{Revision: revision, Err: outcome(err)}
	case ReadStatus:
		stored, err := deps.Records.ReadStatus(ctx, id)
		return StatusRead{Stored: stored, Err: wrap(err, "read back status")}
	case ReadEpoch:
		own, err := deps.Records.ReadEpoch(ctx, id)
		return EpochRead{Ownership: own, Err: wrap(err, "read epoch record")}
	case ReadSync:
		return readSync(ctx, to.sink)
	case Evict:
		err := deps.Evictions.Evict(ctx, r.own, effect.Node, effect.Token)
		return EvictionPut{Node: effect.Node, Err: wrap(err, "evict from a node")}
	case DropEviction:
		err := deps.Evictions.DropEviction(ctx, r.own, effect.Node)
		return EvictionDropped{Node: effect.Node, Err: wrap(err, "delete an eviction")}
	}
	return nil
}

// readRecords reads the status first: a spec that does not parse must not hide it. A status that does not parse is
// never written over, since it holds the checkpoint: it is read again until somebody has mended it.
func (r *runner) readRecords(ctx context.Context) Input {
	status, err := r.host.deps.Records.ReadStatus(ctx, r.own.ID)
	if err != nil {
		return RecordsRead{Err: fmt.Errorf("maintainer: read status: %v", err)} //nolint:errorlint // no fault of the spec
	}
	spec, err := r.host.deps.Records.ReadSpec(ctx, r.own.ID)
	return RecordsRead{Spec: spec, Status: status, Err: wrap(err, "read spec")}
}

func resolve(ctx context.Context, to connections) Input {
	identity, err := to.source.Identity(ctx)
	if err != nil {
		return StartResolved{Err: wrap(err, "ask the source who it is")}
	}
	if from, ok := to.source.(source.Serial); ok {
		position, err := from.Prepare(ctx, false)
		return StartResolved{Position: position, SourceID: identity, Err: wrap(err, "prepare the source")}
	}
	head, err := to.source.Head(ctx)
	return StartResolved{Position: head, SourceID: identity, Err: wrap(err, "ask the source for its head")}
}

// readSync asks the sink for its newest sync point. It is asked only where there is one that keeps them.
func readSync(ctx context.Context, from sink.Sink) Input {
	keeper, ok := from.(sink.Syncing)
	if !ok {
		return SyncRead{Err: errors.New("maintainer: the sink keeps no sync points")}
	}
	position, err := keeper.LastSync(ctx)
	return SyncRead{Position: position, Err: wrap(err, "ask the sink for its newest sync point")}
}

// outcome makes sure that a write that ran out of time counts as unknown, whatever the store said.
func outcome(err error) error {
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if late && !errors.Is(err, fence.ErrStale) && !errors.Is(err, fence.ErrUnknown) {
		return fmt.Errorf("maintainer: store status: %w: %w", fence.ErrUnknown, err)
	}
	return wrap(err, "store status")
}

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("maintainer: %s: %w", doing, err)
}
