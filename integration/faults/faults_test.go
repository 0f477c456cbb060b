package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/lab"
)

// rate is how many changes a second are made in each cluster: enough that a batch is always on its way.
const rate = 100

// ineffectiveMax is how many of a hundred faults may have met nothing to do: a victim may run no span, or stand at a barrier.
const ineffectiveMax = 10

// Faults on real processes, in clusters side by side: nothing lost, nothing twice, no effect of a stale owner, and how many
// of the faults had something to do.
func TestFaults(t *testing.T) {
	plans, err := rotation(*faultsWanted, *seedWanted, *onlyWanted)
	require.NoError(t, err)
	t.Logf("seed %d, %d faults of %d × %d", *seedWanted, len(plans), len(faults), len(phases))
	r := &report{refused: map[string]int{}}
	t.Cleanup(func() { // after what the processes said
		if t.Failed() {
			t.Logf("clusters that did not come to their end: %v\n%s", r.unjudged(*clustersWanted), r)
		}
	})
	with := &shared{source: lab.StartEtcd(t, binary, "source", 1)[0], sink: lab.StartEtcd(t, binary, "sink", 1)[0]}
	queue := &queue{plans: plans}
	t.Run("clusters", func(t *testing.T) {
		for i := range max(1, *clustersWanted) {
			t.Run(fmt.Sprintf("c%d", i+1), func(t *testing.T) {
				t.Parallel()
				members := 1
				if i == 0 {
					members = 3 // where etcd has a leader to lose
				}
				c := newCluster(t, with, fmt.Sprintf("c%d", i+1), members, nodesOfCluster)
				c.startNodes()
				c.create(rate)
				for p, more := queue.next(c); more; p, more = queue.next(c) {
					out := c.inject(p)
					r.add(&out)
					t.Logf("%d %v: %s, in flight %d, recovered in %v %s", p.number, p, out.victim, out.inFlight, out.recovery, out.problem)
					if out.problem != "" {
						r.object("%s: %v: %s", c.name, p, out.problem)
						c.tell()
					}
				}
				c.judge(r)
			})
		}
	})
	t.Logf("\n%s", r)
	require.Empty(t, r.problems)
	require.Len(t, r.outcomes, len(plans))
	require.LessOrEqual(t, (len(plans)-r.effective())*100, ineffectiveMax*len(plans), "too many faults had no effect")
	if *onlyWanted == "" {
		require.Positive(t, r.refused["F23"], "no fence of the sink refused anything")
	}
}

// queue hands the plans out. Those of an etcd's leader are for the cluster that has one to lose, which takes them first. The
// others go where the same fault was not injected just before: an owner, once moved to a node that reaches more, is not moved
// for that reason again within ten sessions.
type queue struct {
	mu     sync.Mutex
	plans  []plan
	recent map[*cluster][]string // faults
}

// recentMax is how many faults of a cluster are just before.
const recentMax = 4

func (q *queue) next(c *cluster) (plan, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := -1
	for i, p := range q.plans {
		switch {
		case p.fault.leader && len(c.etcd) > 1:
			return q.take(c, i), true
		case p.fault.leader:
		case at < 0, slices.Contains(q.recent[c], q.plans[at].fault.name) && !slices.Contains(q.recent[c], p.fault.name):
			at = i
		}
	}
	if at < 0 {
		return plan{}, false
	}
	return q.take(c, at), true
}

func (q *queue) take(c *cluster, at int) plan {
	p := q.plans[at]
	q.plans = slices.Delete(q.plans, at, at+1)
	if q.recent == nil {
		q.recent = map[*cluster][]string{}
	}
	before := append(q.recent[c], p.fault.name)
	q.recent[c] = before[max(0, len(before)-recentMax):]
	return p
}

// judge ends the cluster's run and judges all of it.
func (c *cluster) judge(r *report) {
	c.t.Helper()
	log := c.finish()
	for _, objection := range c.targets(log) {
		r.object("%s: %s", c.name, objection)
	}
	if *keepWanted != "" {
		c.keep()
	}
	w := c.world(log, c.cat())
	facts, err := w.Judge()
	if err != nil {
		r.object("%s: %v", c.name, err)
	}
	requests := 0
	for _, name := range []string{"copy", "files"} {
		n, err := register(w, name)
		if err != nil {
			r.object("%s: %v", c.name, err)
		}
		requests += n
	}
	r.count(c.name, w)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts += facts
	r.requests += requests
}

// tell logs what the nodes last said.
func (c *cluster) tell() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.t.Logf("--- %s ---\n%s", n.Name, n.Output.Last(30))
	}
}

// keep leaves the histories where people can read them.
func (c *cluster) keep() {
	c.t.Helper()
	require.NoError(c.t, os.MkdirAll(*keepWanted, 0o750))
	for _, n := range c.nodes {
		for _, path := range n.histories {
			text, err := os.ReadFile(path)
			require.NoError(c.t, err)
			require.NoError(c.t, os.WriteFile(filepath.Join(*keepWanted, filepath.Base(path)), text, 0o600))
		}
	}
}
