package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Records that don't parse: the changefeed that they are about shows `failed` with the key, all others go on, and once
// somebody has mended the record it recovers, with nothing lost.
func TestRecordsThatDoNotParse(t *testing.T) {
	t.Parallel() // it waits for the most part
	w := newWorld(t, 200)
	via := w.all[0].url()
	for kind, damage := range map[string]string{"specs": `{"uid":`, "status": `[]`, "epochs": `{"uid":"another","epoch":"seven"}`} {
		w.damage(via, kind, damage)
	}
	w.settle()
}

func (w *world) damage(via, kind, damage string) {
	w.t.Helper()
	key := "/cdc/default/" + kind + "/default/copy"
	w.awaitState("copy", "running")
	eventually(w.t, key+" is there", func() error {
		got, err := w.etcd.client.Get(w.t.Context(), key)
		if err == nil && got.Count == 0 {
			err = fmt.Errorf("%s is not there", key)
		}
		return err
	})
	good, err := w.etcd.client.Get(w.t.Context(), key)
	require.NoError(w.t, err)
	_, err = w.etcd.client.Put(w.t.Context(), key, damage)
	require.NoError(w.t, err)
	what := kind + " " + damage

	f := w.awaitState("copy", "failed")
	require.Equal(w.t, "record.invalid", f.Error.Code, what)
	require.Contains(w.t, f.Error.Message, key, what)
	require.Contains(w.t, must(w.t, "changefeed", "list", "--server", via), "failed", what)
	// The other one goes on.
	before, err := w.feed(w.all[0], "files")
	require.NoError(w.t, err)
	eventually(w.t, "the checkpoint of files moves while "+what, func() error {
		now, err := w.feed(w.all[0], "files")
		if err == nil && (now.State != "running" || position(w.t, now.Checkpoint) < position(w.t, before.Checkpoint)+100) {
			err = fmt.Errorf("%s at %s, was at %s", now.State, now.Checkpoint, before.Checkpoint)
		}
		return err
	})
	if kind == "specs" {
		refused(w.t, 2, []string{"record.invalid", "specs/default/copy", "etcdctl"}, "changefeed", "pause", "copy", "--server", via)
	}
	for _, s := range w.all {
		require.NoError(w.t, ready(w.t.Context(), s), what)
	}
	_, err = w.etcd.client.Put(w.t.Context(), key, string(good.Kvs[0].Value))
	require.NoError(w.t, err)
	w.awaitState("copy", "running")
	took := w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)
	w.t.Logf("%s: flows again %v after it was mended", what, took.Round(time.Millisecond))
}

func position(t *testing.T, text string) int64 {
	t.Helper()
	var out int64
	_, err := fmt.Sscan(text, &out)
	require.NoError(t, err, "position %q", text)
	return out
}

// A record under a name that is none, and one of a node, disturb nobody.
func TestRecordsOfNobody(t *testing.T) {
	etcd := startEtcd(t, "control")
	c := startNodes(t, etcd, 1)
	for _, key := range []string{"specs/default/a/b/c", "specs/onlyone", "nonsense", "nodes/x", "status/default/ghost", "epochs/default/ghost", "handoffs/default/ghost"} {
		_, err := etcd.client.Put(t.Context(), "/cdc/default/"+key, strings.Repeat("{", 100))
		require.NoError(t, err)
	}
	source := startEtcd(t, "source")
	must(t, "changefeed", "create", "fine", "--server", c.all[0].url(), "--source", "etcd://"+source.endpoint+"/a/", "--sink", "blackhole:")
	c.awaitState("fine", "running")
	c.all[0].Kill()
	c.restart(c.all[0])
	c.awaitState("fine", "running")
	require.NotContains(t, must(t, "changefeed", "list", "--server", c.all[0].url(), "-o", "json"), "ghost")
}
