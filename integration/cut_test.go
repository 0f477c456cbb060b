package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// line relays TCP to an address until it is cut; then it takes nothing and lets nothing through.
type line struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &line{listener: listener, target: target}
	var done sync.WaitGroup
	done.Go(l.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		l.sever()
		done.Wait()
	})
	return l
}

func (l *line) addr() string { return l.listener.Addr().String() }

func (l *line) serve() {
	var relays sync.WaitGroup
	defer relays.Wait()
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.target)
		if err != nil || !l.admit(near, far) {
			_ = near.Close()
			if err == nil {
				_ = far.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			relays.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
			})
		}
	}
}

func (l *line) admit(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.conns = append(l.conns, conns...)
	}
	return !l.cut
}

// sever cuts the line until it is mended.
func (l *line) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Of two nodes the one with the smaller id connects, so the node with the largest id is reached by all others through
// its own line, and connects to nobody: cutting that line cuts it off from its peers, and from nothing else.
func TestNodeCutFromItsPeersHoldsNobodyUp(t *testing.T) {
	w := &world{source: startEtcd(t, "source"), target: startEtcd(t, "target"), directory: filepath.Join(t.TempDir(), "files")}
	w.nodes = startNodes(t, startEtcd(t, "control"), 0)
	lines := make(map[string]*line)
	for i := range 3 {
		peer := freeAddr(t)
		name := fmt.Sprintf("n%d", i+1)
		lines[name] = newLine(t, peer)
		w.add(name, "--peer-addr", peer, "--advertise-peer", lines[name].addr())
	}
	via := w.all[0].url()
	splits := "split_keys=" + sourcePrefix + "k00200," + sourcePrefix + "k00400," + sourcePrefix + "k00600"
	for name, sink := range map[string]string{"copy": "etcd://" + w.target.endpoint + targetPrefix, "files": "file://" + w.directory} {
		must(t, "changefeed", "create", name, "--server", via, "--source", "etcd://"+w.source.endpoint+sourcePrefix,
			"--sink", sink, "--start", "now", "--option", splits)
		w.awaitState(name, "running")
	}
	w.writers = startWriters(t, w.source, sourcePrefix, 8, 300, 800)
	eventually(t, "every node runs spans", func() error {
		for _, n := range w.list() {
			if n.Dispatchers == 0 {
				return fmt.Errorf("nodes: %+v", w.list())
			}
		}
		return nil
	})
	victim := w.all[0]
	for _, s := range w.all {
		if w.nodeID(s) > w.nodeID(victim) {
			victim = s
		}
	}
	other := w.alive(victim)
	for range 2 {
		lines[victim.name].sever()
		cut := time.Now()
		for _, name := range []string{"copy", "files"} {
			must(t, "changefeed", "wait", name, "--server", other.url(), "--caught-up", "--timeout", waitMax.String())
		}
		t.Logf("cut off %s: both changefeeds had caught up %v later", victim.name, time.Since(cut))
		eventually(t, "the others say that they can't reach it", func() error {
			for _, n := range w.list() {
				if n.Name != victim.name && len(n.Unreachable) == 0 {
					return fmt.Errorf("%s reaches everybody", n.Name)
				}
			}
			return nil
		})
		lines[victim.name].mend()
		eventually(t, "all reach each other again", func() error {
			for _, n := range w.list() {
				if len(n.Unreachable) > 0 {
					return fmt.Errorf("%s: %v", n.Name, n.Unreachable)
				}
			}
			return nil
		})
	}
	w.settle()
}
