package faults

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"fencerow/integration/lab"
)

// cli runs a command of the binary to its end, on the lab's own host, and returns what it printed.
func cli(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*lab.WaitMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "cdc-node %s: %s", strings.Join(args, " "), &stderr)
	return stdout.Bytes()
}

// pause lets time pass where the time itself is the fault.
func pause(d time.Duration) { <-time.After(d) }

// clock reads the clock that histories are written by.
func clock() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0
	}
	return now.Nano()
}
