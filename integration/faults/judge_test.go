package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/integration/history"
	"fencerow/integration/judge"
	"fencerow/integration/lab"
	"fencerow/internal/sim"
	"fencerow/kv"
	"fencerow/record"
)

// finish stops the writers and waits until both changefeeds have all.
func (c *cluster) finish() []judge.Put {
	c.t.Helper()
	log := c.writers.finish()
	for _, name := range []string{"copy", "files"} {
		cli(c.t, "changefeed", "wait", name, "--server", "http://"+c.nodes[0].Host.IP+":8300", "--caught-up", "--timeout", lab.WaitMax.String())
	}
	return log
}

// targets says what is wrong with what arrived.
func (c *cluster) targets(log []judge.Put) []string {
	c.t.Helper()
	objections := judge.Copy(stored(c.t, c.source.Client, c.sourcePrefix()), stored(c.t, c.sink.Client, c.targetPrefix()))
	return append(objections, judge.Log(log, c.cat())...)
}

func stored(t *testing.T, client *clientv3.Client, prefix string) map[string]judge.Stored {
	t.Helper()
	out := make(map[string]judge.Stored)
	got, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
	require.NoError(t, err)
	for _, pair := range got.Kvs {
		out[strings.TrimPrefix(string(pair.Key), prefix)] = judge.Stored{Value: string(pair.Value), Version: pair.Version}
	}
	return out
}

// cat reads the file sink as `sink cat` shows it, with a decoder of the tests' own.
func (c *cluster) cat() []judge.Seen {
	c.t.Helper()
	var seen []judge.Seen
	lines := bufio.NewScanner(bytes.NewReader(cli(c.t, "sink", "cat", "file://"+c.directory)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Op       string `json:"op"`
			Position string `json:"position"`
			Key      struct {
				Key string `json:"key"`
			} `json:"key"`
			After struct {
				Value string `json:"value"`
			} `json:"after"`
		}
		require.NoError(c.t, json.Unmarshal(lines.Bytes(), &line), lines.Text())
		if line.Op == "" {
			continue // a resolved line
		}
		revision, err := strconv.ParseInt(line.Position, 10, 64)
		require.NoError(c.t, err, lines.Text())
		seen = append(seen, judge.Seen{
			Key: strings.TrimPrefix(line.Key.Key, c.sourcePrefix()), Revision: revision, Delete: line.Op == "delete", Value: line.After.Value,
		})
	}
	require.NoError(c.t, lines.Err())
	return seen
}

// commits are all that ever happened to some prefixes of an etcd.
func commits(t *testing.T, client *clientv3.Client, prefixes ...string) []*history.Commit {
	t.Helper()
	var events []kv.Event
	for _, prefix := range prefixes {
		events = append(events, watched(t, client, prefix)...)
	}
	return history.Commits(events)
}

// watched reads what a watch from the beginning sees up to now.
func watched(t *testing.T, client *clientv3.Client, prefix string) []kv.Event {
	t.Helper()
	end := prefix + "\xff" // the last key of the prefix, put to know when all was seen
	mark, err := client.Put(t.Context(), end, "")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), lab.WaitMax)
	defer cancel()
	var out []kv.Event
	for response := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		require.NoError(t, response.Err())
		for _, event := range response.Events {
			if event.Kv.ModRevision >= mark.Header.Revision {
				return out
			}
			if string(event.Kv.Key) != end {
				out = append(out, decoded(event))
			}
		}
	}
	t.Fatalf("the watch of %s ended before revision %d", prefix, mark.Header.Revision)
	return nil
}

func decoded(event *clientv3.Event) kv.Event {
	if event.Type == mvccpb.DELETE {
		return kv.Event{Deleted: true, Pair: kv.Pair{Key: string(event.Kv.Key), ModRevision: event.Kv.ModRevision}}
	}
	return kv.Event{Pair: kv.Pair{
		Key: string(event.Kv.Key), Value: event.Kv.Value, CreateRevision: event.Kv.CreateRevision, ModRevision: event.Kv.ModRevision,
		Version: event.Kv.Version, Lease: kv.LeaseID(event.Kv.Lease),
	}}
}

// world ends all nodes, so that nothing happens between one look and the next, and gathers all that is known of the cluster's
// run. Seen is what readers of the files were given.
func (c *cluster) world(log []judge.Put, seen []judge.Seen) *history.World {
	c.t.Helper()
	for _, n := range c.nodes {
		n.Kill()
	}
	keys, err := record.NewKeys(c.name)
	require.NoError(c.t, err)
	meta, err := c.records.Get(c.t.Context(), keys.Meta())
	require.NoError(c.t, err)
	claims := fmt.Sprintf("%s%x/", claimsRoot, meta.Header.ClusterId)
	copied, files := changefeed.ID{Namespace: "default", Name: "copy"}, changefeed.ID{Namespace: "default", Name: "files"}
	w := &history.World{
		Keys: keys, Claims: claims, Prefix: c.sourcePrefix(), Processes: c.processes(), Values: map[string]change.Position{},
		Space:   changefeed.Span{Start: changefeed.Key(c.sourcePrefix()), End: changefeed.Key(kv.PrefixEnd(c.sourcePrefix()))},
		Targets: map[changefeed.ID]string{copied: c.targetPrefix()}, Landed: map[changefeed.ID][]sim.Written{},
		Records: &history.Store{Commits: commits(c.t, c.records, keys.Prefix())},
		Target:  &history.Store{Commits: commits(c.t, c.sink.Client, claims, c.targetPrefix())},
	}
	for _, put := range log {
		if !put.Delete {
			w.Values[put.Value] = change.Position(put.Revision) //nolint:gosec // a revision
		}
	}
	for _, event := range watched(c.t, c.source.Client, c.sourcePrefix()) {
		w.Source = append(w.Source, sim.SourceFact{
			Position: change.Position(event.Pair.ModRevision), Key: event.Pair.Key, Deleted: event.Deleted, //nolint:gosec // a revision
		})
	}
	for _, one := range seen {
		w.Landed[files] = append(w.Landed[files], sim.Written{
			Key: c.sourcePrefix() + one.Key, Deleted: one.Delete, Position: change.Position(one.Revision), //nolint:gosec // a revision
		})
	}
	for _, p := range w.Processes {
		for _, call := range p.Calls {
			if concerns(call.Txn, claimsRoot) {
				w.Target.Calls = append(w.Target.Calls, call)
			} else {
				w.Records.Calls = append(w.Records.Calls, call)
			}
		}
	}
	w.Records.Attribute()
	w.Target.Attribute()
	return w
}

// claimsRoot is where etcd sinks keep what they know, of all clusters.
const claimsRoot = "/cdc-claims/"

func concerns(txn kv.Txn, prefix string) bool {
	return slices.ContainsFunc(txn.If, func(c kv.Compare) bool { return strings.HasPrefix(c.Key, prefix) }) ||
		slices.ContainsFunc(slices.Concat(txn.Then, txn.Else), func(op kv.Op) bool { return strings.HasPrefix(op.Key, prefix) })
}

// register judges the epoch record of a changefeed as a linearizable register, and returns how many requests it saw.
func register(w *history.World, name string) (int, error) {
	key := w.Keys.Epoch(changefeed.ID{Namespace: "default", Name: name})
	operations := history.Register(w.Records, key)
	if err := history.Linearizable(operations); err != nil {
		return len(operations), fmt.Errorf("the epoch record of %s: %w", name, err)
	}
	return len(operations), nil
}
