package faults

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/lab"
)

// A changefeed of one span has connections to its sink where its owner and its dispatcher are, and nowhere else. Hazard 49.
func TestAChangefeedCostsNoConnectionWhereNothingOfItRuns(t *testing.T) {
	t.Parallel()
	with := &shared{source: lab.StartEtcd(t, binary, "source", 1)[0], sink: lab.StartEtcd(t, binary, "sink", 1)[0]}
	c := newCluster(t, with, "i", 1, nodesOfCluster)
	c.startNodes()
	require.NoError(t, c.nodes[0].Call(http.MethodPost, "/api/v1/changefeeds", map[string]any{
		"name": "copy", "source": "etcd://" + c.source.Endpoint + c.sourcePrefix(), "sink": "etcd://" + c.sink.Endpoint + c.targetPrefix(), "start": "now",
	}, nil))
	c.awaitState("copy", "running")
	var owner string
	var running map[string]int
	lab.Eventually(t, "its one span runs", func() error {
		f, err := c.feed("copy")
		if err != nil {
			return err
		}
		owner = f.OwnerName
		if running, err = c.spans(); err == nil && len(running) != 1 {
			err = fmt.Errorf("spans: %v", running)
		}
		return err
	})
	connected := 0
	for _, n := range c.nodes {
		out, err := exec.Command("ip", "netns", "exec", n.Host.Space, "ss", "-Htn", "dst", c.sink.Host.IP).CombinedOutput()
		require.NoError(t, err, "%s", out)
		if n.Name == owner || running[n.Name] > 0 {
			connected += strings.Count(string(out), "\n")
			continue
		}
		require.Empty(t, string(out), "%s runs nothing of it", n.Name)
	}
	require.Positive(t, connected)
}
