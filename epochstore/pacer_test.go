package epochstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/record"
)

func TestThePacerStoresWhatChangedAtMostOncePerInterval(t *testing.T) {
	pacer := epochstore.Pacer{Interval: time.Second}
	status := record.Status{UID: "u", Epoch: 3, State: changefeed.StateRunning, Checkpoint: 1}
	at := func(d time.Duration) changefeed.Time { return changefeed.Time(time.Hour + d) }
	require.True(t, pacer.Due(at(0), status), "the first at once")
	pacer.Stored(at(0), status)
	later := status
	later.At = time.Now()
	require.False(t, pacer.Due(at(9*time.Second), later), "only its time changed")
	require.True(t, pacer.Due(at(10*time.Second), later), "a sign of life")
	moved := status
	moved.Checkpoint = change.Position(2)
	require.False(t, pacer.Due(at(999*time.Millisecond), moved))
	require.True(t, pacer.Due(at(time.Second), moved))
	released := status
	released.State = changefeed.StateReleased
	require.True(t, pacer.Due(at(1), released), "another state at once")
	taken := status
	taken.Epoch = 4
	require.True(t, pacer.Due(at(1), taken))
}
