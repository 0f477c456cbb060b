package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/judge"
)

// redone is what the tests read of redo apply, and shown of redo show.
type redone struct {
	Position int64 `json:"position,string"`
	Changes  int   `json:"changes"`
}

type shown struct {
	Changefeed string `json:"changefeed"`
	Consistent int64  `json:"consistent,string"`
	Reason     string `json:"reason"`

	SyncPoints []string `json:"sync_points"`

	Spans []struct {
		Position int64 `json:"position,string"`
	} `json:"spans"`
}

// redoWorld is a source and a target with a redo log between them, in four spans over three nodes.
type redoWorld struct {
	*nodes
	source, target *member
	writers        *writers
	directory      string
}

func newRedoWorld(t *testing.T, options ...string) *redoWorld {
	t.Helper()
	w := &redoWorld{source: startEtcd(t, "source"), target: startEtcd(t, "target"), directory: filepath.Join(t.TempDir(), "redo")}
	w.nodes = startNodes(t, startEtcd(t, "control"), 3)
	args := []string{
		"changefeed", "create", "copy", "--server", w.all[0].url(), "--source", "etcd://" + w.source.endpoint + sourcePrefix,
		"--sink", w.sink(w.target), "--start", "now",
	}
	for _, option := range append(options, "redo=file://"+w.directory, "split_keys="+sourcePrefix+"k00200,"+sourcePrefix+"k00400,"+sourcePrefix+"k00600") {
		args = append(args, "--option", option)
	}
	must(t, args...)
	w.awaitState("copy", "running")
	w.writers = startWriters(t, w.source, sourcePrefix, 8, 400, 800)
	return w
}

func (w *redoWorld) sink(target *member) string { return "etcd://" + target.endpoint + targetPrefix }

// flows waits until the target has some more keys.
func (w *redoWorld) flows(target *member, more int) {
	w.t.Helper()
	was := w.version(target)
	eventually(w.t, "changes reach the target", func() error {
		if is := w.version(target); is < was+int64(more) {
			return fmt.Errorf("%d writes, after %d", is, was)
		}
		return nil
	})
}

// version counts the writes of the keys that are there.
func (w *redoWorld) version(target *member) int64 {
	w.t.Helper()
	sum := int64(0)
	for _, stored := range target.stored(targetPrefix) {
		sum += stored.Version
	}
	return sum
}

func (w *redoWorld) show() shown {
	w.t.Helper()
	var out shown
	require.NoError(w.t, json.Unmarshal([]byte(must(w.t, "redo", "show", w.directory, "-o", "json")), &out))
	require.Equal(w.t, "default/copy", out.Changefeed)
	return out
}

func (w *redoWorld) apply(target *member) redone {
	w.t.Helper()
	var out redone
	require.NoError(w.t, json.Unmarshal([]byte(must(w.t, "redo", "apply", w.directory, "--sink", w.sink(target), "-o", "json")), &out))
	return out
}

// cut is what the source held at a position, with how often each key was written since it was there.
func cut(log []judge.Put, at int64) map[string]judge.Stored {
	ordered := slices.Clone(log)
	slices.SortFunc(ordered, func(a, b judge.Put) int { return int(a.Revision - b.Revision) })
	out := make(map[string]judge.Stored)
	for _, put := range ordered {
		switch {
		case put.Revision == 0 || put.Revision > at:
		case put.Delete:
			delete(out, put.Key)
		default:
			out[put.Key] = judge.Stored{Value: put.Value, Version: out[put.Key].Version + 1}
		}
	}
	return out
}

// requireCut requires that the target is the source as it was at a position, each write made once.
func (w *redoWorld) requireCut(target *member, log []judge.Put, at int64) {
	w.t.Helper()
	for _, put := range log {
		require.NotZero(w.t, put.Revision, "the source answered everything")
	}
	require.Equal(w.t, cut(log, at), target.stored(targetPrefix))
}

