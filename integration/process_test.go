package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// process is a started cdc-node whose output is kept.
type process struct {
	t       *testing.T
	name    string
	cmd     *exec.Cmd
	output  *tail
	stdout  *tail
	exited  chan struct{}
	exitErr error
}

// tail keeps the last bytes that a process wrote.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// tailBytesMax is enough for the story of a failure.
const tailBytesMax = 1 << 20

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p...)
	if extra := len(b.kept) - tailBytesMax; extra > 0 {
		b.kept = b.kept[extra:]
	}
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.kept)
}

// start runs cdc-node with the arguments until the test ends or it is stopped.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startBinary(t, binary, name, args...)
}

// startBinary runs another cdc-node than the one under test.
func startBinary(t *testing.T, binary, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, output: &tail{}, stdout: &tail{}, exited: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(p.stdout, p.output), p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	go func() {
		p.exitErr = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		for _, sign := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
			if strings.Contains(p.output.String(), sign) {
				t.Errorf("%s wrote %q", name, sign)
			}
		}
		if t.Failed() {
			t.Logf("--- output of %s ---\n%s", name, lastLines(p.output.String(), 60))
		}
	})
	return p
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v to %s: %v", s, p.name, err)
	}
}

// kill ends the process at once (SIGKILL works on a stopped one too) and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// terminate asks the process to stop and requires that it does so cleanly.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		require.NoError(p.t, p.exitErr, "%s did not stop cleanly:\n%s", p.name, lastLines(p.output.String(), 40))
	case <-time.After(waitMax):
		p.t.Fatalf("%s did not stop within %v:\n%s", p.name, waitMax, lastLines(p.output.String(), 40))
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
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
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-ticker.C
	}
}
