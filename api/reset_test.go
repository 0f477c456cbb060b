package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

func TestResetIsAnotherUIDAtAnotherStart(t *testing.T) {
	f := newFake()
	f.heads[source] = Look{Head: 42, Store: endpoint.Store{ClusterID: "other"}}
	c, _ := serve(t, f)
	created := must(c.Create(t.Context(), request())).Value
	f.own(orders, "node-1", changefeed.StateRunning, 40)

	_, err := c.Reset(t.Context(), orders, "7")
	require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, err).Code, "it runs")
	must(c.Pause(t.Context(), orders))
	_, err = c.Reset(t.Context(), orders, "7")
	require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, err).Code, "its owner has not let go yet")

	f.own(orders, "", changefeed.StateReleased, 40)
	for _, bad := range []string{"", "0", "soon", "43"} {
		_, err = c.Reset(t.Context(), orders, bad)
		require.Equal(t, "start", problemIn(t, err).Field, bad)
	}
	reset := must(c.Reset(t.Context(), orders, "7")).Value
	require.NotEqual(t, created.UID, reset.UID)
	require.Equal(t, "7", reset.Start)
	require.Equal(t, "7", reset.StartPosition.String())
	require.Equal(t, changefeed.StatePaused, reset.State)
	require.Nil(t, reset.Checkpoint, "the former one's counts for nothing")
	require.Zero(t, reset.Epoch, "no epoch of this uid yet")
	require.Equal(t, "42", must(c.Reset(t.Context(), orders, record.StartNow)).Value.StartPosition.String())

	must(c.Remove(t.Context(), orders))
	_, err = c.Reset(t.Context(), orders, "7")
	require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, err).Code)
	_, err = c.Reset(t.Context(), changefeed.ID{Namespace: "default", Name: "nobody"}, "7")
	require.Equal(t, http.StatusNotFound, problemIn(t, err).Status)
}

func TestDryRunsChangeNothing(t *testing.T) {
	f := newFake()
	c, server := serve(t, f)
	try := must(c.TryCreate(t.Context(), request())).Value
	require.Equal(t, source, try.Source)
	require.Empty(t, f.views)
	created := must(c.Create(t.Context(), request())).Value
	_, err := c.TryCreate(t.Context(), request())
	require.Equal(t, changefeed.CodeExists, problemIn(t, err).Code)

	changed := request()
	changed.Options = changefeed.Options{"compress": "zstd"}
	tried := must(c.TryUpdate(t.Context(), orders, created.Revision, changed)).Value
	require.Equal(t, "zstd", tried.Options["compress"])
	require.Equal(t, created.Revision, must(c.Changefeed(t.Context(), orders)).Value.Revision)
	changed.Options["compress"] = "brotli"
	_, err = c.TryUpdate(t.Context(), orders, created.Revision, changed)
	require.Equal(t, "options.compress", problemIn(t, err).Field)
	response, err := http.Post(server.URL+"/api/v1/changefeeds?dry_run=maybe", "application/json", http.NoBody)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 400, response.StatusCode)
}

func TestApply(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	manifest := shape.Create{Namespace: "default", Name: "orders", Source: source, Sink: sink, Options: changefeed.Options{"compress": "none"}}
	tried := must(c.TryApply(t.Context(), manifest))
	require.Equal(t, "created", tried.Action)
	require.Len(t, tried.Differences, 4, "source, sink, start and an option")
	require.Empty(t, f.views)
	require.Equal(t, "created", must(c.Apply(t.Context(), manifest)).Action)
	before := f.views[orders].Spec.Revision
	require.Equal(t, "unchanged", must(c.Apply(t.Context(), manifest)).Action)
	require.Equal(t, before, f.views[orders].Spec.Revision)

	manifest.Options = changefeed.Options{"split_keys": "a"}
	for _, do := range []string{"try", "do"} {
		applied := must(c.TryApply(t.Context(), manifest))
		if do == "do" {
			applied = must(c.Apply(t.Context(), manifest))
		}
		require.Equal(t, "updated", applied.Action)
		require.Equal(t, "options.compress", applied.Differences[0].Field)
		require.Equal(t, "none", applied.Differences[0].From)
		require.Empty(t, applied.Differences[0].To)
		require.Equal(t, "a", applied.Differences[1].To)
	}
	require.NotEqual(t, before, f.views[orders].Spec.Revision)
	manifest.Start = "7"
	_, err := c.Apply(t.Context(), manifest)
	require.Equal(t, "start", problemIn(t, err).Field, "what is fixed stays")
	require.ErrorContains(t, err, "default/orders")
}

func TestChangeEditsWhatIsGivenOnly(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	r := request()
	r.Options = changefeed.Options{"compress": "none", "split_keys": "a"}
	must(c.Create(t.Context(), r))
	changed := must(c.Change(t.Context(), orders, edit("compress", "zstd"))).Value
	require.Equal(t, changefeed.Options{"compress": "zstd", "split_keys": "a"}, changed.Options)
	unset := edit("", "")
	unset.Unset = []string{"split_keys"}
	require.Equal(t, changefeed.Options{"compress": "zstd"}, must(c.Change(t.Context(), orders, unset)).Value.Options)
	_, err := c.Change(t.Context(), orders, unset)
	require.ErrorContains(t, err, "--unset")
}

func edit(name, value string) client.Edit {
	out := client.Edit{Set: changefeed.Options{}}
	if name != "" {
		out.Set[name] = value
	}
	return out
}
