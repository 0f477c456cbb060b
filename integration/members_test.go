package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Three nodes and nothing else: each embeds a member of the etcd that they share, and finds its data when it comes back.
// Each is killed in turn, and the one whose member leads stands still for longer than a session; what is copied
// meanwhile is all there, once.
func TestThreeNodesThatEmbedTheirEtcd(t *testing.T) {
	w := &world{source: startEtcd(t, "source"), target: startEtcd(t, "target"), directory: filepath.Join(t.TempDir(), "files")}
	w.nodes = &nodes{t: t}
	var clients, cluster []string
	peers := make(map[string]string)
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		peers[name] = "http://" + freeAddr(t)
		cluster = append(cluster, name+"="+peers[name])
	}
	members := make(map[string]string) // where each listens for clients
	for i := range 3 {
		s := &server{name: fmt.Sprintf("n%d", i+1), http: freeAddr(t)}
		members[s.name] = freeAddr(t)
		clients = append(clients, members[s.name])
		s.args = []string{
			"server", "--name", s.name, "--http-addr", s.http, "--peer-addr", freeAddr(t), "--data-dir", t.TempDir(),
			"--etcd-listen-client", "http://" + members[s.name], "--etcd-listen-peer", peers[s.name],
			"--etcd-initial-cluster", strings.Join(cluster, ","), "--session-ttl", embeddedTTL.String(), "--log-format", "json",
		}
		s.process = start(t, s.name, s.args...) // not one after another: each waits for a majority
		w.all = append(w.all, s)
	}
	control, err := clientv3.New(clientv3.Config{Endpoints: clients, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { _ = control.Close() })
	w.etcd = &member{client: control}
	for _, s := range w.all {
		eventually(t, s.name+" is ready", func() error { return ready(t.Context(), s) })
	}
	require.Len(t, w.list(), 3, "they are one cluster")
	via := w.all[0].url()
	for name, sink := range map[string]string{"copy": "etcd://" + w.target.endpoint + targetPrefix, "files": "file://" + w.directory} {
		must(t, "changefeed", "create", name, "--server", via, "--source", "etcd://"+w.source.endpoint+sourcePrefix,
			"--sink", sink, "--start", "now")
		w.awaitState(name, "running")
	}
	w.writers = startWriters(t, w.source, sourcePrefix, 8, 200, 800)
	for _, s := range w.all {
		s.Kill()
		took := w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)
		t.Logf("killed %s: a change was copied %v later", s.name, took)
		w.restart(s) // with the data of its member
	}
	leader := w.leader(control, members)
	thaw := leader.freeze()
	took := w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)
	t.Logf("%s, whose member led, stands still: a change was copied %v later", leader.name, took)
	thaw()
	eventually(t, leader.name+" is back", func() error { return ready(t.Context(), leader) })
	w.settle()
	for _, s := range w.all[1:] {
		s.terminate()
	}
}

// embeddedTTL is longer than an election of etcd takes.
const embeddedTTL = 3 * time.Second

// leader returns the server whose member leads.
func (w *world) leader(control *clientv3.Client, members map[string]string) *server {
	w.t.Helper()
	var found *server
	eventually(w.t, "a member leads", func() error {
		for _, s := range w.all {
			ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
			status, err := control.Status(ctx, members[s.name])
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				found = s
				return nil
			}
		}
		return fmt.Errorf("none of %v", members)
	})
	return found
}
