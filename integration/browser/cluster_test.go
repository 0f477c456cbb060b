package browser

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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

// waitMax bounds every wait for a condition: far above what a loaded machine needs.
const waitMax = 60 * time.Second

// binary is the cdc-node under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fencerow-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "cdc-node")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v1", "-o", binary, "./cmd/cdc-node")
	build.Dir = filepath.Join("..", "..")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cdc-node:", err)
		return 1
	}
	defer func() { closeBrowser() }()
	return m.Run()
}

// process is a cdc-node that runs until the test ends.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	mu     sync.Mutex // guards output
	output bytes.Buffer
	exited chan struct{}
}

func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(data)
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, exited: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			text := p.output.String()
			t.Logf("--- %s ---\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return p
}

func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("kill %s: %v", p.name, err)
	}
	<-p.exited
}

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
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		err := condition()
		if err == nil {
			return
		}
		if time.Since(began) > waitMax {
			t.Fatalf("%s: not within %v: %v", what, waitMax, err)
		}
	}
}

// cluster is one etcd and nodes on it, with tokens.
type cluster struct {
	t      *testing.T
	etcd   string
	tokens string
	nodes  []*server
}

type server struct {
	*process
	name string
	http string
	args []string
}

const (
	adminToken  = "the-admin-token-of-the-browser-test"
	viewerToken = "the-viewer-token-of-the-browser-test"
)

func startCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, etcd: freeAddr(t), tokens: filepath.Join(t.TempDir(), "tokens")}
	require.NoError(t, os.WriteFile(c.tokens, []byte("admin:"+adminToken+"\nviewer:"+viewerToken+"\n"), 0o600))
	peer := freeAddr(t)
	start(t, "etcd", "etcd", "--name", "one", "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls", "http://"+c.etcd,
		"--advertise-client-urls", "http://"+c.etcd, "--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", "one=http://"+peer, "--log-level", "warn", "--unsafe-no-fsync")
	eventually(t, "etcd answers", func() error {
		_, err := c.ask("range", map[string]any{"key": word("ready")})
		return err
	})
	for i := range nodes {
		s := &server{name: fmt.Sprintf("n%d", i+1), http: freeAddr(t)}
		s.args = []string{
			"server", "--name", s.name, "--etcd", c.etcd, "--http-addr", s.http, "--peer-addr", freeAddr(t), "--session-ttl", "2s",
			"--data-dir", t.TempDir(), "--http-token-file", c.tokens, "--log-level", "warn",
		}
		c.nodes = append(c.nodes, s)
		c.restart(s)
	}
	return c
}

func (c *cluster) restart(s *server) {
	c.t.Helper()
	s.process = start(c.t, s.name, s.args...)
	eventually(c.t, s.name+" is ready", func() error {
		response, err := http.Get("http://" + s.http + "/readyz")
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %d", response.StatusCode)
		}
		return nil
	})
}

// cli runs a command against the first node.
func (c *cluster) cli(args ...string) string {
	c.t.Helper()
	token := filepath.Join(c.t.TempDir(), "token")
	require.NoError(c.t, os.WriteFile(token, []byte(adminToken), 0o600))
	out, err := exec.CommandContext(c.t.Context(), binary, append(args, "--server", "http://"+c.nodes[0].http, "--token-file", token)...).CombinedOutput()
	require.NoError(c.t, err, "cdc-node %v: %s", args, out)
	return string(out)
}

// create makes a changefeed of etcd keys that runs.
func (c *cluster) create(name, sink string, more ...string) {
	c.t.Helper()
	c.cli(append([]string{"changefeed", "create", name, "--source", "etcd://" + c.etcd + "/" + name + "/", "--sink", sink, "--start", "snapshot"}, more...)...)
	eventually(c.t, name+" runs", func() error {
		var status struct{ State string }
		c.record("status/default/"+name, &status)
		if status.State != "running" {
			return fmt.Errorf("it is %q", status.State)
		}
		return nil
	})
}

func word(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// ask asks etcd itself, over its JSON gateway: what an action did is read where it has to be.
func (c *cluster) ask(what string, body map[string]any) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.etcd+"/v3/kv/"+what, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var out bytes.Buffer
	_, err = out.ReadFrom(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd answers %d: %s", response.StatusCode, out.String())
	}
	return out.Bytes(), err
}

// record reads a record of the cluster; false if there is none.
func (c *cluster) record(key string, into any) bool {
	c.t.Helper()
	data, err := c.ask("range", map[string]any{"key": word("/cdc/default/" + key)})
	require.NoError(c.t, err)
	var answer struct{ Kvs []struct{ Value []byte } }
	require.NoError(c.t, json.Unmarshal(data, &answer))
	if len(answer.Kvs) == 0 {
		return false
	}
	require.NoError(c.t, json.Unmarshal(answer.Kvs[0].Value, into))
	return true
}

// spec and epoch are what the tests read of the records.
type spec struct {
	Desired string
	Options map[string]string
}

type epoch struct {
	Epoch     uint64
	OwnerName string `json:"owner_name"`
	Reason    string
}

func (c *cluster) spec(name string) (out spec, found bool) {
	found = c.record("specs/default/"+name, &out)
	return out, found
}

func (c *cluster) epoch(name string) (out epoch) {
	c.record("epochs/default/"+name, &out)
	return out
}

// until waits for what etcd holds.
func (c *cluster) until(what string, holds func() bool) {
	c.t.Helper()
	eventually(c.t, what, func() error {
		if !holds() {
			return errors.New("etcd says otherwise")
		}
		return nil
	})
}

// write puts changes under prefixes until the test ends, each with so many a second.
func (c *cluster) write(prefixes map[string]int) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for prefix, rate := range prefixes {
		running.Go(func() {
			ticker := time.NewTicker(time.Second / time.Duration(rate))
			defer ticker.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				key := fmt.Sprintf("%s%c%03d", prefix, 'a'+i%26, i%500)
				_, _ = c.ask("put", map[string]any{"key": word(key), "value": word(strings.Repeat("v", 100))})
			}
		})
	}
	c.t.Cleanup(func() {
		stop()
		running.Wait()
	})
}
