package maintainer

import (
	"github.com/prometheus/client_golang/prometheus"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Metrics are what maintainers count. Those of a changefeed are on its owner only, and gone with the ownership.
type Metrics struct {
	lag      *prometheus.GaugeVec
	epoch    *prometheus.GaugeVec
	state    *prometheus.GaugeVec
	changes  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	syncs    *prometheus.CounterVec
	held     prometheus.Histogram
	takeover prometheus.Histogram
	dropped  prometheus.Counter
	motions  *prometheus.CounterVec

	// Refused counts a refusal by a rule, as in "F17"; nil counts nothing.
	Refused func(rule string)
}

func (m *Metrics) refused(rule fence.Refusal) {
	if m.Refused != nil {
		m.Refused(rule.Rule())
	}
}

// NewMetrics makes and registers the metrics.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	labels := []string{"namespace", "changefeed"}
	gauge := func(name, help string, more ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append(more, labels...))
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		lag: gauge("cdc_changefeed_checkpoint_lag_seconds",
			"Seconds since a position above the checkpoint was first known. Alert on what your readers bear."),
		epoch:   gauge("cdc_changefeed_epoch", "Epoch of the ownership. One that changes often: ownership is not steady."),
		state:   gauge("cdc_changefeed_state", "1 for the changefeed's current state. Alert on failed, stalled and retrying.", "state"),
		changes: counter("cdc_changefeed_changes_total", "Changes written to the sink, on all nodes."),
		bytes:   counter("cdc_changefeed_bytes_total", "Bytes of changes written to the sink, on all nodes."),
		syncs: counter("cdc_changefeed_sync_points_total",
			"Sync points that the sink has recorded. With sync_point_interval it rises about as often while data moves."),
		held: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "cdc_sync_point_seconds",
			Help:    "For how long dispatchers were held for a sync point, until the sink said that it is recorded. Growing: a span or the sink is slow.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
		takeover: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cdc_takeover_seconds", Help: "From becoming the owner until every span runs.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cdc_maintainer_dropped_messages_total",
			Help: "Messages dropped because a maintainer's queue was full. Above 0: the node is overloaded; what is dropped is asked again.",
		}),
		motions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cdc_span_motions_total",
			Help: "Moves (drain, balance), splits (split, traffic) and merges (merge, quiet) of spans that this node's owners began.",
		}, []string{"reason"}),
	}
	for _, one := range []prometheus.Collector{m.lag, m.epoch, m.state, m.changes, m.bytes, m.syncs, m.held, m.takeover, m.dropped, m.motions} {
		if err := registry.Register(one); err != nil {
			return nil, wrap(err, "register metrics")
		}
	}
	return m, nil
}

// metered is what was last told to the metrics of one changefeed.
type metered struct {
	state   changefeed.State
	changes uint64
	bytes   uint64
	syncs   uint64
	settled bool // the takeover was counted
	fencing Fencing
}

func (m *Metrics) observe(view View, last *metered) {
	id := view.ID
	m.lag.WithLabelValues(id.Namespace, id.Name).Set(view.Lag.Seconds())
	m.epoch.WithLabelValues(id.Namespace, id.Name).Set(float64(view.Epoch))
	if view.State != last.state {
		if last.state != "" {
			m.state.DeleteLabelValues(string(last.state), id.Namespace, id.Name)
		}
		last.state = view.State
		if view.State != "" {
			m.state.WithLabelValues(string(view.State), id.Namespace, id.Name).Set(1)
		}
	}
	m.changes.WithLabelValues(id.Namespace, id.Name).Add(float64(view.Changes - last.changes))
	m.bytes.WithLabelValues(id.Namespace, id.Name).Add(float64(view.Bytes - last.bytes))
	if view.SyncPoints > last.syncs {
		m.syncs.WithLabelValues(id.Namespace, id.Name).Add(float64(view.SyncPoints - last.syncs))
		m.held.Observe(view.SyncHeld.Seconds())
	}
	last.changes, last.bytes, last.syncs = view.Changes, view.Bytes, view.SyncPoints
}

func (m *Metrics) forget(id changefeed.ID, state changefeed.State) {
	m.lag.DeleteLabelValues(id.Namespace, id.Name)
	m.epoch.DeleteLabelValues(id.Namespace, id.Name)
	m.state.DeleteLabelValues(string(state), id.Namespace, id.Name)
	m.changes.DeleteLabelValues(id.Namespace, id.Name)
	m.bytes.DeleteLabelValues(id.Namespace, id.Name)
	m.syncs.DeleteLabelValues(id.Namespace, id.Name)
}
