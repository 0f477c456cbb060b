package main

import (
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

// heartbeat is how often hosts report.
const heartbeat = 500 * time.Millisecond

const sourceID = "14841639068965178418"

// feedRecords are the records of the changefeed of many spans, as its maintainer reads them.
type feedRecords struct {
	id     changefeed.ID
	spec   record.Spec
	status maintainer.StoredStatus
	nodes  maintainer.Nodes
}

func newFeedRecords(spans int) feedRecords {
	feed := feedRecords{id: feedID(0), nodes: maintainer.Nodes{Revision: 1}}
	feed.spec = specOf(feed.id)
	for i := range nodesMax {
		feed.nodes.Nodes = append(feed.nodes.Nodes, nodeRecord(i))
	}
	feed.status = maintainer.StoredStatus{Revision: 1, Status: record.Status{
		UID: feed.spec.UID, Epoch: firstEpoch, State: changefeed.StateRunning, Checkpoint: begin, Resolved: begin,
		SourceID: sourceID, Spans: spans,
	}}
	return feed
}

func (f *feedRecords) ownership(epoch fence.Epoch, owner changefeed.NodeID) maintainer.Ownership {
	return maintainer.Ownership{ID: f.id, Revision: int64(epoch), Record: record.Epoch{ //nolint:gosec // small
		UID: f.spec.UID, Epoch: epoch, Owner: owner, SpecRevision: 1, Reason: changefeed.ReasonCreated,
	}}
}

func (f *feedRecords) nodesWithout(gone changefeed.NodeID) maintainer.Nodes {
	f.nodes.Revision++
	kept := f.nodes.Nodes[:0:0]
	for _, node := range f.nodes.Nodes {
		if node.ID != gone {
			kept = append(kept, node)
		}
	}
	f.nodes.Nodes = kept
	return f.nodes
}

// answer is what the records, the sink and the source say; nil if nothing is asked of them.
func (f *feedRecords) answer(effect maintainer.Effect) maintainer.Input {
	switch effect := effect.(type) {
	case maintainer.ReadRecords:
		return maintainer.RecordsRead{Spec: maintainer.StoredSpec{Spec: f.spec, Revision: 1}, Status: f.status}
	case maintainer.Open:
		return maintainer.Opened{Whole: changefeed.Whole(), Fencing: maintainer.FencedByClaims}
	case maintainer.Raise:
		return maintainer.Raised{Epoch: effect.Epoch}
	case maintainer.ListNodes:
		return maintainer.NodesListed{Nodes: f.nodes}
	case maintainer.WriteStatus:
		f.status = maintainer.StoredStatus{Status: effect.Status, Revision: f.status.Revision + 1}
		return maintainer.StatusWritten{Revision: f.status.Revision}
	default:
		return nil
	}
}

// spanHost is one node's dispatchers of the changefeed, with pumps that claim at once.
type spanHost struct {
	world *spanWorld
	id    changefeed.NodeID
	core  *dispatcher.Core
	inbox []frame
	gone  bool
	due   changefeed.Time // 0: never
	last  fence.Token     // of the last that was started
}

func newSpanHost(world *spanWorld, id changefeed.NodeID) *spanHost {
	host := &spanHost{
		world: world, id: id,
		core: dispatcher.NewCore(dispatcher.CoreConfig{ID: world.feed.id, Node: id}),
	}
	host.step(dispatcher.Listed{})
	return host
}

// turn takes in what arrived, and what time brings.
func (h *spanHost) turn() {
	arrived := h.inbox
	h.inbox = nil
	for _, one := range arrived {
		envelope, err := one.unpack()
		if err != nil {
			h.world.fail(err)
			return
		}
		h.step(dispatcher.Deliver{Envelope: envelope})
	}
	if h.isDue() {
		h.step(dispatcher.Tick{})
	}
}

func (h *spanHost) isDue() bool { return h.due != 0 && h.due <= h.world.now() }

func (h *spanHost) step(in dispatcher.Input) {
	queue := []dispatcher.Input{in}
	for len(queue) > 0 {
		effects := h.core.Step(h.world.now(), queue[0])
		queue = queue[1:]
		for _, effect := range effects {
			switch effect := effect.(type) {
			case dispatcher.Send:
				h.world.send(effect.Envelope)
			case dispatcher.StartPump:
				h.last = effect.Token
				queue = append(queue, dispatcher.Reported{Token: effect.Token, Progress: progress()})
			case dispatcher.StopPump:
				queue = append(queue, dispatcher.DispatcherEnded{Token: effect.Token, Progress: progress()})
			case dispatcher.CancelPump:
				queue = append(queue, dispatcher.DispatcherEnded{Token: effect.Token, Progress: progress()})
			}
		}
	}
	h.due = 0
	if due, found := h.core.Due(); found {
		h.due = due
	}
}

func progress() dispatcher.Progress {
	return dispatcher.Progress{Claimed: true, Known: true, Mark: change.At(begin), Resolved: begin, SourceID: sourceID}
}
