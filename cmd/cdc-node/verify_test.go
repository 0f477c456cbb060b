package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
)

// What was not compared is shown, and a table that was not is no success.
func TestWhatWasNotComparedIsShown(t *testing.T) {
	report := shape.Verified{NotCompared: []shape.NotCompared{{Table: "public.t", Columns: []string{"a", "b"}, Why: "the target has no such columns"}}}
	require.NoError(t, verdictOf(report))
	report.NotCompared = append(report.NotCompared, shape.NotCompared{Table: "public.visits", Why: "it has no key"})
	require.ErrorIs(t, verdictOf(report), errUnsettled)
	var out strings.Builder
	tableOfVerified(&out, report)
	require.Contains(t, out.String(), "not compared: public.t (a, b): the target has no such columns\nnot compared: public.visits: it has no key\n")
	report.Differences = []shape.Difference{{Kind: "missing"}}
	require.ErrorIs(t, verdictOf(report), errDiffers)
}
