package dispatcher

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/record"
)

func TestLeaveOut(t *testing.T) {
	changes := []change.Change{{Position: 7}, {Position: 7, Index: 1}, {Position: 8}, {Position: 9, Index: 1}}
	require.Equal(t, changes, LeaveOut(changes, nil))
	kept := LeaveOut(changes, []record.Skip{{Position: 7, Index: 1}, {Position: 9}, {Position: 9, Index: 1}, {Position: 100}})
	require.Equal(t, []change.Change{{Position: 7}, {Position: 8}}, kept)
	require.Len(t, changes, 4)
	require.Equal(t, uint32(1), changes[1].Index, "what was read is not written over")
	require.Empty(t, LeaveOut(changes[:1], []record.Skip{{Position: 7}}))
}
