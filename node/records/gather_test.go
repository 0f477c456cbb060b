package records

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
)

func TestStatusesWaitForOneAnother(t *testing.T) {
	g := Gather{Full: 3}
	require.False(t, g.Ready(time.Hour), "nothing waits")
	g.Add(0, 10*time.Millisecond, CanWait)
	g.Add(5*time.Millisecond, 10*time.Millisecond, CanWait)
	due, waits := g.Due()
	require.True(t, waits)
	require.Equal(t, 10*time.Millisecond, due, "the first decides how long")
	require.False(t, g.Ready(9*time.Millisecond))
	require.True(t, g.Ready(10*time.Millisecond))
	g.Sent()
	require.False(t, g.Ready(time.Hour))

	g.Add(0, time.Minute, CanWait)
	g.Add(0, time.Minute, Urgent)
	require.True(t, g.Ready(0), "what is urgent takes the others along")
	g.Sent()
	for range 3 {
		g.Add(0, time.Minute, CanWait)
	}
	require.True(t, g.Ready(0), "a transaction is full")
}

// 100 nodes with 100 busy changefeeds each, that store a status every second, may make 200 transactions a second.
func TestManyStatusesMakeFewTransactions(t *testing.T) {
	const nodes, feeds, seconds = 100, 100, 20
	g, window, sent := Gather{Full: 60}, Window(nodes), 0
	for tick := range seconds * feeds { // they come evenly
		now := time.Duration(tick) * time.Second / feeds
		if g.Ready(now) {
			g.Sent()
			sent++
		}
		g.Add(now, window, CanWait)
	}
	require.LessOrEqual(t, sent, 2*seconds)
	require.GreaterOrEqual(t, sent, seconds)
	require.Less(t, Window(3), 20*time.Millisecond, "a small cluster waits for nothing that people notice")
	require.Equal(t, gatherMax, Window(100_000))
}

func TestWhatIsUrgent(t *testing.T) {
	last := record.Status{UID: "u", Epoch: 5, State: changefeed.StateRunning, Checkpoint: 10, Spans: 2}
	moved := last
	moved.Checkpoint, moved.Resolved = 20, 30
	require.Equal(t, CanWait, urgencyOf(&last, &moved))
	require.Equal(t, Urgent, urgencyOf(nil, &moved), "the first of a changefeed")
	for name, change := range map[string]func(*record.Status){
		"epoch": func(s *record.Status) { s.Epoch++ }, "state": func(s *record.Status) { s.State = changefeed.StateReleased },
		"spans": func(s *record.Status) { s.Spans = 0 }, "error": func(s *record.Status) { s.Error = &record.Error{} },
	} {
		next := moved
		change(&next)
		require.Equal(t, Urgent, urgencyOf(&last, &next), name)
	}
}
