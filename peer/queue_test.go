package peer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

func beat(uid changefeed.UID, epoch fence.Epoch, number uint64, changed ...message.Status) *waiting {
	return &waiting{bytes: 1, envelope: message.Envelope{
		UID: uid, Epoch: epoch, Body: message.Heartbeat{Number: number, Changed: changed},
	}}
}

func order(seq uint64) *waiting {
	return &waiting{bytes: 1, envelope: message.Envelope{UID: "u", Epoch: 1, Body: message.Place{Seq: fence.Seq(seq)}}}
}

// hazard 46: the newest heartbeat stays, by epoch and then by number, in whatever order they come.
func TestHeartbeatsOfOneChangefeedAreCoalesced(t *testing.T) {
	told := message.Status{State: message.DispatcherStopped}
	for name, c := range map[string]struct {
		pushed []*waiting
		left   []int // indexes of pushed
	}{
		"a newer number":                      {[]*waiting{beat("u", 1, 1), beat("u", 1, 2)}, []int{1}},
		"an older number that comes late":     {[]*waiting{beat("u", 1, 2), beat("u", 1, 1)}, []int{0}},
		"a newer epoch with a lower number":   {[]*waiting{beat("u", 1, 9), beat("u", 2, 1)}, []int{1}},
		"an older epoch with a higher one":    {[]*waiting{beat("u", 2, 1), beat("u", 1, 9)}, []int{0}},
		"another changefeed":                  {[]*waiting{beat("u", 1, 1), beat("v", 1, 2)}, []int{0, 1}},
		"changed statuses are told":           {[]*waiting{beat("u", 1, 1, told), beat("u", 1, 2)}, []int{0, 1}},
		"late changed statuses are told":      {[]*waiting{beat("u", 1, 2), beat("u", 1, 1, told)}, []int{0, 1}},
		"the newest takes its own place":      {[]*waiting{beat("u", 1, 1), order(1), beat("u", 1, 2)}, []int{1, 2}},
		"the one in between is not forgotten": {[]*waiting{beat("u", 1, 1), beat("u", 1, 3), beat("u", 1, 2)}, []int{1}},
		"equal ones are one":                  {[]*waiting{beat("u", 1, 1), beat("u", 1, 1)}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue()
			given := 0
			for _, item := range c.pushed {
				_, coalesced := q.push(item)
				given += coalesced
			}
			var left []*waiting
			for _, index := range c.left {
				left = append(left, c.pushed[index])
			}
			require.Equal(t, len(c.pushed)-len(left), given)
			require.Equal(t, len(left), q.depth())
			require.Equal(t, left, q.pop())
			require.Empty(t, q.pop())
		})
	}
}

func TestAFullQueueDropsTheOldestHeartbeatsFirst(t *testing.T) {
	q := newQueue()
	q.push(order(0))
	for i := range queueEnvelopesMax - 1 {
		dropped, _ := q.push(beat(changefeed.UID(rune(i+1)), 1, 1))
		require.Empty(t, dropped)
	}
	for i := range queueEnvelopesMax - 1 {
		dropped, _ := q.push(order(uint64(i + 1)))
		require.Len(t, dropped, 1)
		require.Equal(t, changefeed.UID(rune(i+1)), dropped[0].envelope.UID, "the oldest heartbeat")
	}
	dropped, _ := q.push(order(queueEnvelopesMax))
	require.Equal(t, message.Place{Seq: 0}, dropped[0].envelope.Body, "then the oldest of all")
	require.Equal(t, queueEnvelopesMax, q.depth())
	next := fence.Seq(0)
	for items := q.pop(); len(items) > 0; items = q.pop() {
		require.LessOrEqual(t, len(items), frameEnvelopesMax)
		for _, item := range items {
			next++
			require.Equal(t, message.Place{Seq: next}, item.envelope.Body, "in order")
		}
	}
	require.Equal(t, fence.Seq(queueEnvelopesMax), next)
}

func TestAQueueIsBoundedInBytesButTakesOneOfAnySize(t *testing.T) {
	q := newQueue()
	large := order(1)
	large.bytes = queueBytesMax + 1
	dropped, _ := q.push(large)
	require.Empty(t, dropped)
	dropped, _ = q.push(order(2))
	require.Equal(t, []*waiting{large}, dropped)
	half := order(3)
	half.bytes = frameBytesMax
	q.push(half)
	require.Len(t, q.pop(), 1, "a frame is closed before it is too large")
	require.Len(t, q.pop(), 1)
}

// A link that is down for days must not remember every heartbeat that was coalesced.
func TestCoalescingLeavesNothingBehind(t *testing.T) {
	q := newQueue()
	for i := range 100 * frameEnvelopesMax {
		q.push(beat("u", 1, uint64(i)))
	}
	require.Equal(t, 1, q.depth())
	require.LessOrEqual(t, len(q.items), 2+frameEnvelopesMax)
	require.LessOrEqual(t, len(q.beats), 2+frameEnvelopesMax)
}
