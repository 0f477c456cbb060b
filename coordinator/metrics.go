package coordinator

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what a coordinator counts. They outlive terms.
type Metrics struct {
	bumps         *prometheus.CounterVec
	bumpSeconds   prometheus.Histogram
	term          prometheus.Gauge
	writesFailing prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		bumps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cdc_epoch_bumps_total", Help: "Epochs that this node, as coordinator, has handed out, by reason.",
		}, []string{"reason"}),
		bumpSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cdc_epoch_bump_seconds", Help: "From the decision to bump to the store's answer. Growing: etcd gets slow.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		term: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cdc_coordinator_term", Help: "The term of this node as coordinator; 0 while it is not. Above 0 on exactly one node.",
		}),
		writesFailing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cdc_coordinator_writes_failing", Help: "1 while the coordinator's writes to the records fail: nothing is taken over.",
		}),
	}
	for _, collector := range []prometheus.Collector{m.bumps, m.bumpSeconds, m.term, m.writesFailing} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("coordinator: register metrics: %w", err)
		}
	}
	return m, nil
}
