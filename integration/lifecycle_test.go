package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

func TestSnapshotThenLive(t *testing.T) {
	const keys = 10_000
	source, target := startEtcd(t, "source"), startEtcd(t, "target")
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sk%05d", sourcePrefix, j), fmt.Sprintf("v%d", j)))
		}
		_, err := source.client.Txn(t.Context()).Then(ops...).Commit()
		require.NoError(t, err)
	}
	_, err := target.client.Put(t.Context(), targetPrefix+"stale", "from before")
	require.NoError(t, err)
	c := startNodes(t, startEtcd(t, "control"), 2)
	w := startWriters(t, source, sourcePrefix, 4, 400, keys)
	must(t, "changefeed", "create", "copy", "--server", c.all[1].url(), "--start", "snapshot",
		"--source", "etcd://"+source.endpoint+sourcePrefix, "--sink", "etcd://"+target.endpoint+targetPrefix,
		"--option", "split_keys="+sourcePrefix+"k03000,"+sourcePrefix+"k06000")
	c.awaitState("copy", "running")
	w.probe(target, targetPrefix, time.Now(), waitMax)
	_ = w.finish()
	must(t, "changefeed", "wait", "copy", "--server", c.all[0].url(), "--caught-up", "--timeout", waitMax.String())
	want, have := source.stored(sourcePrefix), target.stored(targetPrefix)
	for _, stored := range []map[string]judge.Stored{want, have} {
		for key, s := range stored { // a snapshot carries a key's value, not how often it was put before
			stored[key] = judge.Stored{Value: s.Value}
		}
	}
	require.Empty(t, judge.Copy(want, have))
	require.GreaterOrEqual(t, len(have), keys*9/10)
}

func TestPauseResumeRemoveAndCreateAgain(t *testing.T) {
	w := newWorld(t, 200)
	via := w.all[1].url()
	first := w.awaitState("copy", "running")

	must(t, "changefeed", "pause", "copy", "--server", via)
	paused := w.awaitState("copy", "paused")
	require.Empty(t, paused.Owner)
	held := w.target.stored(targetPrefix)
	must(t, "changefeed", "pause", "copy", "--server", via) // pausing what is paused is no error
	w.writers.do("while-paused", "1", false)
	require.Equal(t, held, w.target.stored(targetPrefix), "a paused changefeed writes nothing")
	must(t, "changefeed", "resume", "copy", "--server", via)
	resumed := w.awaitState("copy", "running")
	require.Equal(t, first.UID, resumed.UID)
	require.Greater(t, resumed.Epoch, first.Epoch)
	w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)

	// The owner sleeps while its changefeed is removed and created again: what it holds of the old uid acts on nothing.
	var owner *server
	for _, s := range w.all {
		if s.name == resumed.OwnerName {
			owner = s
		}
	}
	thaw := owner.freeze()
	other := w.alive(owner)
	must(t, "changefeed", "remove", "copy", "--server", other.url(), "--wait", "--timeout", waitMax.String())
	require.Equal(t, 4, cli(t, "changefeed", "get", "copy", "--server", other.url()).code)
	_, err := w.target.client.Delete(t.Context(), targetPrefix, clientv3.WithPrefix())
	require.NoError(t, err)
	must(t, "changefeed", "create", "copy", "--server", other.url(), "--start", "snapshot",
		"--source", "etcd://"+w.source.endpoint+sourcePrefix, "--sink", "etcd://"+w.target.endpoint+targetPrefix)
	again := w.awaitStateBut(owner, "copy", "running")
	require.NotEqual(t, first.UID, again.UID)
	thaw()
	eventually(t, owner.name+" is ready again", func() error { return ready(t.Context(), owner) })
	w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)

	_ = w.writers.finish()
	for _, name := range []string{"copy", "files"} {
		must(t, "changefeed", "wait", name, "--server", via, "--caught-up", "--timeout", waitMax.String())
	}
	want, have := w.source.stored(sourcePrefix), w.target.stored(targetPrefix)
	for _, stored := range []map[string]judge.Stored{want, have} {
		for key, s := range stored {
			stored[key] = judge.Stored{Value: s.Value}
		}
	}
	require.Empty(t, judge.Copy(want, have))
	require.Empty(t, judge.Log(w.writers.log, w.cat()))
}

// awaitStateBut waits for a state, asking another server than the one given.
func (c *nodes) awaitStateBut(but *server, name, state string) feed {
	c.t.Helper()
	var last feed
	eventually(c.t, name+" is "+state, func() error {
		f, err := c.feed(c.alive(but), name)
		last = f
		if err == nil && f.State != state {
			err = fmt.Errorf("it is %q (error %+v)", f.State, f.Error)
		}
		return err
	})
	return last
}

func TestCleanStopWaitsForNoLease(t *testing.T) {
	w := newWorld(t, 200)
	victim := w.gather("copy", "files")
	began := time.Now()
	victim.terminate()
	require.Empty(t, w.nodeID(victim), "the lease is revoked, not left to expire")
	took := w.writers.probe(w.target, targetPrefix, began, waitMax)
	t.Logf("changes flowed %v after SIGTERM", took)
	w.settle()
}
