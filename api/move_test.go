package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
)

func TestMoveTarget(t *testing.T) {
	cluster := ClusterView{Nodes: []record.Node{
		{ID: "id-1", Name: "n1", Liveness: record.Alive},
		{ID: "id-2", Name: "n2", Liveness: record.Draining},
		{ID: "id-3", Name: "n3", Liveness: record.Stopping},
	}}
	for _, to := range []string{"n1", "id-1"} {
		node, err := moveTarget(cluster, to)
		require.NoError(t, err)
		require.Equal(t, changefeed.NodeID("id-1"), node.ID)
	}
	for to, want := range map[string]struct {
		code   changefeed.Code
		status int
	}{
		"n2": {changefeed.CodeNodeDraining, http.StatusUnprocessableEntity},
		"n3": {changefeed.CodeNodeDraining, http.StatusUnprocessableEntity},
		"n4": {changefeed.CodeNodeNotFound, http.StatusNotFound},
		"":   {changefeed.CodeNodeNotFound, http.StatusNotFound},
	} {
		_, err := moveTarget(cluster, to)
		problem := problemOf(err)
		require.Equal(t, want.code, problem.Code, to)
		require.Equal(t, want.status, problem.Status, to)
		require.NotEmpty(t, problem.Cure, to)
	}
}
