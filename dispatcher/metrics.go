package dispatcher

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"fencerow/fence"
	"fencerow/internal/failpoint"
)

// Metrics are what dispatcher hosts count. They are made once per process and outlive the hosts.
type Metrics struct {
	dispatchers *prometheus.GaugeVec
	rejections  *prometheus.CounterVec
	dropped     prometheus.Counter
	writes      *prometheus.HistogramVec
	written     prometheus.Counter
	again       prometheus.Counter
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		dispatchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cdc_dispatchers", Help: "Dispatchers that run on this node.",
		}, []string{"namespace", "changefeed"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cdc_fence_rejections_total",
			Help: "Commands, reports and writes that a fence refused, by its rule. Some after a takeover are the fence at work; steady ones are not.",
		}, []string{"rule"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cdc_dispatcher_messages_dropped_total",
			Help: "Messages dropped because their mailbox was full. Above 0: the node is overloaded; what is dropped is asked again.",
		}),
		writes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cdc_sink_write_seconds", Help: "Time of one write to a sink, by the kind of sink. Growing: the sink gets slow.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
		}, []string{"kind"}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cdc_dispatcher_changes_written_total", Help: "Changes that this node has written to sinks.",
		}),
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cdc_dispatcher_changes_again_total",
			Help: "Changes that were read although the sink had them, and left out: some after a crash, none after a move in good order.",
		}),
	}
	registerer.MustRegister(m.dispatchers, m.rejections, m.dropped, m.writes, m.written, m.again)
	return m
}

// Refused counts a refusal by a rule, as in "F9". All parts of a node count here. It may be called by any goroutine.
func (m *Metrics) Refused(rule string) {
	if failpoint.On {
		failpoint.Trace("refused", rule)
	}
	m.rejections.WithLabelValues(rule).Inc()
}

// The fences of pumps and of the sinks that they write to, by their numbers.
const (
	refusedSession     fence.Refusal = 21
	refusedClaim       fence.Refusal = 22
	refusedIncarnation fence.Refusal = 23
)

// refusedStale counts a refusal by the sink.
func (m *Metrics) refusedStale(err error, rule fence.Refusal) {
	if errors.Is(err, fence.ErrStale) {
		m.Refused(rule.Rule())
	}
}
