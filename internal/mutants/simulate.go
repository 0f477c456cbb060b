package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Sighting is what the simulation says of a mutant.
type Sighting struct {
	Seed      uint64 // the first that broke an invariant; 0 if none did
	Invariant string
	After     time.Duration
	Seeds     int // that were run at most
	Panicked  bool
}

// String says it in a cell of the report.
func (s *Sighting) String() string {
	switch {
	case s == nil:
		return ""
	case s.Panicked:
		return "panics"
	case s.Seed == 0:
		return fmt.Sprintf("not in %d seeds", s.Seeds)
	default:
		return fmt.Sprintf("seed %d, %s, %.1f s", s.Seed, s.Invariant, s.After.Seconds())
	}
}

// Simulated reports whether the simulation runs the mutant's code.
func (m Mutant) Simulated() bool {
	for _, file := range m.files() {
		switch {
		case strings.HasPrefix(file, "api/"), strings.HasPrefix(file, "sink/file/"):
			return false
		case strings.HasPrefix(file, "dispatcher/pump") && file != "dispatcher/pump_rules.go" && file != "dispatcher/pump_pieces.go":
			return false // the simulation has a pump of its own around the same rules
		}
	}
	return true
}

// Simulate runs seeds of the simulation on the mutant until one breaks an invariant. A panic is not one.
func (h *Harness) Simulate(ctx context.Context, m Mutant, seeds int) (*Sighting, error) {
	folder, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return nil, fmt.Errorf("mutants: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	path, err := overlay(h.config.Root, folder, m.files(), m.Edits)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(folder, "sim")
	build := exec.CommandContext(ctx, "go", "build", "-overlay="+path, "-o", binary, "./internal/sim/cmd/sim")
	build.Dir = h.config.Root
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mutants: %s %s does not compile: %w\n%s", m.Fence, m.Place, err, text)
	}
	began := time.Now()
	run := exec.CommandContext(ctx, binary, "-first", "-seeds", "1.."+strconv.Itoa(seeds))
	var output bytes.Buffer
	run.Stdout, run.Stderr = &output, &output
	err = run.Run()
	out := &Sighting{After: time.Since(began), Seeds: seeds}
	if ctx.Err() != nil {
		return out, fmt.Errorf("mutants: the simulation: %w", context.Cause(ctx))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out, fmt.Errorf("mutants: the simulation: %w", err)
	}
	found := regexp.MustCompile(`FAILED seed (\d+) after \d+ steps: (invariant \d+)`).FindSubmatch(output.Bytes())
	switch {
	case found != nil:
		out.Invariant = string(found[2])
		if out.Seed, err = strconv.ParseUint(string(found[1]), 10, 64); err != nil {
			return out, fmt.Errorf("mutants: the simulation: %w", err)
		}
	case bytes.Contains(output.Bytes(), []byte("panic: ")):
		out.Panicked = true
	}
	return out, nil
}
