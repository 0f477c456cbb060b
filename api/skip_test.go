package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/record"
)

func TestASkipIsRecorded(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateFailed, 40)
	for _, bad := range []change.Position{0, 40} {
		_, err := c.Skip(t.Context(), orders, bad, 0)
		require.Equal(t, "position", problemIn(t, err).Field, bad)
	}
	skipped := must(c.Skip(t.Context(), orders, 41, 2)).Value
	require.Len(t, skipped.Skips, 1)
	require.Equal(t, change.Position(41), skipped.Skips[0].Position)
	require.Equal(t, uint32(2), skipped.Skips[0].Index)
	require.NotEmpty(t, skipped.Skips[0].By)
	require.False(t, skipped.Skips[0].At.IsZero())
	again := must(c.Skip(t.Context(), orders, 41, 2)).Value
	require.Equal(t, skipped.Revision, again.Revision, "once is enough")

	// An update keeps what was left out.
	changed := request()
	changed.Options = changefeed.Options{"compress": "zstd"}
	require.Len(t, must(c.Update(t.Context(), orders, again.Revision, changed)).Value.Skips, 1)

	must(c.Remove(t.Context(), orders))
	_, err := c.Skip(t.Context(), orders, 42, 0)
	require.Equal(t, http.StatusConflict, problemIn(t, err).Status)
}

// What lies behind the checkpoint makes room; what lies ahead does not.
func TestSkipsAreBounded(t *testing.T) {
	full := make([]record.Skip, record.SkipsMax)
	for i := range full {
		full[i] = record.Skip{Position: change.Position(100 + i)}
	}
	kept, err := roomForSkip(full, 101)
	require.NoError(t, err)
	require.Len(t, kept, record.SkipsMax-1)
	require.Equal(t, change.Position(101), kept[0].Position, "only as many as needed, the oldest first")
	require.Equal(t, change.Position(100), full[0].Position, "what was read stays as it was")
	_, err = roomForSkip(full, 50)
	require.Equal(t, changefeed.CodeLimitExceeded, changefeed.AsFault(err, "").Code)
}
