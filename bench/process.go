package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/proc"
)

// waitMax bounds every wait, so that a fault ends the run with its reason.
const waitMax = 5 * time.Minute

// lookEvery is how often a condition is looked at: seldom, since who looks takes from what is measured.
const lookEvery = 25 * time.Millisecond

// bench is what all rows share.
type bench struct {
	dir    string
	binary string
	rounds int
	limit  time.Duration
	alone  bool // without the baselines
	part   int  // of the database rows' size; 1 is all of it
	count  int
}

// process is a child that is ended with the row.
type process struct{ *proc.Process }

func (b *bench) start(name string, args ...string) (*process, error) {
	p, err := proc.Start(name, exec.Command(name, args...)) //nolint:gosec,noctx // our own binaries, ended by stop
	return &process{p}, err
}

func (p *process) stop() { p.Kill() }

// cpu returns the processor seconds that the process used so far (utime and stime of /proc/<pid>/stat, in ticks of
// 10 ms).
func (p *process) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
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
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
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

// etcd is a member as a process of its own, with fsync as etcd has it.
type etcd struct {
	*process
	endpoint string
	client   *clientv3.Client
}

func (b *bench) startEtcd(ctx context.Context) (*etcd, error) {
	b.count++
	client, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	peer, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	e := &etcd{endpoint: client}
	spec := proc.Member{Name: "m", Dir: filepath.Join(b.dir, fmt.Sprintf("etcd%d", b.count)), Clients: []string{client}, Peer: peer}
	e.process, err = b.start(b.binary, spec.Args("--quota-backend-bytes", "8589934592")...)
	if err != nil {
		return nil, err
	}
	e.client, err = proc.Dial(client)
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

func (b *bench) startNode(ctx context.Context) (*node, error) { return b.startNodeOf(ctx, b.binary) }

// startNodeOf is startNode for another build.
func (b *bench) startNodeOf(ctx context.Context, binary string) (*node, error) {
	control, err := b.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	httpAddr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	peerAddr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	n := &node{http: httpAddr, control: control}
	b.count++
	n.process, err = b.start(binary, "server", "--name", "bench", "--etcd", control.endpoint, "--http-addr", httpAddr,
		"--peer-addr", peerAddr, "--data-dir", filepath.Join(b.dir, fmt.Sprintf("node%d", b.count)), "--status-interval", "100ms",
		"--log-level", "warn")
	if err != nil {
		control.stop()
		return nil, err
	}
	err = until(ctx, "the node is ready", func(ctx context.Context) error { return n.call(ctx, http.MethodGet, "/readyz", nil, nil) })
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("%w\n%s", err, n.Output.String())
	}
	if b.alone {
		fmt.Fprintf(os.Stderr, "  to be profiled: http://%s/debug/pprof/\n", n.http)
	}
	return n, nil
}

func (n *node) stop() {
	n.process.stop()
	n.control.stop()
}

// call makes one request of the API.
func (n *node) call(ctx context.Context, method, path string, body, into any) error {
	return proc.API(n.http).Call(ctx, method, path, body, into)
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
func (n *node) running(ctx context.Context, name string) error { return n.is(ctx, name, "running") }

// is waits until a changefeed is in a state.
func (n *node) is(ctx context.Context, name, state string) error {
	return until(ctx, name+" is "+state, func(ctx context.Context) error {
		var feed struct {
			State string `json:"state"`
			Error any    `json:"error"`
		}
		err := n.call(ctx, http.MethodGet, "/api/v1/changefeeds/default/"+name, nil, &feed)
		if err == nil && feed.State != state {
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

// order pauses or resumes a changefeed.
func (n *node) order(ctx context.Context, name, what string) error {
	return n.call(ctx, http.MethodPost, "/api/v1/changefeeds/default/"+name+"/"+what, nil, nil)
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

// until waits until condition returns nil.
func until(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	if err := proc.UntilEvery(ctx, lookEvery, condition); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
