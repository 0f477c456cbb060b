package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/sink"
)

// A dispatcher was not heard of for a while. Its span was claimed by others, who wrote what the source was then let forget: the sink shuts
// it out, and nothing is lost.
func TestWhatOthersHaveWrittenIsNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Second)
		other, err := b.sink.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(8, 1)})
		require.NoError(t, err)
		require.NoError(t, other.Write(t.Context(), sink.Batch{Span: changefeed.Whole(), To: change.At(5)}))
		b.source.forget(5)
		pass(time.Minute)
		status := b.last(token)
		require.Equal(t, message.DispatcherFailed, status.State)
		require.Nil(t, status.Fault)
	})
}

// What nobody has written is lost, and that is said once a claim made afterwards has found nothing newer.
func TestWhatNobodyHasWrittenIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Second)
		_, claims := b.sink.counts()
		b.source.forget(5)
		pass(time.Second)
		status := b.last(token)
		require.Equal(t, message.DispatcherFailed, status.State)
		require.Equal(t, changefeed.CodeSourceSlotLost, status.Fault.Code)
		require.True(t, status.Fault.Permanent)
		_, after := b.sink.counts()
		require.Equal(t, claims+1, after)
	})
}

// The same dispatcher wrote further than it knew, and then claims what it has not read: that is not lost either.
func TestAClaimThatFindsMoreGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := ownedBed(t)
		defer b.stop()
		token := b.place(1, "-")
		b.source.put("a")
		pass(time.Second)
		b.sink.set(func() {
			moved, err := b.sink.pieces.Advance(b.sink.last, changefeed.Whole(), change.At(5))
			require.NoError(t, err)
			b.sink.pieces = moved
		})
		b.source.commit(5)
		b.source.forget(5)
		pass(time.Minute)
		b.source.put("b")
		pass(time.Second)
		status := b.last(token)
		require.Equal(t, message.DispatcherRunning, status.State)
		require.Equal(t, change.At(6), status.Mark)
	})
}
