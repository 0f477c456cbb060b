package coordinator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
)

// A status or a handoff of an older epoch says nothing of the current owner.
func TestOlderEpochSaysNothing(t *testing.T) {
	w := newWorld()
	w.putNode("n1", record.Alive)
	w.putNode("n2", record.Alive)
	w.putSpec(feedID("a"), func(*record.Spec) {})
	require.NoError(t, w.elect())
	w.settle()
	w.release()
	old := w.epochs[feedID("a")].value
	w.loseNode("n1")
	w.settle()
	w.release()
	w.say()
	for name, in := range map[string]Input{
		"released": StatusSeen{feedID("a"), seen(record.Status{UID: old.UID, Epoch: old.Epoch, State: changefeed.StateReleased}, w.revision+1)},
		"failed":   StatusSeen{feedID("a"), seen(record.Status{UID: old.UID, Epoch: old.Epoch, State: changefeed.StateFailed}, w.revision+2)},
		"other uid": StatusSeen{feedID("a"), seen(record.Status{
			UID: "other", Epoch: w.epochs[feedID("a")].value.Epoch, State: changefeed.StateReleased,
		}, w.revision+3)},
		"handoff": HandoffSeen{feedID("a"), seen(record.Handoff{UID: old.UID, Epoch: old.Epoch, Reason: changefeed.ReasonMoved}, w.revision+1)},
	} {
		w.step(in)
		require.Empty(t, w.pending, name)
		require.Nil(t, w.core.feeds[feedID("a")].asked(), name)
		require.Nil(t, w.core.feeds[feedID("a")].current(), name)
	}
}

// Hazard 10 and 16: an observation that is older than what is known, also than a deletion, changes nothing.
func TestOlderObservationsAreIgnored(t *testing.T) {
	var s slot[record.Spec]
	require.True(t, s.take(seen(record.Spec{UID: "u1"}, 5)))
	require.False(t, s.take(seen(record.Spec{UID: "u0"}, 5)))
	require.True(t, s.take(Observed[record.Spec]{Revision: 9}))
	require.Zero(t, s.mod)
	require.False(t, s.take(seen(record.Spec{UID: "u1"}, 8)))
	require.Nil(t, s.value)
	require.True(t, s.take(seen(record.Spec{UID: "u2"}, 10)))
	require.Equal(t, int64(10), s.mod)
}

func TestAvoidedNodesAreBounded(t *testing.T) {
	f := &feed{}
	for i := range 3 * avoidedMax {
		f.avoid(changefeed.NodeID(rune('a' + i)))
	}
	require.Len(t, f.avoided, avoidedMax)
}

func TestConfigSaysEveryFault(t *testing.T) {
	_, err := NewCore(Config{SilenceLimit: -1}, 0)
	require.ErrorContains(t, err, "term")
	require.ErrorContains(t, err, "TTL")
	require.ErrorContains(t, err, "negative")
	require.ErrorContains(t, err, "nonces")
}
