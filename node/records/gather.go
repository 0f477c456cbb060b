package records

import "time"

// Figures of how statuses are gathered. A node that writes at most once per window, and one of gatherPerNode for each node
// of the cluster, makes at most 1/gatherPerNode transactions a second of all nodes together, beside those that are full.
const (
	gatherPerNode = 6 * time.Millisecond
	gatherMax     = time.Second
)

// Window returns how long a status waits for others in a cluster of so many nodes.
func Window(nodes int) time.Duration {
	return min(time.Duration(max(nodes, 1))*gatherPerNode, gatherMax)
}

// Urgency says whether a status waits for others.
type Urgency uint8

// The urgencies.
const (
	CanWait Urgency = iota // it only brings newer positions
	Urgent                 // a state changed, or somebody waits for it to be stored
)

// Gather decides when the statuses that wait on a node go out: when they fill a transaction, when one is urgent, or when
// the first has waited for a window. It is pure.
type Gather struct {
	Full   int // how many fill a transaction
	count  int
	urgent bool
	due    time.Duration // when the first has waited long enough, on the caller's clock
}

// Add takes in that another status waits.
func (g *Gather) Add(now, window time.Duration, urgency Urgency) {
	if g.count == 0 {
		g.due = now + window
	}
	g.count++
	g.urgent = g.urgent || urgency == Urgent
}

// Ready reports whether what waits is to be sent now.
func (g *Gather) Ready(now time.Duration) bool {
	return g.count > 0 && (g.urgent || g.count >= g.Full || now >= g.due)
}

// Due returns when what waits is ready; false if nothing waits.
func (g *Gather) Due() (time.Duration, bool) { return g.due, g.count > 0 }

// Sent takes in that everything was sent.
func (g *Gather) Sent() { g.count, g.urgent, g.due = 0, false, 0 }
