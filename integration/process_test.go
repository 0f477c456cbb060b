package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/integration/proc"
)

// waitMax bounds every wait for a condition: far above what a loaded machine needs, so that only a fault reaches it.
const waitMax = 60 * time.Second

// binary is the cdc-node under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(isolated) != "" {
		fmt.Fprintln(os.Stderr, becomeShell(os.Args[1]))
		return 1
	}
	dir, err := os.MkdirTemp("", "fencerow-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "cdc-node")
	build := exec.Command("go", "build", "-o", binary, "fencerow/cmd/cdc-node")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cdc-node:", err)
		return 1
	}
	return m.Run()
}

// process is a started cdc-node.
type process struct {
	*proc.Process

	t *testing.T
}

// start runs cdc-node with the arguments until the test ends or it is stopped.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startBinary(t, binary, name, args...)
}

// startBinary runs another cdc-node than the one under test.
func startBinary(t *testing.T, binary, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir = t.TempDir()
	started, err := proc.Start(name, cmd)
	require.NoError(t, err)
	p := &process{Process: started, t: t}
	t.Cleanup(func() {
		p.Kill()
		for _, sign := range p.Signs("panic:", "fatal error:", "WARNING: DATA RACE") {
			t.Errorf("%s wrote %q", name, sign)
		}
		if t.Failed() {
			t.Logf("--- output of %s ---\n%s", name, p.Output.Last(60))
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// terminate asks the process to stop and requires that it does so cleanly.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
		require.NoError(p.t, p.Err(), "%s did not stop cleanly:\n%s", p.Name, p.Output.Last(40))
	case <-time.After(waitMax):
		p.t.Fatalf("%s did not stop within %v:\n%s", p.Name, waitMax, p.Output.Last(40))
	}
}

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// cli runs one command to its end.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*waitMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run cdc-node %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// must runs a command that has to succeed and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out := cli(t, args...)
	require.Zero(t, out.code, "cdc-node %s\n%s%s", strings.Join(args, " "), out.stdout, out.stderr)
	return out.stdout
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := proc.FreeAddr()
	require.NoError(t, err)
	return addr
}

// eventually waits until condition returns nil, and fails with its last error.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	within(t, waitMax, what, condition)
}

// within waits at most limit until condition returns nil, and returns how long it took.
func within(t *testing.T, limit time.Duration, what string, condition func() error) time.Duration {
	t.Helper()
	began := time.Now()
	if err := proc.Await(limit, condition); err != nil {
		t.Fatalf("%s: not within %v: %v", what, limit, err)
	}
	return time.Since(began)
}
