// Package otlp sends the steps of ownerships to an OpenTelemetry collector, as spans of one trace for each ownership. It is
// the only user of OpenTelemetry. A collector that is slow or gone costs spans and a line in the log, never work.
package otlp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	ownership "fencerow/trace"
)

const (
	spansWaitingMax = 2048            // above it spans are dropped: a busy node makes some for each takeover
	exportMax       = 5 * time.Second // one attempt to send
	batchWait       = time.Second
)

// Config says where spans go, and from whom they are.
type Config struct {
	Endpoint string // URL of an OTLP collector that speaks gRPC
	Node     string // the node's name
	Cluster  string
	Version  string
	Log      *zap.Logger
}

// Check refuses an endpoint that is no URL, or that would be sent to in plain text beyond this machine.
func Check(endpoint string) error {
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return errors.New("is not a URL such as https://collector:4317")
	}
	if parsed.User != nil {
		return errors.New("has a password in it")
	}
	host := parsed.Hostname()
	ip := net.ParseIP(host)
	if local := strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback(); parsed.Scheme == "http" && !local {
		return errors.New("would be sent to in plain text beyond loopback")
	}
	return nil
}

// Exporter sends steps. Make it with [New] and close it.
type Exporter struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New makes an exporter. It connects when there is something to send.
func New(ctx context.Context, config Config) (*Exporter, error) {
	if err := Check(config.Endpoint); err != nil {
		return nil, fmt.Errorf("otlp: %s %w", config.Endpoint, err)
	}
	client, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(config.Endpoint), otlptracegrpc.WithTimeout(exportMax))
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { config.Log.Warn("traces were not sent", zap.Error(err)) }))
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(client, sdk.WithMaxQueueSize(spansWaitingMax), sdk.WithBatchTimeout(batchWait), sdk.WithExportTimeout(exportMax)),
		sdk.WithIDGenerator(generator{}), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "cdc-node"), attribute.String("service.version", config.Version),
			attribute.String("service.namespace", config.Cluster), attribute.String("service.instance.id", config.Node),
		)),
	)
	return &Exporter{provider: provider, tracer: provider.Tracer("fencerow")}, nil
}

// Recorder returns what takes steps and sends them, later. Of ctx it takes the values only.
func (e *Exporter) Recorder(ctx context.Context) ownership.Recorder {
	ctx = context.WithoutCancel(ctx)
	return func(step ownership.Step) { e.record(ctx, step) }
}

func (e *Exporter) record(ctx context.Context, step ownership.Step) {
	ids := ownership.Of(step.UID, step.Epoch)
	attributes := []attribute.KeyValue{
		attribute.String("changefeed", step.ID.String()), attribute.String("uid", string(step.UID)),
		attribute.Int64("epoch", int64(step.Epoch)), //nolint:gosec // far below
	}
	if step.Seq != 0 {
		attributes = append(attributes, attribute.Int64("seq", int64(step.Seq))) //nolint:gosec // far below
	}
	if step.Kind == ownership.Bump {
		attributes = append(attributes, attribute.String("reason", string(step.Reason)), attribute.String("owner_name", step.Owner))
	}
	if step.Kind == ownership.Bump {
		ctx = context.WithValue(ctx, rootKey{}, ids)
	} else {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: ids.Trace, SpanID: ids.Root, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	_, span := e.tracer.Start(ctx, string(step.Kind), trace.WithTimestamp(step.From), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(step.To))
}

// Close sends what waits, as long as ctx lasts.
func (e *Exporter) Close(ctx context.Context) error {
	if err := e.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("otlp: %w", err)
	}
	return nil
}

// rootKey is the key of the ids of a root in a context.
type rootKey struct{}

// generator gives a root the ids of its ownership, and other spans random ones.
type generator struct{}

// NewIDs returns those of a span without a parent.
func (g generator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(rootKey{}).(ownership.IDs) //nolint:errcheck // there is no other span without a parent
	return ids.Trace, ids.Root
}

// NewSpanID returns that of a span with a parent.
func (g generator) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}