// The source is lost while the spans of the target stand at different positions: the log brings it to one, however often
// that is killed; an empty target too; and the changefeed's nodes do no harm, whether they live or come back.
func TestRedoAfterTheLossOfTheSource(t *testing.T) {
	t.Parallel() // it waits for the most part
	w := newRedoWorld(t)
	w.flows(w.target, 400)
	must(t, "check", "--server", w.all[0].url())
	drill := startEtcd(t, "drill")
	refused := cli(t, "redo", "apply", w.directory, "--sink", w.sink(w.target))
	require.Equal(t, 4, refused.code, refused.stderr)
	require.Contains(t, refused.stderr, "pause the changefeed first")
	drilled := w.apply(drill)
	require.Positive(t, drilled.Position)

	owner, err := w.feed(w.all[0], "copy")
	require.NoError(t, err)
	killed := w.all[slices.IndexFunc(w.all, func(s *server) bool { return s.name == owner.OwnerName })]
	killed.Kill()
	w.flows(w.target, 400)
	w.restart(killed)

	// The target takes nothing more, so that each span stands where it was; the log gets one more batch of each.
	w.target.signal(syscall.SIGSTOP)
	stood := w.show()
	eventually(t, "the log stands still without the target", func() error {
		was := stood
		if stood = w.show(); !slices.Equal(was.Spans, stood.Spans) {
			return fmt.Errorf("it was at %v, and is at %v", was.Spans, stood.Spans)
		}
		return nil
	})
	log := w.writers.finish()
	w.source.Kill()
	for _, s := range w.all {
		s.Kill()
	}
	w.target.signal(syscall.SIGCONT)
	w.requireCut(drill, log, drilled.Position)

	found := w.show()
	require.Empty(t, found.Reason)
	require.Greater(t, len(w.positions(w.target)), 1, "the spans of the target are not at one position")
	w.killApply(w.target)
	done := w.apply(w.target)
	w.requireCut(w.target, log, done.Position)
	require.GreaterOrEqual(t, done.Position, found.Consistent)
	require.Equal(t, done.Position, w.show().Consistent)
	require.Equal(t, []string{strconv.FormatInt(done.Position, 10)}, w.positions(w.target))

	empty := startEtcd(t, "empty")
	w.killApply(empty)
	require.Equal(t, done.Position, w.apply(empty).Position)
	w.requireCut(empty, log, done.Position)

	for _, s := range w.all {
		w.restart(s)
	}
	eventually(t, "copy misses its source", func() error {
		f, err := w.feed(w.all[0], "copy")
		if err == nil && f.State != "retrying" && f.State != "stalled" {
			err = fmt.Errorf("it is %s", f.State)
		}
		return err
	})
	require.Equal(t, redone{Position: done.Position}, w.apply(w.target), "nodes that live, without a source, do no harm")
	w.requireCut(w.target, log, done.Position)
	t.Logf("judged %d writes, cut at %d and %d", len(log), drilled.Position, done.Position)
}

// positions returns the positions of the target's pieces, each once.
func (w *redoWorld) positions(target *member) []string {
	w.t.Helper()
	got, err := target.client.Get(w.t.Context(), "/cdc-claims/", clientv3.WithPrefix())
	require.NoError(w.t, err)
	var out []string
	for _, pair := range got.Kvs {
		for _, found := range regexp.MustCompile(`"position":"(\d+)"`).FindAllStringSubmatch(string(pair.Value), -1) {
			out = append(out, found[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// killApply kills an apply once it has claimed the target.
func (w *redoWorld) killApply(target *member) {
	w.t.Helper()
	claims := func() int64 {
		got, err := target.client.Get(w.t.Context(), "/cdc-claims/", clientv3.WithPrefix())
		require.NoError(w.t, err)
		latest := int64(0)
		for _, pair := range got.Kvs {
			latest = max(latest, pair.ModRevision)
		}
		return latest
	}
	before := claims()
	p := start(w.t, "redo apply", "redo", "apply", w.directory, "--sink", w.sink(target))
	eventually(w.t, "apply writes", func() error {
		if claims() == before {
			return fmt.Errorf("nothing changed at the target")
		}
		return nil
	})
	p.Kill()
}

// A changefeed that was only paused goes on from where the log was applied to.
func TestRedoWhileTheSourceLives(t *testing.T) {
	t.Parallel() // it waits for the most part
	w := newRedoWorld(t, "sync_point_interval=1s")
	w.flows(w.target, 300)
	eventually(t, "sync points are in the log, and then in the target", func() error {
		got, err := w.target.client.Get(t.Context(), "/cdc-claims/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		require.NoError(t, err)
		inTarget := 0
		for _, pair := range got.Kvs {
			if strings.Contains(string(pair.Key), "/syncs/") {
				inTarget++
			}
		}
		if inLog := len(w.show().SyncPoints); inTarget == 0 || inLog < inTarget {
			return fmt.Errorf("%d in the log, %d in the target", inLog, inTarget)
		}
		return nil
	})
	must(t, "changefeed", "pause", "copy", "--server", w.all[0].url())
	w.awaitState("copy", "paused")
	done := w.apply(w.target)
	must(t, "changefeed", "resume", "copy", "--server", w.all[0].url())
	w.flows(w.target, 300)
	log := w.writers.finish()
	newest := slices.MaxFunc(log, func(a, b judge.Put) int { return int(a.Revision - b.Revision) }).Revision
	require.Greater(t, newest, done.Position)
	must(t, "changefeed", "wait", "copy", "--server", w.all[0].url(), "--caught-up", "--timeout", waitMax.String())
	w.requireCut(w.target, log, newest)
	must(t, "check", "--server", w.all[0].url())
	must(t, "changefeed", "remove", "copy", "--wait", "--server", w.all[0].url())
	require.Contains(t, must(t, "redo", "show", w.directory), "removed")
}
