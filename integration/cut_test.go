package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
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

// cutFeeds are changefeeds to sinks with claims, and to one without, where a cut-off node has to be evicted.
var cutFeeds = map[string]bool{"copy": true, "files": true, "plain": false}

// Of two nodes the one with the smaller id connects, so the node with the largest id is reached by all others through
// its own line, and connects to nobody: cutting that line cuts it off from its peers, and from nothing else. It lives in
// etcd all the time, owns everything or nothing, and the changefeeds go on without it within 3 × TTL.
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
	sinks := map[string]string{"copy": "etcd://" + w.target.endpoint + targetPrefix, "files": "file://" + w.directory, "plain": "blackhole:"}
	for name := range cutFeeds {
		must(t, "changefeed", "create", name, "--server", via, "--source", "etcd://"+w.source.endpoint+sourcePrefix,
			"--sink", sinks[name], "--start", "now", "--option", splits)
		w.awaitState(name, "running")
	}
	w.writers = startWriters(t, w.source, sourcePrefix, 8, 300, 800)
	victim := w.all[0]
	for _, s := range w.all {
		if w.nodeID(s) > w.nodeID(victim) {
			victim = s
		}
	}
	other := w.alive(victim)
	for _, owner := range []*server{other, victim} {
		for name := range cutFeeds {
			w.moveTo(name, owner, other)
		}
		eventually(t, "every node runs a span of each", func() error { return w.spread(other, w.nodeID(victim)) })
		id := w.nodeID(victim)
		lines[victim.name].sever()
		cut := time.Now()
		position := w.writers.mark()
		took := make(map[string]time.Duration)
		within(t, 3*sessionTTL+cutSlack, "all advance again", func() error {
			var behind error
			for name := range cutFeeds {
				if _, done := took[name]; done {
					continue
				}
				if at, err := w.checkpoint(other, name); err != nil || at < position {
					behind = fmt.Errorf("%s is at %d, not yet %d: %w", name, at, position, err)
					continue
				}
				took[name] = time.Since(cut)
			}
			return behind
		})
		t.Logf("cut off %s, while %s owned everything; advanced again after %v", victim.name, owner.name, took)
		eventually(t, "the others say that they can't reach it", func() error {
			for _, n := range w.list() {
				if n.Name != victim.name && len(n.Unreachable) == 0 {
					return fmt.Errorf("%s reaches everybody", n.Name)
				}
			}
			return nil
		})
		if owner == victim {
			for name := range cutFeeds {
				eventually(t, "the owner moved to a node that reaches more", func() error {
					f, err := w.feed(other, name)
					if err == nil && f.OwnerName == victim.name {
						err = fmt.Errorf("still %s", f.OwnerName)
					}
					return err
				})
				require.Contains(t, must(t, "changefeed", "history", name, "--server", other.url()), "owner_unreachable")
			}
		}
		require.Equal(t, id, w.nodeID(victim), "it lived in etcd all the time")
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
	left, err := w.etcd.client.Get(t.Context(), "/cdc/default/evictions/", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Empty(t, left.Kvs, "every eviction was acknowledged and deleted")
	w.settle()
}

// cutSlack is for machines with more to do.
const cutSlack = 4 * time.Second

// moveTo makes a server the owner of a changefeed.
func (w *world) moveTo(name string, to, via *server) {
	w.t.Helper()
	eventually(w.t, name+" is owned by "+to.name, func() error {
		f, err := w.feed(via, name)
		if err != nil || f.OwnerName == to.name {
			return err
		}
		out := cli(w.t, "changefeed", "move", name, "--to", to.name, "--server", via.url())
		return fmt.Errorf("owner %q: %s", f.OwnerName, out.stderr)
	})
}

// spread returns nil if the node runs a span of every changefeed.
func (w *world) spread(via *server, node string) error {
	for name := range cutFeeds {
		out := cli(w.t, "changefeed", "spans", name, "--server", via.url(), "-o", "json")
		if out.code != 0 || !strings.Contains(out.stdout, node) {
			return fmt.Errorf("%s has no span there: %s", name, out.stderr)
		}
	}
	return nil
}

// checkpoint reads a changefeed's checkpoint.
func (w *world) checkpoint(via *server, name string) (int64, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, via.url()+"/api/v1/changefeeds/default/"+name, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	var f feed
	if err := json.NewDecoder(response.Body).Decode(&f); err != nil {
		return 0, err
	}
	return strconv.ParseInt(f.Checkpoint, 10, 64)
}
