package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGarbageIsBoundedByBytesWhereLittleIsInUse(t *testing.T) {
	for live, percent := range map[uint64]int{0: 1600, 1 << 20: 1600, 16 << 20: 400, 64 << 20: 100, 100 << 20: 64, 1 << 40: 50} {
		require.Equal(t, percent, garbagePercent(live), live)
	}
}

func TestEachCollectionSaysWhenTheNextIs(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv("GOGC", "50")
	keepGarbage()
	require.Equal(t, 100, debug.SetGCPercent(100), "what people say stands")
	t.Setenv("GOGC", "")
	keepGarbage()
	for range 2 {
		debug.SetGCPercent(garbageLeast - 1)
		require.Eventually(t, func() bool {
			runtime.GC()
			now := debug.SetGCPercent(-1)
			debug.SetGCPercent(now)
			return now >= garbageLeast
		}, 10*time.Second, time.Millisecond)
	}
}
