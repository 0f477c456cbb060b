package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// olderBinary builds a cdc-node of one feature level below that of this version.
func olderBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cdc-node-older")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "level0", "-o", path, "fencerow/cmd/cdc-node")
	build.Stderr = os.Stderr
	require.NoError(t, build.Run())
	return path
}

// raw reads a record as it is stored.
func (w *world) raw(key string) string {
	w.t.Helper()
	got, err := w.etcd.client.Get(w.t.Context(), "/cdc/default/"+key)
	require.NoError(w.t, err)
	require.Len(w.t, got.Kvs, 1, key)
	return string(got.Kvs[0].Value)
}

// plant puts a field into a record that no version knows, as one of a later version would.
func (w *world) plant(key string) {
	w.t.Helper()
	text := strings.TrimSuffix(w.raw(key), "}") + `,"of_later":{"kept":true}}`
	_, err := w.etcd.client.Put(w.t.Context(), "/cdc/default/"+key, text)
	require.NoError(w.t, err)
}

// level is the cluster's feature level, as the records have it.
func (w *world) level() int {
	w.t.Helper()
	var meta struct {
		Level int `json:"level"`
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.raw("meta")), &meta))
	return meta.Level
}

// levels are those of the living nodes.
func (w *world) levels() []int {
	w.t.Helper()
	got, err := w.etcd.client.Get(w.t.Context(), "/cdc/default/nodes/", clientv3.WithPrefix())
	require.NoError(w.t, err)
	var out []int
	for _, kv := range got.Kvs {
		var node struct {
			Level int `json:"level"`
		}
		require.NoError(w.t, json.Unmarshal(kv.Value, &node))
		out = append(out, node.Level)
	}
	slices.Sort(out)
	return out
}

// hosts waits until every node runs a span of the changefeed, so that nodes of both versions work under one owner.
func (w *world) hosts(name string) {
	w.t.Helper()
	eventually(w.t, "every node runs a span of "+name, func() error {
		var list struct {
			Items []struct {
				NodeName string `json:"node_name"`
				State    string `json:"state"`
			} `json:"items"`
		}
		out := must(w.t, "changefeed", "spans", name, "--server", w.alive().url(), "-o", "json")
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		names := map[string]bool{}
		for _, span := range list.Items {
			names[span.NodeName] = true
		}
		if len(names) != len(w.all) {
			return fmt.Errorf("only %v do", slices.Sorted(maps.Keys(names)))
		}
		return nil
	})
}

// Nodes of two feature levels run one cluster while it is upgraded, one node after the other, under load, with owners of
// both; the level rises with the last, never falls, and shuts a binary that lacks it out. What neither version knows stays.
func TestTwoVersionsInOneCluster(t *testing.T) {
	older := olderBinary(t)
	w := newWorldOf(t, older, 400, "split_keys="+sourcePrefix+"k00300,"+sourcePrefix+"k00600")
	w.plant("meta")
	w.plant("specs/default/copy")
	require.Zero(t, w.level())

	for i, s := range w.all {
		s.terminate()
		s.binary = ""
		w.restart(s)
		if i == len(w.all)-1 {
			break
		}
		require.Zero(t, w.level(), "a node of the older level is there")
		require.Contains(t, w.levels(), 0)
		require.Contains(t, w.levels(), 1)
		w.hosts("copy")
		for _, to := range []*server{w.all[0], w.all[2]} { // a newer owner of older hosts, and an older one of newer hosts
			must(t, "changefeed", "update", "files", "--option", fmt.Sprintf("batch_changes=%d", 100+i), "--server", to.url())
			cli(t, "changefeed", "move", "copy", "--to", to.name, "--server", s.url())
			eventually(t, "copy is owned by "+to.name, func() error {
				f, err := w.feed(to, "copy")
				if err == nil && (f.OwnerName != to.name || f.State != "running") {
					err = fmt.Errorf("owner %s, %s", f.OwnerName, f.State)
				}
				return err
			})
		}
	}
	eventually(t, "the level rises with the last node", func() error {
		if level := w.level(); level != 1 {
			return fmt.Errorf("it is %d", level)
		}
		return nil
	})

	late := startBinary(t, older, "late", append(slices.Clone(w.all[0].args), "--name", "late", "--http-addr", freeAddr(t), "--peer-addr", freeAddr(t))...)
	<-late.Exited
	require.Equal(t, 1, late.Cmd.ProcessState.ExitCode())
	require.Contains(t, late.Output.String(), "run the newer cdc-node that the other nodes run")
	require.Equal(t, []int{1, 1, 1}, w.levels())
	require.Equal(t, 1, w.level())

	w.hosts("copy")
	require.Contains(t, w.raw("meta"), `"of_later":{"kept":true}`)
	require.Contains(t, w.raw("specs/default/copy"), `"of_later":{"kept":true}`)
	for _, history := range w.histories("copy") {
		require.NotContains(t, []string{"owner_lost", "owner_silent", "owner_failed"}, history.Reason)
	}
	w.settle()
}
