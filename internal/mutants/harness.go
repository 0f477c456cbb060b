package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Config of a [Harness].
type Config struct {
	Root string // of the module
	// SuiteLimit bounds the tests of one suite, without their compilation.
	SuiteLimit time.Duration
	// CallLimit bounds one call of the go command, with it.
	CallLimit time.Duration
}

// Harness runs the tests on mutants. One goroutine uses it.
type Harness struct {
	config Config
	tests  tests
	sound  map[suite]error // those that were run without a mutant, and whether they pass
}

// NewHarness surveys the tests below the root.
func NewHarness(ctx context.Context, config Config) (*Harness, error) {
	found, err := survey(ctx, config.Root)
	if err != nil {
		return nil, err
	}
	return &Harness{config: config, tests: found, sound: map[suite]error{}}, nil
}

// Result is what became of one mutant.
type Result struct {
	Mutant Mutant
	By     string // the test whose assertion failed; "" if none did
	After  time.Duration
	Tried  []string // suites that didn't find it, and what they said

	Simulation *Sighting // nil if it was not asked
}

// Found reports whether a named assertion failed, or an invariant of the simulation.
func (r Result) Found() bool { return r.By != "" || r.Simulation != nil && r.Simulation.Seed != 0 }

// Run looks for a test that notices the mutant. An error says that the harness itself is at fault, or that ctx ended.
func (h *Harness) Run(ctx context.Context, m Mutant) (Result, error) {
	out := Result{Mutant: m}
	for _, one := range h.tests.of(m) {
		if err := h.check(ctx, one, m.files()); ctx.Err() != nil {
			return out, err
		} else if err != nil {
			out.Tried = append(out.Tried, err.Error())
			continue
		}
		began := time.Now()
		verdict, by, err := h.call(ctx, one, m.files(), m.Edits)
		if err != nil {
			return out, err
		}
		out.After += time.Since(began)
		if verdict == failed {
			out.By = one.pkg[len("./"):] + " " + by
			return out, nil
		}
		out.Tried = append(out.Tried, one.String()+": "+verdict.String())
		if verdict == notCompiled {
			return out, nil
		}
	}
	return out, nil
}

// check runs a suite once with an overlay that changes nothing: only what passes so can find a mutant.
func (h *Harness) check(ctx context.Context, one suite, files []string) error {
	if err, done := h.sound[one]; done {
		return err
	}
	for range 2 { // a machine that is busy may make a test late once
		verdict, by, err := h.call(ctx, one, files, nil)
		if err != nil {
			return err
		}
		if verdict == passed {
			h.sound[one] = nil
			return nil
		}
		h.sound[one] = fmt.Errorf("mutants: %v without a mutant: %v %s", one, verdict, by)
	}
	return h.sound[one]
}

// call runs a suite on an overlay.
func (h *Harness) call(ctx context.Context, one suite, files []string, edits []Edit) (outcome, string, error) {
	folder, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return 0, "", fmt.Errorf("mutants: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path, err := overlay(h.config.Root, folder, files, edits)
	if err != nil {
		return 0, "", err
	}
	limited, cancel := context.WithTimeout(ctx, h.config.CallLimit)
	defer cancel()
	command := exec.CommandContext(limited, "go", "test", "-json", "-vet=off", "-count=1", "-short", "-failfast", "-tags="+tags,
		"-overlay="+path, "-timeout="+h.config.SuiteLimit.String(), "-run="+one.run, one.pkg)
	command.Dir = h.config.Root
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err = command.Run()
	if ctx.Err() != nil {
		return 0, "", fmt.Errorf("mutants: %v: %w", one, context.Cause(ctx))
	}
	if limited.Err() != nil {
		return panicked, "", nil
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", fmt.Errorf("mutants: %v: %w", one, err)
	}
	verdict, by := judge(output.Bytes())
	return verdict, by, nil
}
