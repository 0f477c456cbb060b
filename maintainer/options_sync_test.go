package maintainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
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
