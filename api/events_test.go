package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// listening reads a node's events until the test ends.
func listening(t *testing.T, url string) <-chan event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/events", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	out := make(chan event, 100)
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = response.Body.Close()
	})
	go func() {
		defer close(ended)
		var one event
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				one.kind = value
			case "id":
				one.id = value
			case "data":
				_ = json.Unmarshal([]byte(value), &one.data)
				out <- one
				one = event{}
			}
		}
	}()
	return out
}

func next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case one := <-events:
		return one
	case <-time.After(time.Minute):
		t.Fatal("nothing happens")
		return event{}
	}
}

func TestEventsAsTheyHappen(t *testing.T) {
	f, far := newFake(), newFake()
	f.changes, f.refused = make(chan RecordChange), make(chan Rejection)
	far.self, far.changes, far.refused = "node-2", make(chan RecordChange), make(chan Rejection)
	_, farServer := serve(t, far)
	s := sound()
	f.listed = []RecordChange{
		{Ref: record.Ref{Kind: record.KindNode, Node: "node-1"}, Record: s.node, Revision: 1},
		{Ref: record.Ref{Kind: record.KindSpec, ID: orders}, Record: s.spec, Revision: 2},
		{Ref: record.Ref{Kind: record.KindEpoch, ID: orders}, Record: s.epoch, Revision: 3},
		{Ref: record.Ref{Kind: record.KindStatus, ID: orders}, Record: s.status, Revision: 4},
	}
	_, server := serve(t, f)
	events := listening(t, server.URL)

	joined := &record.Node{ID: "node-2", Name: "n2", HTTP: strings.TrimPrefix(farServer.URL, "http://"), Liveness: record.Alive}
	f.changes <- RecordChange{Ref: record.Ref{Kind: record.KindNode, Node: "node-2"}, Record: joined, Revision: 5}
	one := next(t, events)
	require.Equal(t, "node", one.kind, "how things stood is no news")
	require.Equal(t, "n2", one.data.NodeName)
	require.Equal(t, "alive", one.data.To)

	moved := *s.epoch
	moved.Epoch, moved.Owner, moved.Reason = 101, "node-2", changefeed.ReasonMoved
	f.changes <- RecordChange{Ref: record.Ref{Kind: record.KindEpoch, ID: orders}, Record: &moved, Revision: 6}
	one = next(t, events)
	require.Equal(t, "ownership", one.kind)
	require.Equal(t, "6-epochs", one.id)
	require.Equal(t, shape.Event{
		At: moved.At, Changefeed: "default/orders", UID: "u1", Epoch: 101, Node: "node-2", From: "node-1", To: "node-2", Reason: "moved",
	}, one.data)
	one = next(t, events)
	require.Equal(t, "state", one.kind)
	require.Equal(t, "running", one.data.From)
	require.Equal(t, "starting", one.data.To)

	far.refused <- Rejection{ID: orders, UID: "u1", From: "node-1", Rule: "F9", Command: "place", Offered: fence.Epoch(100), Held: 101}
	one = next(t, events)
	require.Equal(t, "fence", one.kind, "what another node refuses is heard here too")
	require.Equal(t, changefeed.NodeID("node-2"), one.data.Node)
	require.Equal(t, "F9", one.data.Rule)
	require.Equal(t, fence.Epoch(100), one.data.Offered)
	require.Equal(t, fence.Epoch(101), one.data.Held)

	f.changes <- RecordChange{Ref: record.Ref{Kind: record.KindNode, Node: "node-2"}, Deleted: true, Revision: 7}
	one = next(t, events)
	require.Equal(t, "node", one.kind)
	require.Equal(t, "alive", one.data.From)
	require.Empty(t, one.data.To)
	f.refused <- Rejection{ID: orders, Rule: "F16"}
	require.Equal(t, changefeed.NodeID("node-1"), next(t, events).data.Node)
}

// A story tells a changefeed's whole life.
func TestAStoryOfAChangefeed(t *testing.T) {
	s, told := newStory(), []string{}
	base := sound()
	tell := func(kind record.Kind, r record.Record, revision int64) {
		for _, one := range s.tell(RecordChange{Ref: record.Ref{Kind: kind, ID: orders}, Record: r, Deleted: r == nil, Revision: revision}, time.Now()) {
			told = append(told, one.kind+" "+one.data.From+">"+one.data.To+" "+one.data.Reason)
		}
	}
	tell(record.KindSpec, base.spec, 1)
	tell(record.KindEpoch, base.epoch, 2)
	tell(record.KindStatus, base.status, 3)
	tell(record.KindStatus, base.status, 4)
	failed := *base.status
	failed.State, failed.Error = changefeed.StateFailed, &record.Error{Code: changefeed.CodeSinkLost}
	tell(record.KindStatus, &failed, 5)
	for _, kind := range []record.Kind{record.KindSpec, record.KindEpoch, record.KindStatus} {
		tell(kind, nil, 6)
	}
	require.Equal(t, []string{
		"state >starting ", "ownership >node-1 created", "state starting>running ", "state running>failed sink.lost", "state failed> ",
		"ownership node-1> removed",
	}, told)
	require.Empty(t, s.nodes)
}

func TestEventStreamsAreBoundedAndNeedARole(t *testing.T) {
	s := secured(t)
	require.Equal(t, 401, browse(t, s, http.MethodGet, "/api/v1/events", nil).Code)
	for range eventStreamsMax {
		s.streams <- struct{}{}
	}
	w := browse(t, s, http.MethodGet, "/api/v1/events", func(r *http.Request) { r.Header.Set("Authorization", "Bearer v") })
	require.Equal(t, http.StatusTooManyRequests, w.Code)
}
