package main

import (
	"container/heap"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/maintainer"
)

// feed is one maintainer, with a sink and a source that answer at once.
type feed struct {
	node *node
	own  maintainer.Ownership
	core *maintainer.Core
	next changefeed.Time
	runs atomic.Bool // a stored status says so
}

func newFeed(n *node, own maintainer.Ownership) *feed {
	config := maintainer.DefaultConfig(n.id)
	config.SessionTTL = n.session.TTL()
	return &feed{node: n, own: own, core: maintainer.NewCore(config, own)}
}

func (f *feed) step(ctx context.Context, in maintainer.Input) {
	if written, ok := in.(maintainer.StatusWritten); ok && written.Err != nil {
		f.node.cluster.fail(fmt.Errorf("status of %s: %w", f.own.ID, written.Err))
	}
	queue := []maintainer.Input{in}
	for len(queue) > 0 {
		effects := f.core.Step(maintainer.Now{At: f.node.now(), Wall: time.Now().UTC()}, queue[0])
		queue = queue[1:]
		for _, effect := range effects {
			switch effect := effect.(type) {
			case maintainer.Send:
				f.node.send(effect.Envelope)
			case maintainer.Open:
				queue = append(queue, maintainer.Opened{Whole: changefeed.Whole(), Fencing: maintainer.FencedByClaims})
			case maintainer.Raise:
				queue = append(queue, maintainer.Raised{Epoch: effect.Epoch})
			case maintainer.Refused:
			case maintainer.End:
				f.node.cluster.fail(fmt.Errorf("%s ended: %v", f.own.ID, effect.Outcome))
			default:
				go func() { // it ends with ctx
					if in := f.request(ctx, effect); in != nil && ctx.Err() == nil {
						f.node.post(answer{feed: f, in: in})
					}
				}()
			}
		}
	}
}

// request asks the records.
func (f *feed) request(ctx context.Context, effect maintainer.Effect) maintainer.Input {
	switch effect := effect.(type) {
	case maintainer.ReadRecords:
		stored, err := f.node.reads.ReadStatus(ctx, f.own.ID)
		if err != nil {
			return maintainer.RecordsRead{Err: err}
		}
		spec, err := f.node.reads.ReadSpec(ctx, f.own.ID)
		return maintainer.RecordsRead{Spec: spec, Status: stored, Err: err}
	case maintainer.ListNodes:
		nodes, err := f.node.reads.ListNodes(ctx)
		return maintainer.NodesListed{Nodes: nodes, Err: err}
	case maintainer.WriteStatus:
		revision, err := f.node.statuses.WriteStatus(ctx, f.own, effect.Previous, effect.Status)
		if err == nil && effect.Status.State == changefeed.StateRunning && f.runs.CompareAndSwap(false, true) {
			f.node.cluster.running.Add(1)
		}
		return maintainer.StatusWritten{Revision: revision, Err: err}
	default:
		f.node.cluster.fail(fmt.Errorf("%s asks for %T", f.own.ID, effect))
		return nil
	}
}

// hosted is what a node hosts of one changefeed, with pumps that claim at once.
type hosted struct {
	node  *node
	id    changefeed.ID
	core  *dispatcher.Core
	at    changefeed.Time // when it is due, 0: never
	pumps []dispatcher.StartPump
	mark  change.Position
}

// host returns what a node hosts of a changefeed, made on demand.
func (n *node) host(ctx context.Context, id changefeed.ID) *hosted {
	if h := n.hosts[id]; h != nil {
		return h
	}
	h := &hosted{node: n, id: id, core: dispatcher.NewCore(dispatcher.CoreConfig{ID: id, Node: n.id}), mark: begin}
	n.hosts[id] = h
	if known, found := n.epochs[id]; found {
		h.step(ctx, dispatcher.Observed{Record: known})
	}
	h.step(ctx, dispatcher.Listed{})
	return h
}

// move has the source bring changes, all of which are in the sink at once.
func (h *hosted) move(ctx context.Context) {
	if len(h.pumps) == 0 {
		return
	}
	h.mark++
	for _, pump := range h.pumps {
		h.step(ctx, dispatcher.Reported{Token: pump.Token, Progress: h.progress()})
	}
}

func (h *hosted) progress() dispatcher.Progress {
	return dispatcher.Progress{Claimed: true, Known: true, Mark: change.At(h.mark), Resolved: h.mark, SourceID: sourceID}
}

// tick is called when the core asked for it, or for less.
func (h *hosted) tick(ctx context.Context, now changefeed.Time) {
	if h.at != 0 && h.at <= now {
		h.at = 0
		h.step(ctx, dispatcher.Tick{})
	}
}

func (h *hosted) step(ctx context.Context, in dispatcher.Input) {
	queue := []dispatcher.Input{in}
	for len(queue) > 0 {
		effects := h.core.Step(h.node.now(), queue[0])
		queue = queue[1:]
		for _, effect := range effects {
			switch effect := effect.(type) {
			case dispatcher.Send:
				h.node.send(effect.Envelope)
			case dispatcher.StartPump:
				h.pumps = append(h.pumps, effect)
				queue = append(queue, dispatcher.Reported{Token: effect.Token, Progress: h.progress()})
			case dispatcher.ReadRecord:
				h.read(ctx, effect.Request)
			case dispatcher.Refused:
			default:
				h.node.cluster.fail(fmt.Errorf("a dispatcher host decided %T", effect))
			}
		}
	}
	if due, found := h.core.Due(); found && (h.at == 0 || due < h.at) {
		h.at = due
		heap.Push(&h.node.due, dueAt{at: due, host: h})
	}
}

// read asks the records who owns the changefeed: the message was faster than the watch.
func (h *hosted) read(ctx context.Context, request uint64) {
	go func() { // it ends with ctx
		epoch, found, err := h.node.reads.Epoch(ctx, h.id)
		h.node.post(recordRead{host: h, in: dispatcher.RecordAnswer{Request: request, Record: epoch, Found: found, Failed: err != nil}})
	}()
}
