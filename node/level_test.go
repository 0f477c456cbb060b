package node

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/record"
)

// A binary that is too old for the cluster's records says so, names the record and the cure, and ends.
func TestAnOlderBinaryIsRefused(t *testing.T) {
	keys, err := record.NewKeys("default")
	require.NoError(t, err)
	for want, meta := range map[string]record.Meta{
		"":         {Format: record.FormatCurrent, Level: record.LevelCurrent},
		"format 2": {Format: record.FormatCurrent + 1, Level: record.LevelCurrent},
		"level 2":  {Format: record.FormatCurrent, Level: record.LevelCurrent + 1},
	} {
		err := understood(keys, meta)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "/cdc/default/meta")
		require.ErrorContains(t, err, "run the newer cdc-node")
		require.True(t, outgrown(err), "no other life is begun")
	}
	require.NoError(t, understood(keys, record.Meta{Format: record.FormatCurrent}), "a cluster that is being upgraded")
	require.False(t, outgrown(&changefeed.Fault{Code: changefeed.CodeNameTaken, Permanent: true}))
}
