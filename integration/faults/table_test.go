package faults

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"time"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
)

// phase is a place of the protocol that a fault falls on: a failpoint, and what makes a process come there. A phase that
// another part of the protocol adds is one more entry.
type phase struct {
	name  string
	point string // of internal/failpoint
	match string // of the point's detail; %s is the prefix of the target
	// trigger makes the cluster come there; nil if it always does.
	trigger func(c *cluster) error
	// after is what people do when the fault has fallen, so that the changefeed goes on; nil: nothing.
	after func(c *cluster) error
}

// write is what the detail of a write to the etcd sink looks like: it compares the claim, and puts or deletes data.
const write = `(?s)if [^\n]*/default/copy/claims/.*\n(put|delete) %s`

var phases = []phase{
	{name: "before the bump", point: "txn", match: `put /cdc/[^\n]*/epochs/default/copy `, trigger: moveOwner},
	{name: "between bump and start", point: "start", match: `^default/copy$`, trigger: moveOwner},
	{name: "during bootstrap", point: "send", match: `message\.Bootstrap of default/copy `, trigger: moveOwner},
	{name: "in a flush", point: "txn", match: write},
	{name: "during a split", point: "send", match: `message\.Place of default/copy `, trigger: splitOrMerge},
	{name: "during a barrier", point: "send", match: `message\.Barrier of default/copy `},
	{name: "during close", point: "send", match: `message\.Stop of default/copy `, trigger: pauseFeed, after: resumeFeed},
}

// moveOwner moves the maintainer to a node that isn't the owner.
func moveOwner(c *cluster) error {
	f, err := c.feed("copy")
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		if n.Name != f.OwnerName {
			return c.action("move", map[string]any{"to": n.Name})
		}
	}
	return errors.New("there is no other node")
}

// splitOrMerge splits a span, or joins its parts again.
func splitOrMerge(c *cluster) error {
	key := c.sourcePrefix() + letters[1] + "025"
	c.split = !c.split
	if c.split {
		return c.action("split", map[string]any{"at": []string{key}})
	}
	return c.action("merge", map[string]any{"at": key})
}

func pauseFeed(c *cluster) error { return c.action("pause", nil) }

// resumeFeed waits until the pause is done, whoever does it, and ends it.
func resumeFeed(c *cluster) error {
	err := proc.Await(lab.WaitMax, func() error {
		c.drop()
		f, err := c.feed("copy")
		if err == nil && f.State != "paused" {
			err = fmt.Errorf("it is %q of %s", f.State, f.OwnerName)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("it is not paused: %w", err)
	}
	return proc.Await(lab.WaitMax, func() error { return c.action("resume", nil) })
}

// fault is something that happens to a process, or to its network.
type fault struct {
	name   string
	inject func(c *cluster, victim *node)
	heal   func(c *cluster, victim *node)
	// held says that the victim stands where it was hit until it is healed; else it goes on at once, into the fault.
	held bool
	// lasts is how long it lasts where nobody else can go on while it does; 0: until others have.
	lasts time.Duration
	// leader says that it falls on the leader of an etcd of three members.
	leader bool
}

var faults = []fault{
	{
		name: "stopped", held: true,
		inject: func(c *cluster, v *node) { c.signal(v, syscall.SIGSTOP) },
		heal:   func(c *cluster, v *node) { c.signal(v, syscall.SIGCONT) },
	},
	{
		name: "killed", held: true,
		inject: func(_ *cluster, v *node) { v.Kill() },
		heal:   func(c *cluster, v *node) { c.restart(v) },
	},
	{name: "cut off fully", heal: mend, inject: func(_ *cluster, v *node) {
		v.Host.CutAll(lab.Hear)
		v.Host.CutAll(lab.Say)
	}},
	{name: "cut off one way", heal: mend, inject: func(_ *cluster, v *node) { v.Host.CutAll(lab.Say) }},
	{name: "cut from etcd", heal: mend, inject: func(c *cluster, v *node) { cut(v, c.etcdIPs()...) }},
	{name: "cut from its peers", heal: mend, inject: func(c *cluster, v *node) { cut(v, c.others(v)...) }},
	{name: "cut from the sink", heal: mend, lasts: 2 * lab.SessionTTL, inject: func(c *cluster, v *node) { cut(v, c.sink.Host.IP) }},
	{name: "etcd's leader isolated", leader: true, inject: isolateLeader, heal: func(c *cluster, _ *node) {
		for _, m := range c.etcd {
			m.Host.Heal()
		}
	}},
}

func mend(_ *cluster, v *node) { v.Host.Heal() }

func cut(v *node, ips ...string) {
	v.Host.CutFrom(lab.Hear, ips...)
	v.Host.CutFrom(lab.Say, ips...)
}

func (c *cluster) etcdIPs() []string {
	var out []string
	for _, m := range c.etcd {
		out = append(out, m.Host.IP)
	}
	return out
}

func (c *cluster) others(but *node) []string {
	var out []string
	for _, n := range c.nodes {
		if n != but {
			out = append(out, n.Host.IP)
		}
	}
	return out
}

// isolateLeader cuts the member that leads from the other members, and from nobody else.
func isolateLeader(c *cluster, _ *node) {
	c.t.Helper()
	lab.Eventually(c.t, "a member leads", func() error {
		for _, m := range c.etcd {
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
			status, err := m.Client.Status(ctx, m.Endpoint)
			cancel()
			if err != nil || status.Leader != status.Header.MemberId {
				continue
			}
			for _, other := range c.etcd {
				if other != m {
					m.Host.CutFrom(lab.Hear, other.Host.IP)
					m.Host.CutFrom(lab.Say, other.Host.IP)
				}
			}
			return nil
		}
		return errors.New("none does")
	})
}

// plan is one fault in one phase.
type plan struct {
	number int
	fault  fault
	phase  phase
}

func (p plan) String() string { return p.fault.name + " " + p.phase.name }

// rotation is n of all faults in all phases, one after another from where the seed says.
func rotation(n int, seed uint64, only string) ([]plan, error) {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	var all []plan
	for i := range phases {
		for j := range faults {
			// Neighbours differ in both, so that a part of the rotation has of all.
			one := plan{fault: faults[j], phase: phases[(i+j)%len(phases)]}
			if chosen.MatchString(one.String()) {
				all = append(all, one)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing of the rotation matches %q", only)
	}
	var out []plan
	for i := range n {
		one := all[(seed*uint64(n)+uint64(i))%uint64(len(all))] //nolint:gosec // small and positive
		one.number = i + 1
		out = append(out, one)
	}
	return out, nil
}
