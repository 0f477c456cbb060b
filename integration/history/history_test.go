package history

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/sim"
	"fencerow/kv"
	"fencerow/record"
)

const epochKey = "/cdc/c/epochs/default/a"

func write(client int, from, to, expect, revision int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Call: from, Return: to, Input: input{write: true, expect: expect}, Output: revision}
}

func read(client int, from, to, revision int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Call: from, Return: to, Input: input{}, Output: revision}
}

func TestLinearizableTellsGoodFromBad(t *testing.T) {
	t.Parallel()
	good := []porcupine.Operation{write(0, 1, 4, 0, 5), read(1, 2, 3, 0), read(1, 5, 8, 5), write(0, 5, 9, 5, 7), read(2, 10, 11, 7)}
	require.NoError(t, Linearizable(good))
	for name, bad := range map[string]porcupine.Operation{
		"a read of what was replaced":         read(1, 12, 13, 5),
		"a read of what nobody wrote":         read(1, 12, 13, 6),
		"a write over what was replaced":      write(1, 12, 13, 5, 9),
		"two writes over one":                 write(1, 5, 9, 5, 8),
		"a write with a revision that falls":  write(1, 12, 13, 7, 6),
		"a read before the write that is not": read(2, 0, 1, 7),
	} {
		require.Error(t, Linearizable(append(append([]porcupine.Operation(nil), good...), bad)), name)
	}
}

// lines of a process's history, one each.
func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

