package faults

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/history"
	"fencerow/integration/lab"
)

// A build without the fence of the etcd sink's writes corrupts the target, in the case that the other tests live on: a
// process is stopped between its last check and its write, another one takes over, the first wakes up. If the judges did not
// see that, their silence about all other runs would mean nothing. Hazards 50, 69 and 73.
func TestWithoutTheSinksFenceAStoppedProcessCorrupts(t *testing.T) {
	require.NotEmpty(t, zombie(t, unfenced), "the judges saw nothing wrong in what a stale process wrote")
}

// The same with the fence: nothing is wrong, and the write is refused by it.
func TestAStoppedProcessThatWakesIsRefusedByTheSink(t *testing.T) {
	require.Empty(t, zombie(t, binary))
}

// zombie stops the process that runs all, with a write on its way, and lets it go on when another one has brought what it
// did not. It returns what the judges object to.
func zombie(t *testing.T, program string) []string {
	t.Helper()
	t.Parallel()
	with := &shared{source: lab.StartEtcd(t, binary, "source", 1)[0], sink: lab.StartEtcd(t, binary, "sink", 1)[0]}
	c := newCluster(t, with, "z", 1, 1)
	c.binary = program
	c.startNodes()
	c.create(rate)
	victim := c.nodes[0]
	held := c.holdFlush(victim)
	require.NotNil(t, held, "a node that runs everything writes")
	stop, cont := faults[0].inject, faults[0].heal
	stop(c, victim)
	c.add("z-n2")
	heir := c.nodes[1]
	c.restart(heir)
	c.nodes = []*node{heir, victim} // who is asked first
	heir.AwaitReady()
	keys, last := c.writers.probe()
	lab.Eventually(t, "the heir brings what is new", func() error { return c.arrived(keys, last) })
	held.Release()
	cont(c, victim)
	var late *history.Call
	lab.Eventually(t, "the held write is answered", func() error {
		var err error
		late, err = c.answered(victim, held.Detail)
		return err
	})
	victim.Kill() // before it has anything to claim as another node
	log := c.finish()
	objections := c.targets(log)
	w := c.world(log, c.cat())
	if _, err := w.Judge(); err != nil {
		objections = append(objections, err.Error())
		require.Regexp(t, regexp.MustCompile(`invariant [35]:`), err.Error(), "it is the stale write that is objected to")
	}
	t.Logf("the held write had an effect: %t; objections: %s", late.Succeeded, strings.Join(objections, "; "))
	require.Equal(t, program == unfenced, late.Succeeded)
	require.Equal(t, program == binary, slices.ContainsFunc(w.Target.Attempts(), func(a history.Attempt) bool {
		return a.Call.Txn.If[0].Key == late.Txn.If[0].Key && a.Call.Invoked == late.Invoked && a.Fence == 23 && a.Late
	}), "the fence refuses what it is there for")
	return objections
}

// answered finds the write that was held in what its process wrote, when it was answered.
func (c *cluster) answered(n *node, detail string) (*history.Call, error) {
	p, err := history.ReadFile(n.Name, n.histories[len(n.histories)-1])
	if err != nil {
		return nil, err
	}
	claim, _, _ := strings.Cut(strings.TrimPrefix(detail, "if "), "\n")
	for _, call := range slices.Backward(p.Calls) {
		if len(call.Txn.If) == 1 && call.Txn.If[0].Key == claim && call.Revision > 0 {
			return call, nil // the last under that claim: it was held until nobody else wrote under it
		}
	}
	return nil, fmt.Errorf("it is not in the history of %s", n.Name)
}
