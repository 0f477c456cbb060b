package api

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

func TestARedoLogIsRefusedWhereItCanNotDoWhatItIsFor(t *testing.T) {
	const redo = "file:///var/redo/orders"
	for name, test := range map[string]struct {
		sink, redo, says string
	}{
		"a sink without claims":            {"blackhole:", redo, "keep claims"},
		"not a directory of files":         {sink, "etcd://127.0.0.1:2379/redo/", "file"},
		"not absolute":                     {sink, "file:redo", "file"},
		"the sink's own directory":         {"file:///var/redo/orders/", redo, "overlaps"},
		"the sink's directory within":      {"file:///var/redo/orders/sink", redo, "overlaps"},
		"within the sink's directory":      {"file:///var/redo", redo, "overlaps"},
		"the sink's directory, unclean":    {"file:///var/redo/../redo/orders", redo, ""},
		"beside the sink's: not the same":  {"file:///var/redo/orders2", redo, ""},
		"an etcd, which lies nowhere near": {sink, redo, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c, _ := serve(t, f)
			asked := request()
			asked.Sink, asked.Options = test.sink, changefeed.Options{"redo": test.redo}
			_, err := c.Create(t.Context(), asked)
			if test.says == "" && name != "the sink's directory, unclean" {
				require.NoError(t, err)
				return
			}
			problem := problemIn(t, err)
			require.Equal(t, http.StatusBadRequest, problem.Status)
			require.Contains(t, problem.Field+problem.Detail+problem.Cure, test.says)
			require.Empty(t, f.views)
		})
	}
}

func TestARedoDirectoryOfAnotherChangefeedIsRefused(t *testing.T) {
	const redo = "file:///var/redo/orders"
	f := newFake()
	cluster := f.Store().ClusterID
	c, _ := serve(t, f)
	asked := request()
	asked.Options = changefeed.Options{"redo": redo}
	for name, seen := range map[string]Look{
		"another changefeed": {Held: true, Holder: Owner{ID: changefeed.ID{Namespace: "default", Name: "bills"}, UID: "u9"}, HolderCluster: cluster},
		"another cluster":    {Held: true, Holder: Owner{ID: orders, UID: "u9"}, HolderCluster: "elsewhere"},
	} {
		f.heads[redo] = seen
		_, err := c.Create(t.Context(), asked)
		problem := problemIn(t, err)
		require.Equal(t, http.StatusUnprocessableEntity, problem.Status, name)
		require.Equal(t, changefeed.CodeSinkInUse, problem.Code, name)
		require.Equal(t, "redo", problem.Field, name)
		require.Contains(t, problem.Detail, string(seen.Holder.UID), name)
		require.Contains(t, problem.Cure, "empty directory", name)
	}
	require.Empty(t, f.views)
	f.heads[redo] = Look{Held: true, Holder: Owner{ID: orders, UID: "u9"}, HolderCluster: cluster}
	must(c.Create(t.Context(), asked))
}

func TestARedoLogCanOnlyBeTakenAway(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	update := func(options changefeed.Options) (client.Answer[shape.Changefeed], error) {
		next := request()
		next.Options = options
		return c.Update(t.Context(), orders, must(c.Changefeed(t.Context(), orders)).Value.Revision, next)
	}
	created := request()
	created.Options = changefeed.Options{"redo": "file:///var/redo/a"}
	must(c.Create(t.Context(), created))
	_, err := update(changefeed.Options{"redo": "file:///var/redo/b"})
	require.Equal(t, "redo", problemIn(t, err).Field)
	must(update(changefeed.Options{"redo": "file:///var/redo/a", "compress": "zstd"}))
	must(update(changefeed.Options{}))
	_, err = update(changefeed.Options{"redo": "file:///var/redo/a"})
	require.Contains(t, problemIn(t, err).Detail, "when a changefeed is created")
}

func TestACheckLooksAtTheRedoLogToo(t *testing.T) {
	spec := &record.Spec{UID: "u", Namespace: "default", Name: "orders", Desired: changefeed.DesiredRunning}
	feed := &feedFacts{
		spec: spec, epoch: &record.Epoch{UID: "u", Epoch: 5}, status: &record.Status{UID: "u", Epoch: 5, Checkpoint: 7, State: changefeed.StateRunning},
	}
	mine := Holding{Kept: true, Exists: true, Owner: Owner{ID: orders, UID: "u"}, Floor: 5, Highest: 5}
	for name, test := range map[string]struct {
		redo *RedoHolding
		code changefeed.Code
	}{
		"none":       {nil, ""},
		"as it is":   {&RedoHolding{Holding: mine}, ""},
		"lost":       {&RedoHolding{Holding: Holding{Kept: true}}, changefeed.CodeSinkLost},
		"unreadable": {&RedoHolding{Err: errors.New("permission denied")}, changefeed.CodeSinkUnreachable},
		"of another": {&RedoHolding{Holding: Holding{Kept: true, Exists: true, Owner: Owner{ID: orders, UID: "x"}, Floor: 9, Highest: 9}}, changefeed.CodeSinkInUse},
		"of the future": {&RedoHolding{Holding: Holding{
			Kept: true, Exists: true, Owner: mine.Owner, Floor: fence.Epoch(9), Highest: 9,
		}}, changefeed.CodeEpochBehindSink},
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{}
			r.redo(orders, feed, feed, test.redo)
			if test.code == "" {
				require.Empty(t, r.found)
				return
			}
			require.Len(t, r.found, 1)
			require.Equal(t, string(test.code), r.found[0].Code)
			require.Equal(t, "default/orders (redo log)", r.found[0].Subject)
			require.NotContains(t, r.found[0].Detail, "sink")
		})
	}
}

func TestOverlap(t *testing.T) {
	for _, pair := range [][2]string{{"/a/b", "/a/b"}, {"/a/b", "/a/b/c"}, {"/", "/a"}, {"/a/b/", "/a/b"}} {
		require.True(t, overlap(pair[0], pair[1]), pair)
		require.True(t, overlap(pair[1], pair[0]), pair)
	}
	require.False(t, overlap("/a/b", "/a/bc"))
}
