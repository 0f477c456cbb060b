package maintainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
)

// A pause promises that nothing writes any more. Claims keep a lost node out only once somebody else claims, which
// nobody does then, so its lease must have been gone for one TTL.
func TestF19PauseWaitsForALostNodeAlsoUnderClaims(t *testing.T) {
	b, _ := active(t, "n2")
	b.step(HandoffRequested{Handoff: record.Handoff{UID: "u1", Epoch: 5, Reason: changefeed.ReasonPaused}})
	b.nodes = Nodes{Revision: b.nodes.Revision + 1, Nodes: b.nodes.Nodes[1:]}
	b.step(NodesWatched{Nodes: b.nodes})
	b.pass(4900 * time.Millisecond)
	require.NotContains(t, b.taken(), "raise the floor to 6")
	b.pass(2 * time.Second)
	require.Contains(t, b.taken(), "raise the floor to 6")
}
