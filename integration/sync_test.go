package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

// syncPoint is one that a sink recorded. Revision is the target's, where that is an etcd.
type syncPoint struct{ position, revision int64 }

// fileSyncs lists the sync points of the file sink.
func (w *world) fileSyncs() []syncPoint {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.directory, "syncs"))
	if !os.IsNotExist(err) {
		require.NoError(w.t, err)
	}
	var out []syncPoint
	for _, entry := range entries {
		digits, _, isSync := strings.Cut(entry.Name(), "-")
		if at, err := strconv.ParseInt(digits, 10, 64); isSync && err == nil {
			out = append(out, syncPoint{position: at})
		}
	}
	return out
}

// copySyncs lists those of the etcd sink. Each was written once.
func (w *world) copySyncs() []syncPoint {
	w.t.Helper()
	got, err := w.target.client.Get(w.t.Context(), "/cdc-claims/", clientv3.WithPrefix())
	require.NoError(w.t, err)
	var out []syncPoint
	for _, kv := range got.Kvs {
		_, digits, found := strings.Cut(string(kv.Key), "/default/copy/syncs/")
		if !found {
			continue
		}
		at, err := strconv.ParseInt(digits, 10, 64)
		require.NoError(w.t, err, string(kv.Key))
		require.EqualValues(w.t, 1, kv.Version, "%s was written again", kv.Key)
		out = append(out, syncPoint{position: at, revision: kv.ModRevision})
	}
	return out
}

// awaitSyncs waits until both sinks have recorded a sync point above what was written before it was called, and one more.
func (w *world) awaitSyncs() {
	w.t.Helper()
	for range 2 {
		at := w.writers.mark()
		for name, list := range map[string]func() []syncPoint{"copy": w.copySyncs, "files": w.fileSyncs} {
			eventually(w.t, fmt.Sprintf("%s has a sync point at %d or above", name, at), func() error {
				if last := highest(list()); last < at {
					return fmt.Errorf("the last one is %d", last)
				}
				return nil
			})
		}
	}
}

func highest(points []syncPoint) int64 {
	var out int64
	for _, point := range points {
		out = max(out, point.position)
	}
	return out
}

// While writers write over spans of three nodes, the owner is killed, and then a node that runs dispatchers only. Every sync
// point that was recorded is a cut: what it holds is exactly what was written up to its position. Hazard 38.
func TestEverySyncPointIsACutOfWhatWasWritten(t *testing.T) {
	w := newWorld(t, 400, "sync_point_interval=1s", "split_keys=/orders/k00200,/orders/k00400,/orders/k00600")
	w.awaitSyncs()
	owner := w.ownerOf("copy")
	owner.Kill()
	w.awaitSyncs()
	w.restart(owner)
	w.awaitSyncs()
	now := w.ownerOf("copy")
	other := w.all[slices.IndexFunc(w.all, func(s *server) bool { return s != now })]
	other.Kill()
	w.awaitSyncs()
	w.restart(other)
	w.awaitSyncs()
	w.settle()
	log := w.writers.finish()
	require.False(t, slices.ContainsFunc(log, func(p judge.Put) bool { return p.Revision == 0 }), "the source answers always")

	files, copies := w.fileSyncs(), w.copySyncs()
	for _, point := range files {
		seen := w.cat("--sync-point", strconv.FormatInt(point.position, 10))
		require.Empty(t, judge.Log(judge.UpTo(log, point.position), seen), "files at %d", point.position)
	}
	for _, point := range copies {
		require.Empty(t, judge.Copy(judge.At(log, point.position), w.target.storedAt(targetPrefix, point.revision)), "copy at %d", point.position)
	}
	last := w.cat("--sync-point", "last")
	require.Empty(t, judge.Log(judge.UpTo(log, highest(files)), last))
	t.Logf("judged %d sync points of files and %d of a copy, over %d writes", len(files), len(copies), len(log))
	require.GreaterOrEqual(t, len(files), 8)
	require.GreaterOrEqual(t, len(copies), 8)
}

// ownerOf returns the server that owns a changefeed.
func (w *world) ownerOf(name string) *server {
	w.t.Helper()
	owner := w.awaitState(name, "running").OwnerName
	return w.all[slices.IndexFunc(w.all, func(s *server) bool { return s.name == owner })]
}
