package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/maintainer"
)

// In a clean stop the maintainers end before the watches do: what is observed in between is no fault of the node. (It
// ended with 1 instead of 0.)
func TestMaintainersThatHaveStoppedAreNoFault(t *testing.T) {
	require.NoError(t, ignoreEnd(t.Context(), fmt.Errorf("node: %w", maintainer.ErrStopped)))
	other := errors.New("another")
	require.ErrorIs(t, ignoreEnd(t.Context(), other), other)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, ignoreEnd(ended, other))
}
