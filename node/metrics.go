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
	return m.watchEach(retained, "cdc_source_retained_bytes",
		"Bytes of its log that the source keeps for the changefeed. Growing: the checkpoint stands still. Alert well before the source's disk is full.")
}

// watchStreamed shows what is kept of transactions in progress.
func (m *metrics) watchStreamed(streamed func() map[changefeed.ID]int64) error {
	return m.watchEach(streamed, "cdc_source_streamed_bytes",
		"Bytes of transactions in progress that the source has sent already, on the disk of the owner until they commit.")
}

// watchEach shows a number of bytes for each changefeed.
func (m *metrics) watchEach(bytes func() map[changefeed.ID]int64, name, help string) error {
	return m.registry.Register(&bytesEach{bytes: bytes, described: prometheus.NewDesc(name, help, []string{"namespace", "changefeed"}, nil)})
}

// bytesEach is a gauge that is read when it is gathered.
type bytesEach struct {
	bytes     func() map[changefeed.ID]int64
	described *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (b *bytesEach) Describe(to chan<- *prometheus.Desc) { to <- b.described }

// Collect implements [prometheus.Collector].
func (b *bytesEach) Collect(to chan<- prometheus.Metric) {
	for id, bytes := range b.bytes() {
		to <- prometheus.MustNewConstMetric(b.described, prometheus.GaugeValue, float64(bytes), id.Namespace, id.Name)
	}
}
