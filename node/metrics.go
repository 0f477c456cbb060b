package node

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fencerow/changefeed"
	"fencerow/coordinator"
	"fencerow/dispatcher"
	"fencerow/maintainer"
	"fencerow/peer"
)

// metrics are those of all parts of the process, in one registry.
type metrics struct {
	registry    registry
	coordinator *coordinator.Metrics
	maintainer  *maintainer.Metrics
	dispatcher  *dispatcher.Metrics
	peer        *peer.Metrics
}

// registry is what metrics are registered in and gathered from.
type registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

func newMetrics(in registry) (*metrics, error) {
	m := &metrics{registry: in}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if m.maintainer, err = maintainer.NewMetrics(m.registry); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if m.coordinator, err = coordinator.NewMetrics(m.registry); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	m.dispatcher = dispatcher.NewMetrics(m.registry)
	m.maintainer.Refused = m.dispatcher.Refused
	m.peer = peer.NewMetrics(m.registry)
	return m, nil
}

// watchSession shows how long the node may act.
func (m *metrics) watchSession(remaining func() float64) error {
	return m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cdc_session_remaining_seconds",
		Help: "Seconds until the local deadline of the node's session; 0 without a session. Near 0: etcd is slow.",
	}, remaining))
}

// watchSpool shows what is spooled.
func (m *metrics) watchSpool(used func() int64) error {
	return m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cdc_log_spooled_bytes",
		Help: "Bytes that slow spans of changefeeds with one log are behind with, on the disk of their owner. At its bound the source waits.",
	}, func() float64 { return float64(used()) }))
}

// watchRetained shows what sources keep.
func (m *metrics) watchRetained(retained func() map[changefeed.ID]int64) error {
	return m.registry.Register(&retainedBytes{retained: retained, described: prometheus.NewDesc("cdc_source_retained_bytes",
		"Bytes of its log that the source keeps for the changefeed. Growing: the checkpoint stands still. Alert well before the source's disk is full.",
		[]string{"namespace", "changefeed"}, nil)})
}

// retainedBytes is a gauge that is read when it is gathered.
type retainedBytes struct {
	retained  func() map[changefeed.ID]int64
	described *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (r *retainedBytes) Describe(to chan<- *prometheus.Desc) { to <- r.described }

// Collect implements [prometheus.Collector].
func (r *retainedBytes) Collect(to chan<- prometheus.Metric) {
	for id, bytes := range r.retained() {
		to <- prometheus.MustNewConstMetric(r.described, prometheus.GaugeValue, float64(bytes), id.Namespace, id.Name)
	}
}
