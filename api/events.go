package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

// Bounds of event streams.
const (
	eventStreamsMax = 64               // of one node
	eventsWaiting   = 256              // of one stream; a fence's news above it are dropped
	eventQuiet      = 15 * time.Second // after which a comment is sent, so that a cut connection is noticed
	eventWriteMax   = 10 * time.Second // a reader that takes nothing for so long is cut off, and connects again
)

// event is what happened, with what SSE says beside it.
type event struct {
	kind string // ownership, state, fence, node
	id   string
	data shape.Event
}

// events tells what happens, as it happens, until the caller leaves: what is watched in the records, and what the fences
// of all nodes refuse. A node that asks for another is only told of this node's fences.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	leave, err := s.admit(r, RoleViewer)
	if err != nil {
		writeProblem(w, err)
		return
	}
	leave() // a stream is counted apart: it lasts
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		writeProblem(w, tooMany(fmt.Sprintf("asks for events while %d others do", eventStreamsMax)))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := make(chan event, eventsWaiting)
	running := newRunning(cancel)
	defer running.wait()
	defer cancel()
	running.run(func() error { return s.tellRejections(ctx, out) })
	ready := make(chan struct{})
	if r.Header.Get(forwardedMark) == "" {
		running.run(func() error { return s.tellRecords(ctx, r, out, records{running: running, ready: ready}) })
	} else {
		close(ready)
	}
	s.write(ctx, w, out, ready)
}

// records is what a stream of the records needs: what runs for it, and whom to tell when it stands.
type records struct {
	running *running
	ready   chan struct{}
}

// write sends events until ctx or the connection ends, and says from when on none is missed.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, out <-chan event, ready <-chan struct{}) {
	stream, err := s.begin(w)
	if err != nil {
		return
	}
	quiet := time.NewTicker(eventQuiet)
	defer quiet.Stop()
	for {
		text := ": nothing new\n\n"
		select {
		case <-ctx.Done():
			return
		case <-ready:
			ready, text = nil, ": what happens from now on\n\n"
		case <-quiet.C:
		case one := <-out:
			data, err := json.Marshal(one.data)
			if err != nil {
				continue
			}
			text = fmt.Sprintf("event: %s\nid: %s\ndata: %s\n\n", one.kind, one.id, data)
		}
		if stream.send(text) != nil {
			return
		}
	}
}

// tellRejections tells what this node's fences refuse.
func (s *Server) tellRejections(ctx context.Context, out chan<- event) error {
	refused, end := s.backend.Rejections()
	defer end()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case one := <-refused:
			told := event{kind: "fence", id: fmt.Sprintf("%s-%d", s.backend.Self(), n), data: shape.Event{
				At: s.now().UTC(), Changefeed: one.ID.String(), UID: one.UID, Epoch: one.Held, Node: s.backend.Self(), Rule: one.Rule,
				Offered: one.Offered, Held: one.Held, From: string(one.From), Reason: one.Command,
			}}
			select {
			case out <- told:
			default: // a storm of refusals says no more than its beginning
			}
		}
	}
}

// tellRecords tells what changes in the records, and follows the fences of the nodes that come and go.
func (s *Server) tellRecords(ctx context.Context, r *http.Request, out chan<- event, of records) error {
	story := newStory()
	others := map[changefeed.NodeID]context.CancelFunc{}
	return s.backend.Follow(ctx, func(changes []RecordChange, first bool) {
		for _, change := range changes {
			for _, told := range story.tell(change, s.now().UTC()) {
				if first {
					continue // how things stood is no news
				}
				select {
				case out <- told:
				case <-ctx.Done():
					return
				}
			}
		}
		for id, node := range story.nodes {
			if id != s.backend.Self() && others[id] == nil {
				following, end := context.WithCancel(ctx)
				others[id] = end
				of.running.run(func() error { return s.followFences(following, r, node, out) })
			}
		}
		if first {
			close(of.ready)
		}
		for id, end := range others {
			if _, lives := story.nodes[id]; !lives {
				end()
				delete(others, id)
			}
		}
	})
}

