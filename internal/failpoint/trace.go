//go:build failpoints

package failpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Line is one line of a history.
type Line struct {
	At   int64           `json:"at"` // CLOCK_MONOTONIC in nanoseconds, which is one clock for all processes of a machine
	Kind string          `json:"kind"`
	Of   json.RawMessage `json:"of"`
}

var (
	history = open(os.Getenv("CDC_HISTORY"))
	numbers atomic.Uint64
)

// file is where a history goes. Its lines are in the order of their times.
type file struct {
	mu   sync.Mutex
	file *os.File
}

func open(path string) *file {
	if path == "" {
		return nil
	}
	opened, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fail(err)
	}
	return &file{file: opened}
}

// fail ends the process: a history with a hole would be judged as if it were whole.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "failpoint:", err)
	os.Exit(1)
}

// Number returns a number that this process has not used yet, to tell an answer from others.
func Number() uint64 { return numbers.Add(1) }

// Trace appends to the history.
func Trace(kind string, of any) {
	if history == nil {
		return
	}
	encoded, err := json.Marshal(of)
	if err != nil {
		fail(err)
	}
	history.append(kind, encoded)
}

func (f *file) append(kind string, of json.RawMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		fail(err)
	}
	line, err := json.Marshal(Line{At: now.Nano(), Kind: kind, Of: of})
	if err == nil {
		_, err = f.file.Write(append(line, '\n'))
	}
	if err != nil {
		fail(err)
	}
}
