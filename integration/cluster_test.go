package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
	"fencerow/integration/proc"
)

// sessionTTL of the nodes under test. Recovery has to come within it and recoverySlack.
const (
	sessionTTL    = 2 * time.Second
	recoverySlack = 2 * time.Second
)

// member is an etcd of one member, as a process of its own.
type member struct {
	*process
	endpoint string
	client   *clientv3.Client
}

func startEtcd(t *testing.T, name string) *member {
	t.Helper()
	return startEtcdAt(t, name, freeAddr(t))
}

// startEtcdAt starts it on the first address, and has it listen on the others too.
func startEtcdAt(t *testing.T, name, client string, also ...string) *member {
	t.Helper()
	m := &member{endpoint: client}
	spec := proc.Member{Name: name, Dir: filepath.Join(t.TempDir(), "etcd"), Clients: append([]string{client}, also...), Peer: freeAddr(t)}
	m.process = start(t, "etcd "+name, spec.Args("--unsafe-no-fsync")...)
	var err error
	m.client, err = proc.Dial(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.client.Close() })
	eventually(t, "etcd "+name+" answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := m.client.Get(ctx, "ready")
		return err
	})
	return m
}

// stored reads every key under prefix, without the prefix.
func (m *member) stored(prefix string) map[string]judge.Stored {
	m.t.Helper()
	return m.storedAt(prefix, 0)
}

// storedAt is stored, as of a revision; 0 is now.
func (m *member) storedAt(prefix string, revision int64) map[string]judge.Stored {
	m.t.Helper()
	out := make(map[string]judge.Stored)
	got, err := m.client.Get(m.t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	require.NoError(m.t, err)
	for _, kv := range got.Kvs {
		out[strings.TrimPrefix(string(kv.Key), prefix)] = judge.Stored{Value: string(kv.Value), Version: kv.Version}
	}
	return out
}

// nodes are servers on one etcd.
type nodes struct {
	t    *testing.T
	etcd *member
	all  []*server

	older string // the binary that servers are first started with, if not the one under test
}

type server struct {
	*process
	name string
	http string
	args []string

	binary string // of the process; "" is the one under test
}

// url is where a command reaches the server.
func (s *server) url() string { return "http://" + s.http }

// startNodes starts n servers, one after another, so that the first is the coordinator.
func startNodes(t *testing.T, etcd *member, n int, extra ...string) *nodes {
	t.Helper()
	return startNodesOf(t, "", etcd, n, extra...)
}

// startNodesOf starts them with another binary; "" is the one under test.
func startNodesOf(t *testing.T, older string, etcd *member, n int, extra ...string) *nodes {
	t.Helper()
	c := &nodes{t: t, etcd: etcd, older: older}
	for i := range n {
		c.add(fmt.Sprintf("n%d", i+1), extra...)
	}
	return c
}

// add starts one more server and waits until it is ready.
func (c *nodes) add(name string, extra ...string) *server {
	c.t.Helper()
	s := &server{name: name, http: freeAddr(c.t), binary: c.older}
	s.args = append([]string{
		"server", "--name", name, "--etcd", c.etcd.endpoint, "--http-addr", s.http, "--peer-addr", freeAddr(c.t),
		"--session-ttl", sessionTTL.String(), "--data-dir", c.t.TempDir(), "--log-format", "json",
	}, extra...)
	c.all = append(c.all, s)
	c.restart(s)
	return s
}

// restart starts a server again with the arguments that it had.
func (c *nodes) restart(s *server) {
	c.t.Helper()
	s.process = startBinary(c.t, cmp.Or(s.binary, binary), s.name, s.args...)
	eventually(c.t, s.name+" is ready", func() error {
		select {
		case <-s.Exited:
			c.t.Fatalf("%s ended: %v\n%s", s.name, s.Err(), s.Output.Last(40))
		default:
		}
		return ready(c.t.Context(), s)
	})
}

func ready(ctx context.Context, s *server) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return proc.API(s.http).Ready(ctx)
}

// alive returns a server whose process runs and is not the one given.
func (c *nodes) alive(but ...*server) *server {
	c.t.Helper()
	for _, s := range c.all {
		if s.Alive() && !slices.Contains(but, s) {
			return s
		}
	}
	c.t.Fatal("no server is left")
	return nil
}

// feed is what the tests read of a changefeed.
type feed struct {
	UID        string `json:"uid"`
	State      string `json:"state"`
	Epoch      uint64 `json:"epoch"`
	Owner      string `json:"owner"`
	OwnerName  string `json:"owner_name"`
	Checkpoint string `json:"checkpoint"`

	Options map[string]string `json:"options"`
	Error   *struct {
		Code    string `json:"code"`
		Message string `json:"message"`

		NextTry *time.Time `json:"next_try"`
	} `json:"error"`
}

func (c *nodes) feed(via *server, name string) (feed, error) {
	c.t.Helper()
	out := cli(c.t, "changefeed", "get", name, "--server", via.url(), "-o", "json")
	if out.code != 0 {
		return feed{}, fmt.Errorf("get %s: exit %d: %s", name, out.code, out.stderr)
	}
	var f feed
	return f, json.Unmarshal([]byte(out.stdout), &f)
}

// awaitState waits until a changefeed has the state.
func (c *nodes) awaitState(name, state string) feed {
	c.t.Helper()
	var last feed
	eventually(c.t, name+" is "+state, func() error {
		f, err := c.feed(c.alive(), name)
		last = f
		if err == nil && f.State != state {
			err = fmt.Errorf("it is %q (error %+v)", f.State, f.Error)
		}
		return err
	})
	return last
}

// coordinator returns the name of the node that coordinates.
func (c *nodes) coordinator(via *server) string {
	c.t.Helper()
	var shown struct {
		Coordinator struct {
			Name string `json:"name"`
		} `json:"coordinator"`
	}
	out := cli(c.t, "coordinator", "show", "--server", via.url(), "-o", "json")
	if out.code == 0 {
		require.NoError(c.t, json.Unmarshal([]byte(out.stdout), &shown), out.stdout)
	}
	return shown.Coordinator.Name
}

// gather makes the coordinator the owner of everything too, by a clean stop of the others, and starts these again.
func (c *nodes) gather(feeds ...string) *server {
	c.t.Helper()
	var chosen *server
	eventually(c.t, "a coordinator is shown", func() error {
		name := c.coordinator(c.alive())
		for _, s := range c.all {
			if s.name == name {
				chosen = s
				return nil
			}
		}
		return fmt.Errorf("it is %q", name)
	})
	for _, s := range c.all {
		if s != chosen {
			s.terminate()
		}
	}
	for _, name := range feeds {
		eventually(c.t, chosen.name+" owns "+name, func() error {
			f, err := c.feed(chosen, name)
			if err == nil && (f.OwnerName != chosen.name || f.State != "running") {
				err = fmt.Errorf("owner %q, state %q", f.OwnerName, f.State)
			}
			return err
		})
	}
	for _, s := range c.all {
		if s != chosen {
			c.restart(s)
		}
	}
	return chosen
}

// freeze stops a server's process and returns what lets it go on.
func (s *server) freeze() (thaw func()) {
	s.signal(syscall.SIGSTOP)
	return func() { s.signal(syscall.SIGCONT) }
}
