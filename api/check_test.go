package api

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// cluster is the records of a cluster in which nothing is wrong.
type stored struct {
	meta    *record.Meta
	node    *record.Node
	name    *record.Name
	leader  *record.Candidate
	spec    *record.Spec
	epoch   *record.Epoch
	status  *record.Status
	more    []RawRecord
	holding Holding
	sinkErr error
	answer  nodeAnswer
}

func sound() *stored {
	at := time.Unix(1_700_000_000, 0).UTC()
	return &stored{
		meta: &record.Meta{Format: 1, Level: 1, ClusterID: "c", Created: at},
		node: &record.Node{ID: "node-1", Name: "n1", HTTP: "127.0.0.1:1", Liveness: record.Alive, Level: 1},
		name: &record.Name{Node: "node-1"}, leader: &record.Candidate{Node: "node-1"},
		spec: &record.Spec{
			UID: "u1", Namespace: "default", Name: "orders", Source: source, Sink: sink, Start: "now", Desired: changefeed.DesiredRunning,
		},
		epoch: &record.Epoch{
			UID: "u1", Epoch: 100, Owner: "node-1", OwnerName: "n1", Term: 5, SpecRevision: 7, Reason: changefeed.ReasonCreated, Nonce: "x", At: at,
		},
		status: &record.Status{UID: "u1", Epoch: 100, State: changefeed.StateRunning, Checkpoint: 50, Resolved: 50, Spans: 1},
		holding: Holding{
			Kept: true, Exists: true, Owner: Owner{ID: orders, UID: "u1"}, Floor: 100, Highest: 100, Mark: 50, Marked: true,
			Others: []Neighbour{{Owner: Owner{ID: orders, UID: "u1"}, Floor: 100}},
		},
	}
}

func (s *stored) raw(t *testing.T) []RawRecord {
	t.Helper()
	keys, err := record.NewKeys("default")
	require.NoError(t, err)
	var out []RawRecord
	put := func(key string, r record.Record) {
		ref, err := keys.Parse(key)
		require.NoError(t, err)
		value, err := record.Encode(ref, r)
		require.NoError(t, err)
		out = append(out, RawRecord{Key: key, Value: value})
	}
	if s.meta != nil {
		put(keys.Meta(), s.meta)
	}
	if s.node != nil {
		put(keys.Node(s.node.ID), s.node)
	}
	if s.name != nil {
		put(keys.Name("n1"), s.name)
	}
	if s.leader != nil {
		put(keys.Candidate(7), s.leader)
	}
	if s.spec != nil {
		put(keys.Spec(orders), s.spec)
	}
	if s.epoch != nil {
		put(keys.Epoch(orders), s.epoch)
	}
	if s.status != nil {
		put(keys.Status(orders), s.status)
	}
	return append(out, s.more...)
}

// judged is what the rules find in it.
func (s *stored) judged(t *testing.T) []shape.Finding {
	t.Helper()
	keys, err := record.NewKeys("default")
	require.NoError(t, err)
	read := newFacts(keys, s.raw(t))
	for range read.nodes {
		read.answers = append(read.answers, s.answer)
	}
	read.holdings = map[changefeed.ID]sinkAnswer{}
	if s.spec != nil {
		read.holdings[orders] = sinkAnswer{holding: s.holding, err: s.sinkErr}
	}
	return findings(read, read)
}

func TestASoundClusterHasNoFindings(t *testing.T) {
	require.Empty(t, sound().judged(t))
}

