package maintainer

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/record"
	"fencerow/sink"
)

func TestTheSyncPointIntervalIsCheckedAtTheDoor(t *testing.T) {
	t.Parallel()
	option := SyncOptions()[0]
	for value, fine := range map[string]bool{
		"0s": true, "1s": true, "30s": true, "168h": true, "": false, "1": false, "-1s": false, "999ms": false, "169h": false, "often": false,
	} {
		err := option.Check(value)
		require.Equal(t, fine, err == nil, "%q: %v", value, err)
	}
	require.Equal(t, 30*time.Second, syncInterval(changefeed.Options{SyncPointInterval: "30s"}))
	for _, value := range []string{"", "0s", "1ms", "often"} {
		require.Zero(t, syncInterval(changefeed.Options{SyncPointInterval: value}), "%q means none, whoever wrote it", value)
	}
	with := record.Spec{UID: "u", Options: changefeed.Options{SyncPointInterval: "30s"}}
	require.Equal(t, generation(&record.Spec{UID: "u"}), generation(&with), "dispatchers are adopted over it")
}

// keeper is a sink that keeps sync points.
type keeper struct {
	fakeSink
	last change.Position
	err  error
}

func (k *keeper) LastSync(context.Context) (change.Position, error) { return k.last, k.err }

func TestTheSinkIsAskedForItsNewestSyncPoint(t *testing.T) {
	t.Parallel()
	require.Equal(t, SyncRead{Position: 7}, readSync(t.Context(), &keeper{last: 7}))
	require.ErrorIs(t, inputError(readSync(t.Context(), &keeper{err: errUnreachable})), errUnreachable)
	require.Error(t, inputError(readSync(t.Context(), &fakeSink{})), "a sink that keeps none")
	for _, test := range []struct {
		sink  sink.Sink
		syncs bool
	}{{&keeper{}, true}, {&fakeSink{}, false}} {
		r := &runner{sink: test.sink, source: &fakeSource{}}
		require.Equal(t, test.syncs, r.open(record.Spec{}).Syncs)
	}
}
