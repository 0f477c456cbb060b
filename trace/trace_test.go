package trace_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/trace"
)

// The ids are part of what nodes of two versions must agree on: they never change.
func TestEveryNodeComputesTheSameIDs(t *testing.T) {
	ids := trace.Of("0c0d9a9e-5a9f-4b63-b1a5-1d6c5d1f0a11", 1043)
	require.Equal(t, ids, trace.Of("0c0d9a9e-5a9f-4b63-b1a5-1d6c5d1f0a11", 1043))
	require.Equal(t, "aa8b57b0a32381644c89b14ffa9ecc987d686f3a2f287154", hex(ids))
}

func TestEachOwnershipHasATraceOfItsOwn(t *testing.T) {
	seen := map[trace.IDs]bool{}
	for _, uid := range []changefeed.UID{"", "a", "b", "a 1"} {
		for epoch := range fence.Epoch(50) {
			seen[trace.Of(uid, epoch)] = true
		}
	}
	require.Len(t, seen, 200)
}

func TestNobodyNeedsToListen(t *testing.T) {
	require.NotPanics(t, func() { trace.Recorder(nil).Record(trace.Step{}) })
}

func hex(ids trace.IDs) string {
	const digits = "0123456789abcdef"
	out := ""
	for _, b := range append(ids.Trace[:], ids.Root[:]...) {
		out += string(digits[b>>4]) + string(digits[b&15])
	}
	return out
}
