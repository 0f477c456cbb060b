package maintainer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/sink"
)

// Found by the simulation: an owner removed the changefeed from the sink and died before it released. The next one could
// not raise the floor there, and the removal never ended. Hazard 11.
func TestARemovalGoesOnWhereAnOwnerHasRemovedFromTheSink(t *testing.T) {
	b := newBench(6, "n1").ran(100, 1)
	b.spec.Spec.Desired = changefeed.DesiredRemoved
	b.fails["raise"] = fmt.Errorf("sink: raise: %w", sink.ErrRemoved)
	b.step(Started{})
	b.from("n1", message.BootstrapReply{})
	b.pass(stopWaitDefault + answerWaitDefault) // nobody else answers
	b.from("n1", message.Closed{})
	require.Equal(t, OutcomeReleased, b.outcome)
	require.Equal(t, changefeed.StateReleased, b.status.Status.State)
}

// What was removed from the sink is not run again, and raising the floor, which opens nothing, is not the cure that is
// named. Found by the simulation, where etcd came back from an old backup.
func TestAnOwnerThatIsToRunFailsWhereTheSinkWasRemoved(t *testing.T) {
	b := newBench(6, "n1").ran(100, 1)
	b.fails["raise"] = fmt.Errorf("sink: raise: %w", sink.ErrRemoved)
	b.step(Started{})
	b.pass(resendMaxDefault * triesMax)
	require.Equal(t, changefeed.StateFailed, b.status.Status.State)
	require.Equal(t, changefeed.CodeSinkLost, b.status.Status.Error.Code)
}
