package maintainer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// spread is a cluster of polite hosts around one owner after another, which counts what is moved and why it may be.
type spread struct {
	t         *testing.T
	b         *bench
	rng       *rand.Rand
	liveness  map[string]record.Liveness
	runs      map[string]map[fence.Token]placed // by node
	number    uint64
	changedAt changefeed.Time // when nodes came or went last
	born      int
	balanced  int // moves from a node that stays
}

type placed struct {
	span  changefeed.Span
	since changefeed.Time
}

func newSpread(t *testing.T, seed uint64) *spread {
	t.Helper()
	s := &spread{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), b: newBench(4),
		liveness: map[string]record.Liveness{}, runs: map[string]map[fence.Token]placed{},
	}
	for range 3 {
		s.join()
	}
	s.takeover()
	return s
}

func (s *spread) join() {
	s.born++
	name := fmt.Sprintf("h%02d", s.born)
	s.liveness[name], s.runs[name] = record.Alive, map[fence.Token]placed{}
}

func (s *spread) names() []string { return slices.Sorted(maps.Keys(s.liveness)) }

func (s *spread) nodes() Nodes {
	out := Nodes{Revision: int64(s.b.now)}
	for _, name := range s.names() {
		out.Nodes = append(out.Nodes, record.Node{ID: changefeed.NodeID(name), Name: name, Liveness: s.liveness[name]})
	}
	return out
}

// takeover has another owner begin, which knows nothing but what is stored and what hosts answer.
func (s *spread) takeover() {
	next := newBench(s.b.own.Record.Epoch + 1)
	next.now, next.status = s.b.now, s.b.status
	wanted := [][2]string{{"b,d,f,h,j,l", ""}, {"b,d,f", "h,j,l"}, {"j,l", "b,d,f,h"}, {"", "b,d,f,h,j,l"}}[s.rng.IntN(4)]
	next.spec.Spec.Options = changefeed.Options{SplitKeys: wanted[0], MergeKeys: wanted[1], splitTraffic: "off"}
	next.core = NewCore(DefaultConfig("n1"), next.own)
	s.b = next
	s.b.nodes = s.nodes()
	s.b.step(Started{NodesChangedAt: s.changedAt})
	s.answer()
}

// answer has the hosts do what they were told.
func (s *spread) answer() {
	for len(s.b.sent) > 0 {
		sent := s.b.sent
		s.b.sent = nil
		for i := range sent {
			if runs := s.runs[string(sent[i].To)]; runs != nil {
				s.obey(string(sent[i].To), runs, sent[i].Body)
			}
		}
	}
}

func (s *spread) obey(name string, runs map[fence.Token]placed, body message.Body) {
	switch body := body.(type) {
	case message.Bootstrap:
		s.b.from(name, message.BootstrapReply{Dispatchers: s.statuses(name)})
	case message.ListStatuses:
		s.b.from(name, message.Statuses{Full: true, Statuses: s.statuses(name)})
	case message.Place:
		token := body.Token(s.b.own.Record.Epoch)
		if _, known := runs[token]; !known {
			runs[token] = placed{span: body.Span, since: s.b.now}
		}
		s.b.from(name, message.Statuses{Statuses: s.statuses(name)})
	case message.Stop:
		one, found := runs[body.Token]
		if !found {
			return
		}
		// Else it is split or merged, or is not part of the cover.
		if cell := s.b.core.stopping[body.Token]; cell != nil && s.b.core.motionOf(cell) == nil && s.liveness[name] == record.Alive {
			s.judge(name, one)
		}
		delete(runs, body.Token)
		s.b.from(name, message.Statuses{Statuses: []message.Status{
			statusOf(one.span, body.Token, message.DispatcherStopped, change.Position(s.b.now/1e6)),
		}})
	}
}

// judge is the rule, said another way.
func (s *spread) judge(name string, one placed) {
	s.balanced++
	lately := s.b.now.Sub(one.since) < 10*time.Minute
	require.False(s.t, lately && s.changedAt < one.since,
		"at %v %v is moved away from %s, where it runs since %v, and no node came or went since %v", s.b.now, one.span, name, one.since, s.changedAt)
}

