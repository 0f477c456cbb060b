package serial

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/serial/serialtest"
)

// A subscription that comes between the reading of an event and its handing out is below what the event follows. It is not given
// the event, or what lies in between would be lost; the log is opened anew for it.
func TestWhoIsBelowWhatAnEventFollowsIsNotGivenIt(t *testing.T) {
	hub := (&Node{config: Config{Logger: zap.NewNop()}}).NewHub(HubConfig{Source: serialtest.NewDatabase().Open(1)})
	subscribe := func(at change.Position) *subscription {
		sub, err := hub.subscribe(&Request{Credit: creditMin, Pieces: []source.Piece{{Span: changefeed.Whole(), Mark: change.At(at)}}})
		require.NoError(t, err)
		return sub
	}
	level := subscribe(100)
	var rewound error
	hub.at, hub.rewind = change.At(100), func(cause error) { rewound = cause }
	require.NoError(t, hub.handOut(t.Context(), &source.Event{Changes: []change.Change{keyed(110, 0, "a")}, To: change.At(110)}))
	require.Equal(t, change.At(110), level.at())

	late := subscribe(50)
	require.ErrorIs(t, rewound, errRewind)
	require.ErrorIs(t, hub.handOut(t.Context(), &source.Event{Changes: []change.Change{keyed(120, 0, "a")}, To: change.At(120)}), errRewind)
	require.Equal(t, change.At(50), late.at(), "what lies between 50 and 110 is still to come")
	messages, err := late.inbox.take()
	require.NoError(t, err)
	require.Empty(t, messages)

	late.leave() // it has ended, and nobody has taken it away yet: it holds nothing up
	require.NoError(t, hub.handOut(t.Context(), &source.Event{Changes: []change.Change{keyed(120, 0, "a")}, To: change.At(120)}))
	require.Equal(t, change.At(120), level.at())
}

// Who has everything waits for no other; who has a part waits a little for the rest.
func TestHowLongTheFirstSubscriptionWaits(t *testing.T) {
	for whole, want := range map[bool]time.Duration{true: 0, false: gatherQuiet} {
		synctest.Test(t, func(t *testing.T) {
			h := &Hub{came: make(chan struct{}), subs: []*subscription{{portion: portion{whole: whole}}}}
			began := time.Now()
			require.True(t, h.gather(t.Context()))
			require.Equal(t, want, time.Since(began))
		})
	}
}