// story turns changes of records into what happened. It is pure.
type story struct {
	feeds map[changefeed.ID]*feedStory
	nodes map[changefeed.NodeID]record.Node
}

type feedStory struct {
	spec   *record.Spec
	epoch  *record.Epoch
	status *record.Status
	state  changefeed.State
}

func newStory() *story {
	return &story{feeds: map[changefeed.ID]*feedStory{}, nodes: map[changefeed.NodeID]record.Node{}}
}

// tell takes a change in, and returns what it means for people.
func (s *story) tell(change RecordChange, now time.Time) []event {
	id := fmt.Sprintf("%d-%s", change.Revision, change.Ref.Kind)
	switch change.Ref.Kind {
	case record.KindNode:
		return s.tellNode(change, id, now)
	case record.KindSpec, record.KindEpoch, record.KindStatus:
	default:
		return nil
	}
	feed := s.feeds[change.Ref.ID]
	if feed == nil {
		feed = &feedStory{}
		s.feeds[change.Ref.ID] = feed
	}
	var out []event
	switch change.Ref.Kind {
	case record.KindSpec:
		feed.spec, _ = change.Record.(*record.Spec) //nolint:errcheck // nil when it was deleted or does not parse
	case record.KindStatus:
		feed.status, _ = change.Record.(*record.Status) //nolint:errcheck // nil when it was deleted or does not parse
	default:
		before := feed.epoch
		feed.epoch, _ = change.Record.(*record.Epoch) //nolint:errcheck // nil when it was deleted or does not parse
		out = append(out, event{kind: "ownership", id: id, data: ownershipEvent(change.Ref.ID, before, feed.epoch, now)})
	}
	return append(out, s.tellState(change.Ref.ID, feed, id, now)...)
}

func ownershipEvent(id changefeed.ID, before, after *record.Epoch, now time.Time) shape.Event {
	out := shape.Event{At: now, Changefeed: id.String()}
	if before != nil {
		out.UID, out.Epoch, out.From = before.UID, before.Epoch, string(before.Owner)
	}
	if after == nil {
		out.Reason = string(changefeed.ReasonRemoved)
		return out
	}
	out.At, out.UID, out.Epoch, out.Reason = after.At, after.UID, after.Epoch, string(after.Reason)
	out.Node, out.To = after.Owner, string(after.Owner)
	return out
}

// tellState tells a state that is another than before.
func (s *story) tellState(id changefeed.ID, feed *feedStory, event1 string, now time.Time) []event {
	view := View{ID: id, Spec: Stored[record.Spec]{Value: feed.spec}, Epoch: Stored[record.Epoch]{Value: feed.epoch}, Status: Stored[record.Status]{Value: feed.status}}
	state, data := changefeed.State(""), shape.Event{At: now, Changefeed: id.String()}
	if feed.spec != nil {
		shown := present(view)
		state, data.UID, data.Epoch, data.Node = shown.State, shown.UID, shown.Epoch, shown.Owner
		switch {
		case shown.Stalled != nil:
			data.Reason = shown.Stalled.Reason
		case shown.Error != nil:
			data.Reason = string(shown.Error.Code)
		}
	}
	if state == feed.state {
		return nil
	}
	data.From, data.To = string(feed.state), string(state)
	feed.state = state
	if feed.spec == nil && feed.epoch == nil && feed.status == nil {
		delete(s.feeds, id)
	}
	return []event{{kind: "state", id: event1 + "-state", data: data}}
}

func (s *story) tellNode(change RecordChange, id string, now time.Time) []event {
	before := string(s.nodes[change.Ref.Node].Liveness)
	after, name := "", s.nodes[change.Ref.Node].Name
	if node, ok := change.Record.(*record.Node); ok && !change.Deleted {
		s.nodes[change.Ref.Node] = *node
		after, name = string(node.Liveness), node.Name
	} else {
		delete(s.nodes, change.Ref.Node)
	}
	if before == after {
		return nil
	}
	return []event{{kind: "node", id: id, data: shape.Event{At: now, Node: change.Ref.Node, NodeName: name, From: before, To: after}}}
}
