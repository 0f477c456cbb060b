package epochstore

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"fencerow/changefeed"
)

// BootTime reads CLOCK_BOOTTIME: monotonic, and it counts the time that the machine was suspended.
func BootTime() changefeed.Time {
	var now unix.Timespec
	// The raw call neither blocks nor allocates. It can't fail for this clock, and if it does, the time is 0 for ever,
	// which a session takes for a clock that stands still; so fail closed with the end of time.
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		return endOfTime
	}
	return changefeed.Time(now.Nano())
}
