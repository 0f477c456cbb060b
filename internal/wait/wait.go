// Package wait has the pause that everything outside of the cores makes between two tries.
package wait

import (
	"context"
	"time"
)

// For waits; false if ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