func TestFindings(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil   func(*stored)
		code    string
		subject string
		cure    string
	}{
		"a record that does not parse": {func(s *stored) {
			s.more = append(s.more, RawRecord{Key: "/cdc/default/specs/default/x", Value: []byte("{")})
		}, "record.invalid", "/cdc/default/specs/default/x", "etcdctl"},
		"no meta":                   {func(s *stored) { s.meta = nil }, "record.orphan", "meta", "restore"},
		"an epoch without its spec": {func(s *stored) { s.spec, s.status = nil, nil }, "record.orphan", "epochs/default/orders", "delete"},
		"evictions of nobody": {func(s *stored) {
			s.more = append(s.more, RawRecord{Key: "/cdc/default/evictions/u9/node-1", Value: []byte(`{"epoch":3,"seq":1}`)})
		}, "record.orphan", "evictions/u9", "delete"},
		"no coordinator":              {func(s *stored) { s.leader = nil }, "coordinator.none", "coordinator", "log"},
		"a name of nobody":            {func(s *stored) { s.name.Node = "node-9" }, "record.orphan", "names/n1", "lease"},
		"an owner without a node":     {func(s *stored) { s.epoch.Owner, s.epoch.OwnerName = "node-9", "n9" }, "owner.gone", "default/orders", "coordinator"},
		"a status ahead of its epoch": {func(s *stored) { s.status.Epoch = 101 }, "status.ahead", "default/orders", "--above 101"},
		"a node that is silent":       {func(s *stored) { s.answer.err = errors.New("refused") }, "node.silent", "n1", "advertises"},
		"a clock that is off":         {func(s *stored) { s.answer.off = -5 * time.Second }, "node.clock", "n1", "time service"},
		"a sink that is not read":     {func(s *stored) { s.sinkErr = errors.New("etcd://u:secret@h refused") }, "sink.unreachable", "default/orders", "secrets"},
		"a sink that lost everything": {func(s *stored) { s.holding = Holding{Kept: true} }, "sink.lost", "default/orders", "reset"},
		"a sink of somebody else":     {func(s *stored) { s.holding.Owner = Owner{ID: changefeed.ID{Namespace: "a", Name: "b"}, UID: "u9"} }, "sink.in_use", "default/orders", "another"},
		"a sink of a later creation":  {func(s *stored) { s.holding.UID, s.holding.Floor = "u9", 200 }, "sink.in_use", "default/orders", "another"},
		"removed from the sink":       {func(s *stored) { s.holding.Removed = true }, "sink.lost", "default/orders", "create"},
		"epochs behind the sink":      {func(s *stored) { s.holding.Highest = 900 }, "epoch.behind_sink", "default/orders", "cdc-node epoch bump default/orders --above 900"},
		"another sink saw more": {func(s *stored) {
			s.holding.Highest = 900
			s.holding.Others[0].Floor = 950
		}, "epoch.behind_sink", "default/orders", "--above 950"},
		"a checkpoint behind the sink": {func(s *stored) { s.holding.Mark = 60 }, "checkpoint.behind_sink", "default/orders", "nothing is lost"},
		"a sink behind the checkpoint": {func(s *stored) { s.holding.Mark = 40 }, "sink.behind_checkpoint", "default/orders", "reset"},
		"claims of nobody": {func(s *stored) {
			s.holding.Others = append(s.holding.Others, Neighbour{Owner: Owner{ID: changefeed.ID{Namespace: "a", Name: "b"}, UID: "u9"}, Floor: 90})
		}, "sink.orphan_claim", "a/b, uid u9", "remove"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sound()
			tc.spoil(s)
			found := s.judged(t)
			require.NotEmpty(t, found)
			require.Len(t, found, 1, "and nothing else: %+v", found)
			require.Equal(t, tc.code, found[0].Code)
			require.Equal(t, tc.subject, found[0].Subject)
			require.Contains(t, found[0].Cure, tc.cure)
			require.NotContains(t, found[0].Detail, "secret@")
		})
	}
}

// What is on its way is no finding.
func TestWhatIsOnItsWayIsNoFinding(t *testing.T) {
	for name, spoil := range map[string]func(*stored){
		"a sink that no owner has raised yet": func(s *stored) { s.holding, s.status = Holding{Kept: true}, nil },
		"a sink without a memory":             func(s *stored) { s.holding = Holding{} },
		"the creation before":                 func(s *stored) { s.holding.UID, s.holding.Floor, s.holding.Highest = "u0", 90, 90 },
		"a pause": func(s *stored) {
			s.spec.Desired, s.holding.Floor, s.holding.Highest = changefeed.DesiredPaused, 101, 101
		},
		"marks that are not known": func(s *stored) { s.holding.Mark, s.holding.Marked = 60, false },
		"a snapshot":               func(s *stored) { s.status.State, s.holding.Mark = changefeed.StateStarting, 60 },
		"a removal":                func(s *stored) { s.spec.Desired = changefeed.DesiredRemoved },
	} {
		t.Run(name, func(t *testing.T) {
			s := sound()
			spoil(s)
			require.Empty(t, s.judged(t))
		})
	}
}

// A check looks twice, so that it does not name what heals by itself.
func TestACheckLooksTwice(t *testing.T) {
	f := newFake()
	s := sound()
	f.raw, f.holdings = s.raw(t), map[changefeed.ID]Holding{orders: s.holding}
	c, _ := serve(t, f, func(config *Config) { config.Settle = 10 * time.Millisecond })
	require.Empty(t, must(c.Check(t.Context())).Value.Items)

	ahead := s.holding
	ahead.Highest, ahead.Mark = fence.Epoch(900), change.Position(50)
	f.holdings[orders] = ahead
	found := must(c.Check(t.Context())).Value.Items
	require.Len(t, found, 1)
	require.Equal(t, "epoch.behind_sink", found[0].Code)

	first := []shape.Finding{{Code: "owner.gone", Subject: "a"}, {Code: "node.silent", Subject: "n1"}}
	second := []shape.Finding{{Code: "owner.gone", Subject: "a", Detail: "now"}, {Code: "node.silent", Subject: "n2"}}
	require.Equal(t, []shape.Finding{{Code: "owner.gone", Subject: "a", Detail: "now"}}, both(first, second))
}
