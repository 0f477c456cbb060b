package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A node that takes over many changefeeds at once reads ahead for all of them.
func TestReadAheadIsBoundedOverTheHost(t *testing.T) {
	t.Parallel()
	const least = 1 << 20
	var pool readAhead
	total := 0
	var releases []func()
	for i := range 1000 {
		share, release := pool.take(least)
		if i == 0 {
			require.Equal(t, readAheadMax, share)
		}
		require.GreaterOrEqual(t, share, least)
		total += share
		releases = append(releases, release)
	}
	require.LessOrEqual(t, total, readAheadHostMax+1000*least)
	for _, release := range releases {
		release()
		release() // the second time does nothing
	}
	share, _ := pool.take(least)
	require.Equal(t, readAheadMax, share, "what was given back is there again")
}
