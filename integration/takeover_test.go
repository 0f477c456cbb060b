package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

// takeovers in a row of the node that does everything.
const takeovers = 20

// world is three nodes on one etcd, a source and a target of their own, and two changefeeds.
type world struct {
	*nodes
	source, target *member
	directory      string
	writers        *writers
}

const (
	sourcePrefix = "/orders/"
	targetPrefix = "/copy/"
)

func newWorld(t *testing.T, rate int, options ...string) *world {
	t.Helper()
	return newWorldOf(t, "", rate, options...)
}

// newWorldOf starts the nodes with another binary; "" is the one under test.
func newWorldOf(t *testing.T, older string, rate int, options ...string) *world {
	t.Helper()
	w := &world{source: startEtcd(t, "source"), target: startEtcd(t, "target"), directory: filepath.Join(t.TempDir(), "files")}
	w.nodes = startNodesOf(t, older, startEtcd(t, "control"), 3)
	server := w.all[0].url()
	from := "etcd://" + w.source.endpoint + sourcePrefix
	create := func(name, sink string) {
		args := []string{"changefeed", "create", name, "--server", server, "--source", from, "--sink", sink, "--start", "now"}
		for _, option := range options {
			args = append(args, "--option", option)
		}
		must(t, args...)
		w.awaitState(name, "running")
	}
	create("copy", "etcd://"+w.target.endpoint+targetPrefix)
	create("files", "file://"+w.directory)
	w.writers = startWriters(t, w.source, sourcePrefix, 8*(1+rate/1000), rate, 800)
	return w
}

// settle stops the writers, waits until both changefeeds are caught up, and judges what arrived.
func (w *world) settle() {
	w.t.Helper()
	log := w.writers.finish()
	via := w.alive()
	for _, name := range []string{"copy", "files"} {
		must(w.t, "changefeed", "wait", name, "--server", via.url(), "--caught-up", "--timeout", waitMax.String())
	}
	require.Empty(w.t, judge.Copy(w.source.stored(sourcePrefix), w.target.stored(targetPrefix)), "etcd to etcd")
	seen := w.cat()
	require.Empty(w.t, judge.Log(log, seen), "etcd to files")
	require.NotEmpty(w.t, log)
	w.t.Logf("judged %d writes, %d changes in the files", len(log), len(seen))
}

// cat reads the file sink as `sink cat` shows it, with a decoder of the tests' own.
func (w *world) cat(flags ...string) []judge.Seen {
	w.t.Helper()
	out := must(w.t, append([]string{"sink", "cat", "file://" + w.directory}, flags...)...)
	var seen []judge.Seen
	lines := bufio.NewScanner(bytes.NewReader([]byte(out)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Op       string `json:"op"`
			Position string `json:"position"`
			Key      struct {
				Key string `json:"key"`
			} `json:"key"`
			After *struct {
				Value string `json:"value"`
			} `json:"after"`
		}
		require.NoError(w.t, json.Unmarshal(lines.Bytes(), &line), lines.Text())
		if line.Op == "" {
			continue // a resolved line
		}
		revision, err := strconv.ParseInt(line.Position, 10, 64)
		require.NoError(w.t, err, lines.Text())
		one := judge.Seen{Key: strings.TrimPrefix(line.Key.Key, sourcePrefix), Revision: revision, Delete: line.Op == "delete"}
		if line.After != nil {
			one.Value = line.After.Value
		}
		seen = append(seen, one)
	}
	require.NoError(w.t, lines.Err())
	return seen
}

func TestKilledNodeIsTakenOverTwentyTimesInARow(t *testing.T) {
	w := newWorld(t, 400)
	var worst time.Duration
	for i := range takeovers {
		victim := w.gather("copy", "files")
		w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)
		killed := time.Now()
		victim.Kill()
		took := w.writers.probe(w.target, targetPrefix, killed, waitMax)
		require.Less(t, took, sessionTTL+recoverySlack, "takeover %d", i+1)
		worst = max(worst, took)
		w.restart(victim)
	}
	t.Logf("%d takeovers of the coordinator, owner and dispatcher in one; the slowest took %v", takeovers, worst)
	w.settle()
}

func TestStoppedNodeWakesWithoutEffect(t *testing.T) {
	w := newWorld(t, 400)
	for range 3 {
		victim := w.gather("copy", "files")
		before := w.nodeID(victim)
		thaw := victim.freeze()
		frozen := time.Now()
		w.writers.probe(w.target, targetPrefix, frozen, sessionTTL+recoverySlack)
		<-time.After(3*sessionTTL - time.Since(frozen)) // the pause is the fault, not a wait for a condition
		thaw()
		eventually(t, victim.name+" is back as another node", func() error {
			now := w.nodeID(victim)
			if now == "" || now == before {
				return fmt.Errorf("its id is %q, as before %q", now, before)
			}
			return nil
		})
		eventually(t, victim.name+" is ready", func() error { return ready(t.Context(), victim) })
	}
	w.settle()
}

// nodeID returns the id under which a node of that name is registered now.
func (c *nodes) nodeID(s *server) string {
	c.t.Helper()
	got, err := c.etcd.client.Get(c.t.Context(), "/cdc/default/names/"+s.name)
	require.NoError(c.t, err)
	if len(got.Kvs) == 0 {
		return ""
	}
	var record struct {
		Node string `json:"node"`
	}
	require.NoError(c.t, json.Unmarshal(got.Kvs[0].Value, &record))
	return record.Node
}

func TestRecordsTellWhoOwnsWhatSinceWhenAndWhy(t *testing.T) {
	w := newWorld(t, 100)
	first := w.gather("copy", "files")
	first.Kill()
	eventually(t, "another owner", func() error {
		f, err := w.feed(w.alive(first), "copy")
		if err == nil && f.OwnerName == first.name {
			err = fmt.Errorf("still %s", first.name)
		}
		return err
	})
	got, err := w.etcd.client.Get(t.Context(), "/cdc/default/", clientv3.WithPrefix())
	require.NoError(t, err)
	records := make(map[string]map[string]any)
	for _, kv := range got.Kvs {
		var value map[string]any
		if json.Unmarshal(kv.Value, &value) == nil {
			records[strings.TrimPrefix(string(kv.Key), "/cdc/default/")] = value
		}
	}
	epoch := records["epochs/default/copy"]
	require.Equal(t, "owner_lost", epoch["reason"])
	require.NotEmpty(t, epoch["at"])
	require.NotEqual(t, first.name, epoch["owner_name"])
	require.Contains(t, records, fmt.Sprintf("nodes/%s", epoch["owner"]))
	ended := 0
	for key := range records {
		if strings.HasPrefix(key, "history/default/copy/") {
			ended++
		}
	}
	require.Positive(t, ended, "the ownership before is kept in the history")
	w.settle()
}