func said(at int, kind string, of any) string {
	encoded, err := json.Marshal(map[string]any{"at": at, "kind": kind, "of": of})
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

func asked(at, n int, txn kv.Txn) string { return said(at, "txn", map[string]any{"n": n, "txn": txn}) }

func answered(at, n int, revision int64, ok bool) string {
	return said(at, "answer", map[string]any{"n": n, "revision": revision, "succeeded": ok})
}

func TestACutOffLastLineIsThatOfAKilledProcess(t *testing.T) {
	t.Parallel()
	text := lines(asked(1, 1, kv.Txn{Then: []kv.Op{kv.Put("a", nil)}}), said(2, "refused", "F9"))
	p, err := parse("n1", strings.NewReader(text+`{"at":3,"ki`))
	require.NoError(t, err)
	require.Len(t, p.Calls, 1)
	require.Equal(t, []Refusal{{At: 2, Rule: "F9"}}, p.Refused)
	for name, bad := range map[string]string{
		"a hole in the middle":        `{"at":3,"ki` + "\n" + text,
		"an answer to nothing":        lines(answered(1, 7, 3, true)),
		"a kind that there is not":    lines(said(1, "guess", map[string]any{})),
		"a line that says no refusal": lines(said(1, "refused", 9)),
	} {
		_, err := parse("n1", strings.NewReader(bad))
		require.Error(t, err, name)
	}
}

// A commit is that of the call that was answered with its revision, or of the one without an answer that does just this; it
// stands where its call allows.
func TestCommitsAreAttributed(t *testing.T) {
	t.Parallel()
	put := func(value string) kv.Txn {
		return kv.Txn{If: []kv.Compare{kv.ModIs(epochKey, 0)}, Then: []kv.Op{kv.Put(epochKey, []byte(value))}}
	}
	p, err := parse("n1", strings.NewReader(lines(
		asked(10, 1, put("one")), answered(14, 1, 5, true),
		asked(15, 9, kv.Txn{Then: []kv.Op{kv.Delete("not there")}}), answered(16, 9, 5, true), // no revision of its own
		asked(20, 2, put("two")), // never answered, and done
		asked(21, 3, put("three")),
		asked(30, 4, put("four")), answered(31, 4, 7, false))))
	require.NoError(t, err)
	event := func(revision int64, value string) kv.Event {
		return kv.Event{Pair: kv.Pair{Key: epochKey, Value: []byte(value), ModRevision: revision}}
	}
	s := &Store{Calls: p.Calls, Commits: Commits([]kv.Event{event(5, "one"), event(6, "operator"), event(7, "two")})}
	s.Attribute()
	require.Equal(t, p.Calls[0], s.Commits[0].By)
	require.Nil(t, s.Commits[1].By)
	require.Equal(t, p.Calls[2], s.Commits[2].By)
	require.Equal(t, []int64{10, 10, 20}, []int64{s.Commits[0].At, s.Commits[1].At, s.Commits[2].At})
	require.Equal(t, []int64{14, 31, 31}, []int64{s.Commits[0].Done, s.Commits[1].Done, s.Commits[2].Done})
}

// What a fence refused counts as late only if what replaced it had been seen to be done when it was sent.
func TestAttemptsOfTheStaleAreTold(t *testing.T) {
	t.Parallel()
	bump := func(revision int64) kv.Txn {
		return kv.Txn{If: []kv.Compare{kv.ModIs(epochKey, revision)}, Then: []kv.Op{kv.Put(epochKey, []byte("x"))}}
	}
	p, err := parse("n1", strings.NewReader(lines(
		asked(1, 1, bump(0)), answered(5, 1, 4, true),
		asked(2, 2, bump(0)), answered(6, 2, 4, false), // at the same time
		asked(9, 3, bump(0)), answered(10, 3, 4, false))))
	require.NoError(t, err)
	s := &Store{Calls: p.Calls, Commits: Commits([]kv.Event{{Pair: kv.Pair{Key: epochKey, ModRevision: 4, Value: []byte("x")}}})}
	s.Attribute()
	attempts := s.Attempts()
	require.Len(t, attempts, 2)
	require.Equal(t, []int{2, 2}, []int{attempts[0].Fence, attempts[1].Fence})
	require.Equal(t, []bool{false, true}, []bool{attempts[0].Late, attempts[1].Late})
}

// run is a small run in which nothing is wrong: n1 is elected, gives the changefeed to itself, claims, places, starts,
// writes, and stores a checkpoint.
type run struct {
	world   *World
	records []kv.Event
	target  []kv.Event
	text    []string
	n       int
	at      int
}

const claims = "/cdc-claims/x/default/a/"

func newRun(t *testing.T) *run {
	t.Helper()
	keys, err := record.NewKeys("c")
	require.NoError(t, err)
	id := changefeed.ID{Namespace: "default", Name: "a"}
	r := &run{world: &World{
		Keys: keys, Space: changefeed.Span{Start: changefeed.Key("/s/"), End: changefeed.Key("/s0")}, Claims: "/cdc-claims/x/", Prefix: "/s/",
		Targets: map[changefeed.ID]string{id: "/t/"}, Values: map[string]change.Position{"v": 20},
		Source: []sim.SourceFact{{Position: 20, Key: "/s/k"}},
	}}
	r.txn(&r.records, 2, "/cdc/c/nodes/u1", `{"id":"u1","name":"n1","http":"","peer":"","version":"","level":1,"started":"2026-01-02T03:04:05Z","liveness":"alive","unreachable":[]}`)
	r.txn(&r.records, 3, "/cdc/c/coordinator/1", `{"node":"u1"}`)
	r.txn(&r.records, 4, "/cdc/c/specs/default/a", `{"uid":"w","namespace":"default","name":"a","source":"etcd://h/s/","sink":"etcd://h/t/","start":"now","start_position":"10","options":{},"desired":"running","created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z"}`)
	r.txn(&r.records, 5, epochKey, `{"uid":"w","epoch":5,"owner":"u1","owner_name":"n1","term":3,"spec_revision":"4","reason":"created","nonce":"1","at":"2026-01-02T03:04:05Z"}`)
	r.say("known", map[string]any{"node": "u1", "namespace": "default", "name": "a", "uid": "w", "epoch": 5})
	r.txn(&r.target, 2, claims+"head", `{"head":{"cluster":"x","namespace":"default","name":"a","uid":"w","floor":5}}`)
	return r
}

func (r *run) say(kind string, of any) {
	r.at += 10
	r.text = append(r.text, said(r.at, kind, of))
}

// txn is a put that a process asks for, and that is done and answered.
func (r *run) txn(to *[]kv.Event, revision int64, pairs ...string) {
	r.n++
	r.at += 10
	var txn kv.Txn
	for i := 0; i < len(pairs); i += 2 {
		txn.Then = append(txn.Then, kv.Put(pairs[i], []byte(pairs[i+1])))
		*to = append(*to, kv.Event{Pair: kv.Pair{
			Key: pairs[i], Value: []byte(pairs[i+1]), CreateRevision: revision, ModRevision: revision, Version: 1,
		}})
	}
	r.text = append(r.text, asked(r.at, r.n, txn), answered(r.at+1, r.n, revision, true))
}

func (r *run) place(seq int) {
	r.say("place", map[string]any{"node": "u1", "to": "u1", "namespace": "default", "name": "a", "uid": "w", "epoch": 5, "seq": seq, "start": "/s/", "end": "/s0"})
}

func (r *run) start(seq int) {
	r.say("start", map[string]any{"node": "u1", "namespace": "default", "name": "a", "uid": "w", "epoch": 5, "seq": seq, "start": "/s/", "end": "/s0"})
}

func (r *run) claim(revision int64, n, seq int, position string) {
	r.txn(&r.target, revision, fmt.Sprintf("%sclaims/%d", claims, n), fmt.Sprintf(`{"epoch":5,"seq":%d,"start":"/s/","end":"/s0"}`, seq),
		fmt.Sprintf("%smarks/%d", claims, n), r.marks(position))
}

func (r *run) write(revision int64, n int) {
	r.txn(&r.target, revision, "/t/k", "v", fmt.Sprintf("%smarks/%d", claims, n), r.marks("20"))
}

func (r *run) marks(position string) string {
	return `[{"start":"/s/","end":"/s0","position":"` + position + `"}]`
}

func (r *run) status(revision int64, checkpoint string) {
	r.txn(&r.records, revision, "/cdc/c/status/default/a",
		`{"uid":"w","epoch":5,"state":"running","checkpoint":"`+checkpoint+`","resolved":"20","source_id":"s","spans":1,"at":"2026-01-02T03:04:05Z"}`)
}

func (r *run) judge(t *testing.T) error {
	t.Helper()
	p, err := parse("n1", strings.NewReader(lines(r.text...)))
	require.NoError(t, err)
	w := r.world
	w.Processes = []*Process{p}
	w.Records, w.Target = &Store{Commits: Commits(r.records)}, &Store{Commits: Commits(r.target)}
	for _, call := range p.Calls {
		if strings.HasPrefix(call.Txn.Then[0].Key, "/cdc/") {
			w.Records.Calls = append(w.Records.Calls, call)
		} else {
			w.Target.Calls = append(w.Target.Calls, call)
		}
	}
	w.Records.Attribute()
	w.Target.Attribute()
	_, err = w.Judge()
	return err
}

// The simulation's checker judges what processes wrote: a good run passes, and each bad one is objected to. Hazard 73.
func TestRunsOfProcessesAreJudgedByTheSimulationsChecker(t *testing.T) {
	t.Parallel()
	r := newRun(t)
	r.place(1)
	r.start(1)
	r.claim(3, 1, 1, "10")
	r.write(4, 1)
	r.status(6, "20")
	require.NoError(t, r.judge(t))
	for name, test := range map[string]struct {
		invariant int
		goes      func(r *run)
	}{
		"a dispatcher that nobody placed": {3, func(r *run) { r.start(1) }},
		"a write after a newer claim": {3, func(r *run) {
			r.claim(3, 1, 1, "10")
			r.claim(4, 2, 2, "10")
			r.write(5, 1)
		}},
		"a change twice": {5, func(r *run) {
			r.claim(3, 1, 1, "10")
			r.write(4, 1)
			r.write(5, 1)
		}},
		"a checkpoint before its changes": {4, func(r *run) {
			r.claim(3, 1, 1, "10")
			r.status(6, "20")
			r.write(4, 1)
		}},
		"a status after a newer epoch": {2, func(r *run) {
			r.txn(&r.records, 6, epochKey, `{"uid":"w","epoch":6,"owner":"u2","owner_name":"n2","term":3,"spec_revision":"4","reason":"moved","nonce":"2","at":"2026-01-02T03:04:05Z"}`)
			r.status(7, "10")
		}},
		"one range run twice": {6, func(r *run) {
			r.place(1)
			r.start(1)
			r.place(2)
			r.start(2)
		}},
	} {
		r := newRun(t)
		test.goes(r)
		var violation *sim.Violation
		require.ErrorAs(t, r.judge(t), &violation, name)
		require.Equal(t, test.invariant, violation.Invariant, "%s: %v", name, violation)
	}
}

func TestARecorderRemembersWhatWasAsked(t *testing.T) {
	t.Parallel()
	r := NewRecorder(failing{}, "n1", time.Now())
	_, err := r.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Put(epochKey, nil)}})
	require.Error(t, err)
	require.Len(t, r.Process().Calls, 1)
	require.Zero(t, r.Process().Calls[0].Revision, "it may have been done")
}

type failing struct{ kv.Store }

func (failing) Txn(context.Context, kv.Txn) (kv.Result, error) { return kv.Result{}, fence.ErrUnknown }