func (s *spread) statuses(name string) []message.Status {
	var out []message.Status
	for _, token := range slices.SortedFunc(maps.Keys(s.runs[name]), fence.Token.Compare) {
		one := s.runs[name][token]
		status := statusOf(one.span, token, message.DispatcherRunning, change.Position(s.b.now/1e6))
		status.Age = s.b.now.Sub(one.since).Truncate(time.Second)
		out = append(out, status)
	}
	return out
}

// pass lets time pass, with a heartbeat of every host twice a second.
func (s *spread) pass(d time.Duration) {
	for ; d > 0; d -= 500 * time.Millisecond {
		s.b.pass(500 * time.Millisecond)
		s.answer()
		for _, name := range s.names() {
			s.number++
			at := change.Position(s.b.now / 1e6)
			s.b.from(name, message.Heartbeat{
				Number: s.number, Set: digestOf(s.statuses(name)...), Checkpoint: at, Resolved: at,
			})
			s.answer()
		}
	}
}

// event changes the nodes, or the owner.
func (s *spread) event() {
	name := s.names()[s.rng.IntN(len(s.liveness))]
	switch s.rng.IntN(5) {
	case 0:
		if len(s.liveness) > 5 {
			return
		}
		s.join()
	case 1:
		if len(s.liveness) < 3 {
			return
		}
		delete(s.liveness, name)
		delete(s.runs, name)
	case 2:
		s.liveness[name] = record.Draining
	case 3:
		s.liveness[name] = record.Alive
	case 4:
		s.takeover()
		return
	}
	s.changedAt = s.b.now
	s.b.nodes = s.nodes()
	s.b.step(NodesWatched{Nodes: s.b.nodes})
	s.answer()
}

// Whatever nodes and owners come and go, nothing that was placed lately is moved for balance without a change of nodes; and
// when all has been quiet for long, it is even.
func TestBalanceMovesNothingTwiceWithoutAChangeOfNodes(t *testing.T) {
	moved := 0
	for seed := range uint64(20) {
		s := newSpread(t, seed)
		for range 25 {
			s.pass(time.Duration(1+s.rng.IntN(240)) * time.Second)
			s.event()
		}
		s.pass(12 * time.Minute)
		least, most := 100, 0
		for _, name := range s.names() {
			if s.liveness[name] == record.Alive {
				least, most = min(least, len(s.runs[name])), max(most, len(s.runs[name]))
			} else if most > 0 {
				require.Empty(t, s.runs[name], "seed %d", seed)
			}
		}
		require.LessOrEqual(t, most-least, 1, "seed %d: %v", seed, s.runs)
		moved += s.balanced
	}
	require.Positive(t, moved)
}

func TestNodesAreTheSameUnlessOneComesOrGoesOrCanBeReachedOtherwise(t *testing.T) {
	node := func(id string, liveness record.Liveness, cut ...changefeed.NodeID) record.Node {
		return record.Node{ID: changefeed.NodeID(id), Liveness: liveness, Unreachable: cut}
	}
	were := Nodes{Revision: 1, Nodes: []record.Node{node("a", record.Alive), node("b", record.Alive)}}
	same := Nodes{Revision: 9, Nodes: []record.Node{node("a", record.Alive), node("b", record.Alive)}}
	require.True(t, same.SameAs(&were))
	require.True(t, (&Nodes{}).SameAs(&Nodes{}))
	for name, now := range map[string][]record.Node{
		"one is gone":      {node("a", record.Alive)},
		"one came":         {node("a", record.Alive), node("b", record.Alive), node("c", record.Alive)},
		"another one":      {node("a", record.Alive), node("c", record.Alive)},
		"one is drained":   {node("a", record.Alive), node("b", record.Draining)},
		"a link is broken": {node("a", record.Alive, "b"), node("b", record.Alive)},
	} {
		require.False(t, (&Nodes{Nodes: now}).SameAs(&were), name)
	}
}
