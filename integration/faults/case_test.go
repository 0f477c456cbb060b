package faults

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
)

// outcome is what became of one fault.
type outcome struct {
	plan     plan
	cluster  string
	victim   string // the process, as histories name it
	fell     int64  // when, by the clock of histories
	ended    int64
	inFlight int // changes that a batch held on its way to the sink when the fault fell
	recovery time.Duration
	problem  string // why it did not come about, or was not got over

	late map[int]int // attempts under what a successor had replaced, by the fence that refused them
}

// effective says whether the fault is seen to have had something to do.
func (o *outcome) effective() bool { return o.inFlight > 0 || len(o.late) > 0 }

const (
	// triggerLimit bounds the way to a phase, of a cluster in which nothing is broken.
	triggerLimit = 20 * time.Second
	// flushLimit bounds how long is waited until the victim has a batch on its way. It may run no span.
	flushLimit = 1500 * time.Millisecond
	// spreadLimit bounds how long is waited until every node runs a span, which balancing may not give it.
	spreadLimit = 4 * time.Second
)

// inject runs one fault from a healthy cluster to a healthy cluster.
func (c *cluster) inject(p plan) (out outcome) {
	out = outcome{plan: p, cluster: c.name, late: map[int]int{}}
	defer func() { out.ended = clock() }()
	c.settled()
	reached, err := c.reach(p)
	if err != nil {
		out.problem = err.Error()
		return out
	}
	victim := c.nodeOf(reached.Orders)
	out.victim = fmt.Sprintf("%s/%d", victim.Name, len(victim.histories))
	held := reached
	if p.phase.match != write {
		held = c.holdFlush(victim)
	}
	if held != nil {
		out.inFlight = c.changes(held.Detail)
	}
	began := time.Now()
	out.fell = clock()
	p.fault.inject(c, victim)
	if !p.fault.held && reached != held {
		reached.Release()
	}
	if err := c.recover(p, held, victim); err != nil {
		out.problem = err.Error()
	}
	out.recovery = time.Since(began) - p.fault.lasts
	reached.Release()
	if held != nil {
		held.Release() // into what its successor has claimed
	}
	if p.fault.lasts == 0 {
		p.fault.heal(c, victim)
	}
	c.drop()
	for _, n := range c.nodes {
		n.AwaitReady()
	}
	return out
}

// recover waits until changes that are made now have arrived, and a checkpoint at or above them is stored.
func (c *cluster) recover(p plan, held *proc.Hit, victim *node) error {
	if held != nil && (p.fault.leader || p.fault.lasts > 0) {
		held.Release() // nobody takes it over
	}
	if p.fault.lasts > 0 {
		pause(p.fault.lasts)
		p.fault.heal(c, victim)
	}
	c.drop()
	keys, last := c.writers.probe()
	if p.phase.after != nil {
		if err := p.phase.after(c); err != nil {
			return err
		}
	}
	if err := proc.Await(lab.WaitMax, func() error {
		c.drop() // who came to the phase's place late
		return c.arrived(keys, last)
	}); err != nil {
		return fmt.Errorf("not got over within %v: %w", lab.WaitMax, err)
	}
	return nil
}

func (c *cluster) arrived(keys []string, last int64) error {
	for _, key := range keys {
		ctx, cancel := context.WithTimeout(c.t.Context(), callLimit)
		got, err := c.sink.Client.Get(ctx, c.targetPrefix()+key, clientv3.WithCountOnly())
		cancel()
		if err == nil && got.Count == 0 {
			err = fmt.Errorf("%s%s is not there", c.targetPrefix(), key)
		}
		if err != nil {
			return err
		}
	}
	f, err := c.feed("copy")
	if err == nil && f.Checkpoint < last {
		err = fmt.Errorf("the checkpoint is %d, not yet %d, under %s, %s", f.Checkpoint, last, f.OwnerName, f.State)
	}
	return err
}

// settled waits until everything runs, and for a while until every node runs something.
func (c *cluster) settled() {
	c.t.Helper()
	c.drop()
	c.awaitState("copy", "running")
	c.awaitState("files", "running")
	_ = proc.Await(spreadLimit, func() error {
		spans, err := c.spans()
		if err == nil && len(spans) < len(c.nodes) {
			err = fmt.Errorf("only %d nodes run spans", len(spans))
		}
		return err
	})
}

// drop has processes go on that came to a failpoint although another was there first: their word of it may have been late,
// and a process that is held can't end a session that it lost.
func (c *cluster) drop() {
	for _, n := range c.nodes {
		n.Orders.Drop()
	}
}

// reach makes the cluster come to a phase, and returns where a process waits there.
func (c *cluster) reach(p plan) (*proc.Hit, error) {
	name := fmt.Sprintf("phase-%d", p.number)
	match := p.phase.match
	if match == write {
		match = fmt.Sprintf(write, regexp.QuoteMeta(c.targetPrefix()))
	}
	var all []*proc.Orders
	for _, n := range c.nodes {
		if err := n.Orders.Arm(name, p.phase.point, match); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = append(all, n.Orders)
	}
	if p.phase.trigger != nil {
		if err := p.phase.trigger(c); err != nil {
			return nil, fmt.Errorf("trigger: %w", err)
		}
	}
	reached, err := proc.FirstHit(triggerLimit, all)
	for _, orders := range all {
		if err != nil || orders != reached.Orders {
			orders.Disarm(name)
		}
	}
	c.drop()
	return reached, err
}

// holdFlush stops the next write of a node to the etcd sink after all checks; nil if it has none.
func (c *cluster) holdFlush(n *node) *proc.Hit {
	name := fmt.Sprintf("flush-%d", clock())
	if n.Orders.Arm(name, "txn", fmt.Sprintf(write, regexp.QuoteMeta(c.targetPrefix()))) != nil {
		return nil
	}
	held, err := proc.FirstHit(flushLimit, []*proc.Orders{n.Orders})
	if err != nil {
		n.Orders.Disarm(name)
		return nil
	}
	return held
}

// changes counts those of a write, by its detail.
func (c *cluster) changes(detail string) int {
	return strings.Count(detail, "\nput "+c.targetPrefix()) + strings.Count(detail, "\ndelete "+c.targetPrefix())
}

func (c *cluster) nodeOf(orders *proc.Orders) *node {
	for _, n := range c.nodes {
		if n.Orders == orders {
			return n
		}
	}
	return nil
}
