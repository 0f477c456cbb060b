package peer

import (
	"github.com/prometheus/client_golang/prometheus"

	"fencerow/message"
)

// Outcome is what became of a message, as metrics label it.
type Outcome string

// The outcomes. Sent says that a message was handed to the network, no more.
const (
	Sent          Outcome = "sent"
	Received      Outcome = "received"
	DroppedFull   Outcome = "dropped_full"    // the queue was full
	DroppedPeer   Outcome = "dropped_no_peer" // nobody of that node id is known, or it went
	DroppedStream Outcome = "dropped_stream"  // it came on a stream that was replaced, or was being sent when it broke
	Coalesced     Outcome = "coalesced"       // a newer heartbeat says all that it said
	TooLarge      Outcome = "too_large"
	UnknownKind   Outcome = "unknown_kind"
	Invalid       Outcome = "invalid"
)

// Metrics counts what the peers of a node exchange.
type Metrics struct {
	messages *prometheus.CounterVec
	links    prometheus.Gauge
}

// NewMetrics makes the metrics and registers them, unless registerer is nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cdc_peer_messages_total", Help: "Messages between nodes by kind and by what became of them.",
		}, []string{"kind", "outcome"}),
		links: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cdc_peer_links", Help: "Peers that this node has a live stream with: one less than there are nodes.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.messages, m.links)
	}
	return m
}

func (m *Metrics) count(kind message.Kind, outcome Outcome) {
	m.messages.WithLabelValues(kind.String(), string(outcome)).Inc()
}

// kindOf is the kind of an envelope's body, which may be missing.
func kindOf(envelope *message.Envelope) message.Kind {
	if envelope.Body == nil {
		return 0
	}
	return envelope.Body.Kind()
}
