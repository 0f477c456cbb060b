package integration

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What happens in the cluster is told by any node, as it happens: a killed owner is seen to go, and another to take over.
func TestEventsOfATakeover(t *testing.T) {
	etcd := startEtcd(t, "one")
	c := startNodes(t, etcd, 2)
	must(t, "changefeed", "create", "copy", "--source", "etcd://"+etcd.endpoint+"/orders/", "--sink", "blackhole:", "--server", c.all[0].url())
	owner := c.awaitState("copy", "running")
	var victim, witness *server
	for _, s := range c.all {
		if s.name == owner.OwnerName {
			victim = s
		} else {
			witness = s
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, witness.url()+"/api/v1/events", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // closed when the test ends
	require.NoError(t, err)
	var mu sync.Mutex
	var heard strings.Builder
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			mu.Lock()
			heard.WriteString(lines.Text() + "\n")
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = response.Body.Close()
	})
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return heard.String()
	}
	eventually(t, "the stream is there", func() error {
		if !strings.Contains(text(), ": what happens from now on") {
			return fmt.Errorf("it says %q", text())
		}
		return nil
	})
	// The first thing that is heard proves that what comes after it will be.
	must(t, "changefeed", "create", "other", "--source", "etcd://"+etcd.endpoint+"/others/", "--sink", "blackhole:", "--server", witness.url())
	for _, part := range []string{`event: ownership`, `"changefeed":"default/other"`} {
		eventually(t, part+" is heard", func() error {
			if !strings.Contains(text(), part) {
				return fmt.Errorf("heard: %s", text())
			}
			return nil
		})
	}
	victim.Kill()
	for _, part := range []string{
		`"from":"` + owner.Owner + `"`, `"reason":"owner_lost"`, "event: node", `"node_name":"` + victim.name + `","from":"alive"`, "event: state",
	} {
		eventually(t, part+" is heard", func() error {
			if !strings.Contains(text(), part) {
				return fmt.Errorf("heard: %s", text())
			}
			return nil
		})
	}
}
