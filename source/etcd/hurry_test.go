package etcd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/source"
)

// While others wait for a span in which nothing changes, its reader is asked how far it is, and says so although its own next
// look is an hour away.
func TestAReaderThatIsHurriedSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := open(t, nil)
	first := put(t, prefixOf(t)+"a", "1")
	opened := read(t, s, source.Piece{Span: s.Span(), Mark: change.At(first - 1)})
	event, err := opened.Next(ctx)
	require.NoError(t, err)
	for event.To.Position < first {
		event, err = opened.Next(ctx)
		require.NoError(t, err)
	}
	r, ok := opened.(*reader)
	require.True(t, ok)
	r.tail.setTick(time.Hour)
	elsewhere := put(t, "/elsewhere", "2")
	for event.To.Position < elsewhere {
		r.Hurry()
		r.Hurry() // as often as anybody likes
		event, err = opened.Next(ctx)
		require.NoError(t, err)
	}
	require.Empty(t, event.Changes)
}
