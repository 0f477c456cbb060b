package api

import (
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

// walk reads every page of a list with the limit, and returns how many items each had.
func walk[T any](t *testing.T, url, limit string) (all []T, sizes []int) {
	t.Helper()
	for after := ""; len(sizes) < 20; {
		list := getJSON[shape.List[T]](t, url+"?limit="+limit+"&after="+after)
		all, sizes = append(all, list.Items...), append(sizes, len(list.Items))
		if after = list.Next; after == "" {
			return all, sizes
		}
	}
	t.Fatal("a list without an end")
	return nil, nil
}

func TestListsComeInPages(t *testing.T) {
	f := newFake()
	c, server := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateRunning, 5)
	for _, name := range []string{"3", "2", "5", "4"} {
		f.nodes = append(f.nodes, record.Node{ID: changefeed.NodeID("node-" + name), Name: "n" + name, HTTP: "127.0.0.1:1"})
	}
	for _, key := range []string{"", "/a", "/b", "\xff"} {
		f.spans[orders] = append(f.spans[orders], Span{Span: changefeed.Span{Start: changefeed.Key(key)}})
		if i := len(f.spans[orders]) - 1; i > 0 {
			f.spans[orders][i-1].Span.End = changefeed.Key(key)
		}
	}
	for epoch := range 4 {
		f.ended[orders] = append([]record.History{{Epoch: record.Epoch{UID: "u", Epoch: 10 + fence.Epoch(epoch), At: time.Unix(1, 0)}}}, f.ended[orders]...)
	}
	const feed = "/api/v1/changefeeds/default/orders"
	nodes, sizes := walk[shape.Node](t, server.URL+"/api/v1/nodes", "2")
	require.Equal(t, []int{2, 2, 1}, sizes)
	require.Equal(t, changefeed.NodeID("node-5"), nodes[4].ID)
	spans, sizes := walk[shape.Span](t, server.URL+feed+"/spans", "3")
	require.Equal(t, []int{3, 1}, sizes)
	require.Equal(t, changefeed.Key("\xff"), spans[3].Start)
	past, sizes := walk[shape.Ownership](t, server.URL+feed+"/history", "4")
	require.Equal(t, []int{4, 1}, sizes)
	require.Equal(t, fence.Epoch(10), past[4].Epoch)
	require.Len(t, must(c.Spans(t.Context(), orders)).Value.Items, 4)

	for _, path := range []string{"/api/v1/changefeeds", "/api/v1/nodes", feed + "/spans", feed + "/history"} {
		for _, limit := range []string{"0", "-1", "1001", "many"} {
			response, err := http.Get(server.URL + path + "?limit=" + limit)
			require.NoError(t, err)
			_ = response.Body.Close()
			require.Equal(t, http.StatusBadRequest, response.StatusCode, "%s %s", path, limit)
		}
	}
}

// Only owners know how much they wrote and how far they lag; a list asks each once, and whoever hangs costs no answer.
func TestListAsksTheOwners(t *testing.T) {
	owner, other := newFake(), newFake()
	ownerClient, ownerServer := serve(t, owner)
	must(ownerClient.Create(t.Context(), request()))
	owner.own(orders, "node-1", changefeed.StateRunning, 5)
	lag := 7.5
	owner.progress = []shape.Progress{
		{Namespace: "default", Name: "orders", Epoch: owner.views[orders].Epoch.Value.Epoch, LagSeconds: &lag, Changes: 12, Bytes: 99},
		{Namespace: "elsewhere", Name: "x", Epoch: 1},
	}
	other.views, other.self = owner.views, "node-2"
	other.nodes = []record.Node{{ID: "node-1", Name: "n1", HTTP: strings.TrimPrefix(ownerServer.URL, "http://")}, {ID: "node-2", Name: "n2"}}
	c, _ := serve(t, other)
	for _, items := range [][]shape.Changefeed{
		must(c.All(t.Context(), "")).Value.Items, {must(c.Changefeed(t.Context(), orders)).Value}, must(ownerClient.All(t.Context(), "")).Value.Items,
	} {
		require.Len(t, items, 1)
		require.InDelta(t, lag, *items[0].LagSeconds, 0)
		require.Equal(t, uint64(12), *items[0].Changes)
		require.Equal(t, uint64(99), *items[0].Bytes)
	}
	require.Len(t, getJSON[shape.List[shape.Progress]](t, ownerServer.URL+"/api/v1/local/progress?first=default/orders&last=default/orders").Items, 1)

	owner.progress[0].Epoch++
	require.Nil(t, must(c.All(t.Context(), "")).Value.Items[0].Changes, "it is of another ownership")
	ownerServer.Close()
	require.Nil(t, must(c.All(t.Context(), "")).Value.Items[0].Changes, "it can't be asked")
}
