package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// waitMax bounds every wait, so that a fault ends the run with its reason.
const waitMax = 5 * time.Minute

// bench is what all rows share.
type bench struct {
	dir    string
	binary string
	rounds int
	limit  time.Duration
	alone  bool // without the baselines
	count  int
}

// process is a child that is ended with the row.
type process struct {
	cmd    *exec.Cmd
	output *bytes.Buffer
	done   chan struct{}
}

func (b *bench) start(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), output: &bytes.Buffer{}, done: make(chan struct{})} //nolint:gosec,noctx // our own binaries, ended by stop
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() //nolint:errcheck // it is killed at the end
		close(p.done)
	}()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-p.done
}

// cpu returns the processor seconds that the process used so far (utime and stime of /proc/<pid>/stat, in ticks of
// 10 ms).
func (p *process) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const utime, stime, ticksPerSecond = 11, 12, 100
	user, err1 := strconv.ParseFloat(fields[utime], 64)
	system, err2 := strconv.ParseFloat(fields[stime], 64)
	return (user + system) / ticksPerSecond, errors.Join(err1, err2)
}

// resident returns the peak resident memory of the process in MiB.
func (p *process) resident() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no VmHWM")
}

func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a port to be had at once
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// etcd is a member as a process of its own, with fsync as etcd has it.
type etcd struct {
	*process
	endpoint string
	client   *clientv3.Client
}

func (b *bench) startEtcd(ctx context.Context) (*etcd, error) {
	b.count++
	client, err := freeAddr()
	if err != nil {
		return nil, err
	}
	peer, err := freeAddr()
	if err != nil {
		return nil, err
	}
	e := &etcd{endpoint: client}
	e.process, err = b.start(b.binary, "etcd", "--data-dir", filepath.Join(b.dir, fmt.Sprintf("etcd%d", b.count)), "--name", "m",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", "m=http://"+peer, "--log-level", "error", "--quota-backend-bytes", "8589934592")
	if err != nil {
		return nil, err
	}
	e.client, err = clientv3.New(clientv3.Config{Endpoints: []string{client}, Logger: zap.NewNop()})
	if err != nil {
		e.process.stop()
		return nil, err
	}
	return e, until(ctx, "etcd answers", func(ctx context.Context) error {
		_, err := e.client.Get(ctx, "ready")
		return err
	})
}

func (e *etcd) stop() {
	_ = e.client.Close()
	e.process.stop()
}

// node is a cdc-node server on a control etcd of its own.
type node struct {
	*process
	http    string
	control *etcd
}

func (b *bench) startNode(ctx context.Context) (*node, error) {
	control, err := b.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	httpAddr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	peerAddr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	n := &node{http: httpAddr, control: control}
	b.count++
	n.process, err = b.start(b.binary, "server", "--name", "bench", "--etcd", control.endpoint, "--http-addr", httpAddr,
		"--peer-addr", peerAddr, "--data-dir", filepath.Join(b.dir, fmt.Sprintf("node%d", b.count)), "--status-interval", "100ms",
		"--log-level", "warn")
	if err != nil {
		control.stop()
		return nil, err
	}
	err = until(ctx, "the node is ready", func(ctx context.Context) error { return n.call(ctx, http.MethodGet, "/readyz", nil, nil) })
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("%w\n%s", err, n.output.String())
	}
	return n, nil
}

func (n *node) stop() {
	n.process.stop()
	n.control.stop()
}

// call makes one request of the API.
func (n *node) call(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+n.http+path, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// create makes a changefeed.
func (n *node) create(ctx context.Context, name, source, sink, start string) error {
	return n.createWith(ctx, name, map[string]any{"source": source, "sink": sink, "start": start})
}

// createWith creates a changefeed with what the request has beside its name.
func (n *node) createWith(ctx context.Context, name string, request map[string]any) error {
	request["name"] = name
	return n.call(ctx, http.MethodPost, "/api/v1/changefeeds", request, nil)
}

// running waits until a changefeed runs.
func (n *node) running(ctx context.Context, name string) error {
	return until(ctx, name+" runs", func(ctx context.Context) error {
		var feed struct {
			State string `json:"state"`
			Error any    `json:"error"`
		}
		err := n.call(ctx, http.MethodGet, "/api/v1/changefeeds/default/"+name, nil, &feed)
		if err == nil && feed.State != "running" {
			err = fmt.Errorf("it is %s, error %v", feed.State, feed.Error)
		}
		return err
	})
}

// reached waits until a changefeed's checkpoint is at least a revision.
func (n *node) reached(ctx context.Context, name string, revision int64) error {
	return until(ctx, name+" reaches its end", func(ctx context.Context) error {
		var feed struct {
			Checkpoint string `json:"checkpoint"`
			State      string `json:"state"`
			Error      any    `json:"error"`
		}
		if err := n.call(ctx, http.MethodGet, "/api/v1/changefeeds/default/"+name, nil, &feed); err != nil {
			return err
		}
		have, err := strconv.ParseInt(feed.Checkpoint, 10, 64)
		if err != nil || have < revision {
			return fmt.Errorf("checkpoint %q of %d, state %s, error %v", feed.Checkpoint, revision, feed.State, feed.Error)
		}
		return nil
	})
}

// remove takes a changefeed away and waits until it is gone.
func (n *node) remove(ctx context.Context, name string) error {
	if err := n.call(ctx, http.MethodDelete, "/api/v1/changefeeds/default/"+name, nil, nil); err != nil {
		return err
	}
	return until(ctx, name+" is gone", func(ctx context.Context) error {
		if err := n.call(ctx, http.MethodGet, "/api/v1/changefeeds/default/"+name, nil, nil); err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
}

// until asks every 10 ms until condition returns nil.
func until(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
