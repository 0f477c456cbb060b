package maintainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/message"
	"fencerow/record"
)

// Nothing that the sink has of a changefeed lies below where it starts. After etcd was restored from a backup `now` may be
// resolved once more, above what the sink holds: that is said, and not skipped.
func TestTheStartIsBelowWhatTheSinkMayNotBe(t *testing.T) {
	t.Parallel()
	b := newBench(5, "n1")
	b.spec.Spec.Start = record.StartNow
	b.step(Started{})
	b.from("n1", message.BootstrapReply{})
	b.pass(2 * time.Second)
	var floors []change.Position
	for i := range b.sent {
		if place, ok := b.sent[i].Body.(message.Place); ok {
			require.Equal(t, change.At(b.head), place.From)
			floors = append(floors, place.Floor)
		}
	}
	require.NotEmpty(t, floors)
	for _, floor := range floors {
		require.Equal(t, b.head, floor)
	}
}
