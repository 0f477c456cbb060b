package otlp_test

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"fencerow/changefeed"
	"fencerow/trace"
	"fencerow/trace/otlp"
)

// sink is a collector that keeps what it is sent.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	got []*spans.ResourceSpans
}

func (s *sink) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, in.GetResourceSpans()...)
	return &collector.ExportTraceServiceResponse{}, nil
}

func startCollector(t *testing.T) (*sink, string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, server := &sink{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return s, "http://" + listener.Addr().String()
}

// Steps that two nodes tell of one ownership are one trace under the bump, whoever of them comes first.
func TestStepsOfAllNodesAreOneTrace(t *testing.T) {
	s, endpoint := startCollector(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	step := func(kind trace.Kind) trace.Step {
		return trace.Step{
			Kind: kind, ID: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u", Epoch: 7, From: at, To: at.Add(time.Second),
			Reason: "owner_lost", Owner: "n2",
		}
	}
	for node, kinds := range map[string][]trace.Kind{"n1": {trace.Bump}, "n2": {trace.Start, trace.FirstWrite}} {
		exporter, err := otlp.New(t.Context(), otlp.Config{Endpoint: endpoint, Node: node, Cluster: "c", Version: "v", Log: zap.NewNop()})
		require.NoError(t, err)
		for _, kind := range kinds {
			exporter.Recorder(t.Context())(step(kind))
		}
		require.NoError(t, exporter.Close(t.Context()))
	}
	ids := trace.Of("u", 7)
	names := map[string]string{} // of spans, to the node
	for _, from := range s.got {
		node := ""
		for _, one := range from.GetResource().GetAttributes() {
			if one.GetKey() == "service.instance.id" {
				node = one.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				names[span.GetName()] = node
				require.Equal(t, hex.EncodeToString(ids.Trace[:]), hex.EncodeToString(span.GetTraceId()))
				require.EqualValues(t, time.Second, span.GetEndTimeUnixNano()-span.GetStartTimeUnixNano())
				if span.GetName() == string(trace.Bump) {
					require.Equal(t, ids.Root[:], span.GetSpanId())
					require.Empty(t, span.GetParentSpanId())
				} else {
					require.Equal(t, ids.Root[:], span.GetParentSpanId())
				}
				require.Contains(t, span.String(), "default/orders")
			}
		}
	}
	require.Equal(t, map[string]string{"bump": "n1", "start": "n2", "first write": "n2"}, names)
}

// A collector that isn't there keeps nobody waiting but who closes, as long as that wants.
func TestACollectorThatIsGoneCostsNothing(t *testing.T) {
	exporter, err := otlp.New(t.Context(), otlp.Config{Endpoint: "http://127.0.0.1:1", Node: "n", Cluster: "c", Log: zap.NewNop()})
	require.NoError(t, err)
	record := exporter.Recorder(t.Context())
	for range 10_000 {
		record(trace.Step{Kind: trace.Bump, UID: "u", Epoch: 1})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, exporter.Close(ctx))
}

func TestEndpoints(t *testing.T) {
	for endpoint, fault := range map[string]string{
		"http://127.0.0.1:4317": "", "http://localhost:4317": "", "http://[::1]:4317": "", "https://collector:4317": "",
		"http://collector:4317": "plain text", "http://10.0.0.1:4317": "plain text", "collector:4317": "URL", "ftp://x": "URL",
		"": "URL", "https://u:p@collector:4317": "password",
	} {
		err := otlp.Check(endpoint)
		if fault == "" {
			require.NoError(t, err, endpoint)
			continue
		}
		require.ErrorContains(t, err, fault, endpoint)
	}
}
