package fence_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/fence"
)

func TestNextEpochIsAboveEverythingSeen(t *testing.T) {
	t.Parallel()
	require.Equal(t, fence.Epoch(1), fence.Next(0, 0, 0))
	require.Equal(t, fence.Epoch(8), fence.Next(7, 3, 2))
	require.Equal(t, fence.Epoch(900), fence.Next(7, 900, 2), "the store's revision keeps epochs from being reused")
	require.Equal(t, fence.Epoch(5000), fence.Next(7, 900, 5000), "the floor")
}

func TestEpochsOrderAndConfirm(t *testing.T) {
	t.Parallel()
	held := fence.Epoch(7)
	require.True(t, fence.Epoch(6).OlderThan(held))
	require.False(t, held.OlderThan(held))
	require.Negative(t, fence.Epoch(6).Compare(held))
	require.Zero(t, held.Compare(held))
	require.Positive(t, fence.Epoch(8).Compare(held))

	require.NoError(t, held.Confirm(7))
	require.ErrorIs(t, held.Confirm(6), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(0), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(8), fence.ErrDeposed)
}

func TestTokensOrderByEpochThenSeq(t *testing.T) {
	t.Parallel()
	held := fence.Mint(7, 3)
	require.Equal(t, fence.Epoch(7), held.Epoch())
	require.Equal(t, fence.Seq(3), held.Seq())
	require.Equal(t, "7.3", held.String())
	require.False(t, held.IsZero())
	require.True(t, fence.Token{}.IsZero())
	require.Zero(t, held.Compare(fence.Mint(7, 3)))
	require.True(t, fence.Mint(7, 2).OlderThan(held))
	require.True(t, fence.Mint(6, 9).OlderThan(held))
	require.False(t, fence.Mint(8, 1).OlderThan(held))
	require.False(t, held.OlderThan(held))
}

func TestTokenConfirmsOnlyItsOwnReports(t *testing.T) {
	t.Parallel()
	held := fence.Mint(7, 3)
	require.NoError(t, held.Confirm(fence.Mint(7, 3)))
	require.ErrorIs(t, held.Confirm(fence.Mint(7, 2)), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(fence.Mint(7, 4)), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(fence.Mint(6, 9)), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(fence.Token{}), fence.ErrStale)
	require.ErrorIs(t, held.Confirm(fence.Mint(8, 1)), fence.ErrDeposed)
}
