package integration

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/trace"
)

// traces is a collector that keeps which steps each trace has, and of which nodes.
type traces struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	steps map[string]map[string][]string // trace id, name of the span, nodes
}

func (c *traces) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range in.GetResourceSpans() {
		node := ""
		for _, one := range from.GetResource().GetAttributes() {
			if one.GetKey() == "service.instance.id" {
				node = one.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := hex.EncodeToString(span.GetTraceId())
				if c.steps[id] == nil {
					c.steps[id] = map[string][]string{}
				}
				c.steps[id][span.GetName()] = append(c.steps[id][span.GetName()], node)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// whole returns the nodes of each step of an ownership, once it has all of them.
func (c *traces) whole(uid string, epoch uint64) (map[string][]string, error) {
	ids := trace.Of(changefeed.UID(uid), fence.Epoch(epoch))
	c.mu.Lock()
	defer c.mu.Unlock()
	steps := c.steps[hex.EncodeToString(ids.Trace[:])]
	for _, kind := range []trace.Kind{trace.Bump, trace.Start, trace.Bootstrap, trace.Place, trace.FirstWrite} {
		if len(steps[string(kind)]) == 0 {
			return nil, fmt.Errorf("it has no %s: %v", kind, steps)
		}
	}
	return steps, nil
}

func startTraces(t *testing.T) (*traces, string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c, server := &traces{steps: map[string]map[string][]string{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return c, "http://" + listener.Addr().String()
}

// A takeover after a crash is one trace from the bump to the first writes, though three processes tell it and no record or
// message carries anything of it.
func TestATakeoverIsOneTrace(t *testing.T) {
	collected, endpoint := startTraces(t)
	source, target := startEtcd(t, "source"), startEtcd(t, "target")
	c := startNodes(t, startEtcd(t, "control"), 3, "--trace-endpoint", endpoint)
	must(t, "changefeed", "create", "copy", "--server", c.all[0].url(), "--source", "etcd://"+source.endpoint+sourcePrefix,
		"--sink", "etcd://"+target.endpoint+targetPrefix, "--start", "now",
		"--option", "split_keys="+sourcePrefix+"k00200,"+sourcePrefix+"k00400,"+sourcePrefix+"k00600")
	first := c.awaitState("copy", "running")
	startWriters(t, source, sourcePrefix, 4, 200, 800)
	created := map[string][]string{}
	eventually(t, "the creation is one trace", func() (err error) {
		created, err = collected.whole(first.UID, first.Epoch)
		return err
	})
	require.Equal(t, []string{first.OwnerName}, created["place"])

	for _, s := range c.all {
		if s.name == first.OwnerName {
			s.Kill()
		}
	}
	eventually(t, "the takeover is one trace", func() error {
		f, err := c.feed(c.alive(), "copy")
		if err != nil || f.Epoch == first.Epoch {
			return fmt.Errorf("epoch %d: %w", f.Epoch, err)
		}
		taken, err := collected.whole(f.UID, f.Epoch)
		if err != nil {
			return err
		}
		nodes := map[string]bool{}
		for _, names := range taken {
			for _, name := range names {
				nodes[name] = true
			}
		}
		require.Len(t, taken["start"], 1, "one owner")
		require.NotContains(t, nodes, first.OwnerName, "it is dead")
		return nil
	})
}
