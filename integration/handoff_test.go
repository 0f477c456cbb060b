package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/judge"
)

// An owner that hangs is bumped over when it does not release in time, long before its lease ends. What it does when it
// goes on has no effect, and the history says that it did not answer.
func TestHungOwnerIsBumpedOver(t *testing.T) {
	source, target := startEtcd(t, "source"), startEtcd(t, "target")
	c := startNodes(t, startEtcd(t, "control"), 3, "--session-ttl", "30s", "--handoff-timeout", "1s")
	must(t, "changefeed", "create", "copy", "--server", c.all[0].url(), "--start", "now",
		"--source", "etcd://"+source.endpoint+sourcePrefix, "--sink", "etcd://"+target.endpoint+targetPrefix)
	c.awaitState("copy", "running")
	w := startWriters(t, source, sourcePrefix, 4, 200, 100)
	owned := func(via, by *server) {
		eventually(t, "copy is owned by "+by.name, func() error {
			f, err := c.feed(via, "copy")
			if err == nil && (f.OwnerName != by.name || f.State != "running") {
				err = fmt.Errorf("owner %s, %s", f.OwnerName, f.State)
			}
			return err
		})
	}
	coordinator := c.all[0] // it was there first
	require.Equal(t, coordinator.name, c.coordinator(coordinator))
	hung, next := c.all[1], c.all[2]
	if out := cli(t, "changefeed", "move", "copy", "--to", hung.name, "--server", coordinator.url()); out.code != 0 {
		require.Contains(t, out.stderr, "owns the changefeed already")
	}
	owned(coordinator, hung)
	thaw := hung.freeze()
	must(t, "changefeed", "move", "copy", "--to", next.name, "--server", coordinator.url())
	owned(coordinator, next)
	must(t, "changefeed", "wait", "copy", "--caught-up", "--timeout", waitMax.String(), "--server", coordinator.url())
	require.NotEmpty(t, c.nodeID(hung), "its lease has not ended")
	history := c.historiesVia(coordinator, "copy")
	require.Equal(t, "moved", history[0].Reason)
	require.True(t, history[1].Unanswered, "%+v", history)
	thaw()
	eventually(t, hung.name+" is ready", func() error { return ready(t.Context(), hung) })
	_ = w.finish()
	must(t, "changefeed", "wait", "copy", "--caught-up", "--timeout", waitMax.String(), "--server", coordinator.url())
	require.Empty(t, judge.Copy(source.stored(sourcePrefix), target.stored(targetPrefix)))
	for _, one := range c.historiesVia(coordinator, "copy") {
		require.NotEqual(t, "owner_lost", one.Reason)
	}
}
