package integration

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// One change is left out by hand; those before and after it arrive, and the record says what is missing.
func TestAChangeIsLeftOut(t *testing.T) {
	etcd := startEtcd(t, "one")
	c := startNodes(t, etcd, 1)
	on := func(args ...string) []string { return append(args, "--server", c.all[0].url()) }
	must(t, on("changefeed", "create", "copy", "--source", "etcd://"+etcd.endpoint+"/orders/", "--sink", "etcd://"+etcd.endpoint+"/copy/")...)
	c.awaitState("copy", "running")
	must(t, on("changefeed", "pause", "copy")...)
	c.awaitState("copy", "paused")
	position := int64(0)
	for _, key := range []string{"before", "refused", "after"} {
		put, err := etcd.client.Put(t.Context(), "/orders/"+key, key)
		require.NoError(t, err)
		if key == "refused" {
			position = put.Header.Revision
		}
	}
	shown := must(t, on("changefeed", "skip", "copy", "--position", strconv.FormatInt(position, 10), "--index", "0")...)
	require.Regexp(t, fmt.Sprintf(`left out +position %d, index 0`, position), shown)
	must(t, on("changefeed", "resume", "copy")...)
	must(t, on("changefeed", "wait", "copy", "--caught-up", "--timeout", "60s")...)
	copied := etcd.stored("/copy/")
	require.Contains(t, copied, "before")
	require.Contains(t, copied, "after")
	require.NotContains(t, copied, "refused")
	refused(t, 2, []string{"is done"}, on("changefeed", "skip", "copy", "--position", strconv.FormatInt(position, 10))...)
}
