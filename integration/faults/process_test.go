package faults

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// waitMax bounds every wait for a condition: far above what a loaded machine needs, so that only a fault reaches it.
const waitMax = 60 * time.Second

// process is a cdc-node on a host.
type process struct {
	t      *testing.T
	name   string
	host   *host
	cmd    *exec.Cmd
	output *tail
	exited chan struct{}
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

// start runs the arguments, a binary first, on the host until the test ends or it is killed.
func (h *host) start(name string, env []string, args ...string) *process {
	h.t.Helper()
	p := &process{t: h.t, name: name, host: h, output: &tail{}, exited: make(chan struct{})}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", h.space}, args...)...)
	p.cmd.Dir, p.cmd.Env = h.t.TempDir(), append(p.cmd.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	require.NoError(h.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	h.t.Cleanup(func() {
		p.kill()
		for _, sign := range []string{"panic:", "fatal error:", "failpoint:"} {
			if strings.Contains(p.output.String(), sign) {
				h.t.Errorf("%s wrote %q", name, sign)
			}
		}
		if h.t.Failed() {
			h.t.Logf("--- output of %s ---\n%s", name, p.last(60))
		}
	})
	return p
}

func (p *process) last(n int) string {
	lines := strings.Split(strings.TrimRight(p.output.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		p.t.Logf("signal %v to %s: %v", s, p.name, err)
	}
}

// kill ends the process at once (SIGKILL works on a stopped one too) and waits for it.
func (p *process) kill() {
	if p.alive() {
		_ = p.cmd.Process.Kill()
	}
	<-p.exited
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// member is one member of an etcd, on a host of its own.
type member struct {
	*process
	endpoint string
	client   *clientv3.Client
}

const (
	clientPort = ":2379"
	peerPort   = ":2380"
)

// startEtcd starts an etcd of n members and waits until it answers.
func startEtcd(t *testing.T, name string, n int) []*member {
	t.Helper()
	hosts := make([]*host, n)
	cluster := make([]string, n)
	for i := range hosts {
		hosts[i] = newHost(t)
		cluster[i] = hosts[i].space + "=http://" + hosts[i].ip + peerPort
	}
	var all []*member
	for _, h := range hosts {
		client, peer := "http://"+h.ip+clientPort, "http://"+h.ip+peerPort
		m := &member{endpoint: h.ip + clientPort}
		m.process = h.start("etcd "+name, nil, binary, "etcd", "--name", h.space, "--data-dir", filepath.Join(t.TempDir(), "etcd"),
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--log-level", "error", "--unsafe-no-fsync")
		all = append(all, m)
	}
	for _, m := range all {
		m.client = dial(t, m.endpoint)
		eventually(t, "etcd "+name+" answers", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := m.client.Get(ctx, "ready")
			return err
		})
	}
	return all
}

func dial(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// cli runs a command of the binary to its end, on the lab's own host, and returns what it printed.
func cli(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*waitMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "cdc-node %s: %s", strings.Join(args, " "), &stderr)
	return stdout.Bytes()
}

// eventually waits until condition returns nil, and fails with its last error.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	if err := await(waitMax, condition); err != nil {
		t.Fatalf("%s: not within %v: %v", what, waitMax, err)
	}
}

// await waits at most limit until condition returns nil, and returns its last error.
func await(limit time.Duration, condition func() error) error {
	began := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil || time.Since(began) > limit {
			return err
		}
		<-ticker.C
	}
}

// pause lets time pass where the time itself is the fault.
func pause(d time.Duration) { <-time.After(d) }
