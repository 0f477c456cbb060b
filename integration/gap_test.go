package integration

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

// History that was compacted away stops a changefeed, unless it was told to take a new snapshot: then what was deleted
// meanwhile is deleted in the target too.
func TestCompactedHistory(t *testing.T) {
	source, target := startEtcd(t, "source"), startEtcd(t, "target")
	directory := filepath.Join(t.TempDir(), "files")
	c := startNodes(t, startEtcd(t, "control"), 1)
	via := c.all[0].url()
	put := func(from, to int, value string) {
		for i := from; i < to; i++ {
			_, err := source.client.Put(t.Context(), fmt.Sprintf("%sk%03d", sourcePrefix, i), value)
			require.NoError(t, err)
		}
	}
	put(0, 50, "before")
	feeds := map[string][]string{
		"strict": {"--sink", "etcd://" + target.endpoint + "/strict/"},
		"copy":   {"--sink", "etcd://" + target.endpoint + targetPrefix, "--option", "on_gap=resnapshot"},
		"files":  {"--sink", "file://" + directory, "--option", "on_gap=resnapshot"},
	}
	for name, more := range feeds {
		must(t, append([]string{
			"changefeed", "create", name, "--server", via, "--start", "snapshot",
			"--source", "etcd://" + source.endpoint + sourcePrefix,
		}, more...)...)
		must(t, "changefeed", "wait", name, "--server", via, "--caught-up", "--timeout", waitMax.String())
		must(t, "changefeed", "pause", name, "--server", via)
		c.awaitState(name, "paused")
	}
	put(30, 70, "while paused")
	_, err := source.client.Delete(t.Context(), sourcePrefix+"k000", clientv3.WithRange(sourcePrefix+"k020"))
	require.NoError(t, err)
	got, err := source.client.Get(t.Context(), sourcePrefix, clientv3.WithCountOnly())
	require.NoError(t, err)
	_, err = source.client.Compact(t.Context(), got.Header.Revision)
	require.NoError(t, err)
	for name := range feeds {
		must(t, "changefeed", "resume", name, "--server", via)
	}
	failed := c.awaitState("strict", "failed")
	require.Equal(t, "source.compacted", failed.Error.Code)
	require.Contains(t, failed.Error.Message, "on_gap")
	for _, name := range []string{"copy", "files"} {
		c.awaitState(name, "running")
		must(t, "changefeed", "wait", name, "--server", via, "--caught-up", "--timeout", waitMax.String())
	}
	put(60, 90, "after")
	for _, name := range []string{"copy", "files"} {
		must(t, "changefeed", "wait", name, "--server", via, "--caught-up", "--timeout", waitMax.String())
	}
	want := valuesOf(source.stored(sourcePrefix))
	require.Equal(t, want, valuesOf(target.stored(targetPrefix)))
	folded := make(map[string]string)
	for _, change := range (&world{nodes: c, directory: directory}).cat() {
		if change.Delete {
			delete(folded, change.Key)
		} else {
			folded[change.Key] = change.Value
		}
	}
	require.Equal(t, want, folded, "the files show every deletion that was missed")
}

func valuesOf(stored map[string]judge.Stored) map[string]string {
	out := make(map[string]string, len(stored))
	for key, one := range stored {
		out[key] = one.Value
	}
	return out
}
