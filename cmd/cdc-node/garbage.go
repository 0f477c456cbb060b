package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// garbageBytes is how much may be allocated between two collections where less than that is in use. By Go's default it is as much as
	// is in use: a node that copies quickly and holds little would collect again and again.
	garbageBytes = 64 << 20
	// garbageLeast is the least percentage, half of Go's default: who holds much holds little garbage beside it.
	garbageLeast = 50
	// garbageMost bounds the percentage, for a heap that is almost empty.
	garbageMost = 1600

	liveHeap = "/gc/heap/live:bytes"
)

// keepGarbage has the process collect less often while it uses little, and more often while it uses much. What people say with GOGC stands.
func keepGarbage() {
	if os.Getenv("GOGC") == "" {
		afterCollection()
	}
}

// afterCollection sets the percentage for what is in use now, and is called again by the next collection.
func afterCollection() {
	sample := []metrics.Sample{{Name: liveHeap}}
	metrics.Read(sample)
	debug.SetGCPercent(garbagePercent(sample[0].Value.Uint64()))
	runtime.AddCleanup(new([16]byte), func(struct{}) { afterCollection() }, struct{}{})
}

// garbagePercent is how much of what is in use may be allocated until the next collection.
func garbagePercent(live uint64) int {
	if live == 0 {
		return garbageMost
	}
	return int(min(max(garbageBytes*100/live, garbageLeast), garbageMost)) //nolint:gosec // bounded
}
