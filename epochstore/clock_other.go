//go:build !linux

package epochstore

import (
	"time"

	"fencerow/changefeed"
)

// processStart is where the monotonic clock of this process begins; never changed.
var processStart = time.Now()

// BootTime reads the monotonic clock. On this platform it may stand still while the machine is suspended.
func BootTime() changefeed.Time { return changefeed.Time(time.Since(processStart)) + 1 }
