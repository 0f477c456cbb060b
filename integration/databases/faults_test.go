//go:build databases

package databases

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
)

// fault is something that happens to a node.
type fault struct {
	name   string
	inject func(w *world, victim *lab.Node)
	heal   func(w *world, victim *lab.Node)
}

func mend(_ *world, v *lab.Node) { v.Host.Heal() }

// faults are such as have a node replaced: it is gone for others longer than its session lives, or can't do its work.
var faults = []fault{
	{name: "stopped", inject: func(w *world, v *lab.Node) { w.signal(v, syscall.SIGSTOP) }, heal: func(w *world, v *lab.Node) { w.signal(v, syscall.SIGCONT) }},
	{name: "killed", inject: func(_ *world, v *lab.Node) { v.Kill() }, heal: func(w *world, v *lab.Node) { v.Run(w.binary) }},
	{name: "cut from etcd", heal: mend, inject: func(w *world, v *lab.Node) { v.Cut(w.etcd.Host.IP) }},
	{name: "cut off fully", heal: mend, inject: func(_ *world, v *lab.Node) {
		v.Host.CutAll(lab.Hear)
		v.Host.CutAll(lab.Say)
	}},
	{name: "cut off one way", heal: mend, inject: func(_ *world, v *lab.Node) { v.Host.CutAll(lab.Say) }},
	{name: "cut from its peers", heal: mend, inject: func(w *world, v *lab.Node) { v.Cut(w.others(v)...) }},
}

func (w *world) signal(v *lab.Node, s syscall.Signal) {
	if err := v.Signal(s); err != nil {
		w.t.Log(err)
	}
}

func (w *world) but(victim *lab.Node) []*lab.Node {
	var out []*lab.Node
	for _, n := range w.nodes {
		if n != victim {
			out = append(out, n)
		}
	}
	return out
}

func (w *world) others(victim *lab.Node) []string {
	var out []string
	for _, n := range w.but(victim) {
		out = append(out, n.Host.IP)
	}
	return out
}

// plan is a fault that falls on who does something of a changefeed.
type plan struct {
	fault fault
	feed  int
	owner bool // its owner; else somebody else who runs a span of it
}

// rotation comes to every fault, role and changefeed.
func rotation(i, feeds int) plan {
	return plan{fault: faults[i%len(faults)], feed: (i / 2) % feeds, owner: i%2 == 0}
}

// outcome is what became of a fault.
type outcome struct {
	what      string
	takeovers int  // changefeeds that another node owns because of it
	replaced  int  // spans that another node runs because of it
	held      bool // a transaction was on its way to a target, and arrived after its claim was taken
	took      time.Duration
	problem   string
}

func (o outcome) effective() bool { return o.problem == "" && o.takeovers+o.replaced > 0 }

func (o outcome) String() string {
	return fmt.Sprintf("%-40s %d takeovers, %d spans replaced, a late write: %-5t, recovered in %5.2fs %s",
		o.what, o.takeovers, o.replaced, o.held, o.took.Seconds(), o.problem)
}

const (
	// settleLimit bounds the way to a cluster in which everything runs.
	settleLimit = lab.WaitMax
	// effectLimit bounds how long is waited for somebody to be replaced. A node that is cut from its peers alone is given time.
	effectLimit = 20 * time.Second
)

// inject runs one fault from a healthy cluster to a healthy cluster.
func (w *world) inject(p plan) (out outcome) {
	if err := w.settled(settleLimit); err != nil {
		return outcome{what: p.fault.name, problem: err.Error()}
	}
	before, err := w.look(w.nodes)
	if err != nil {
		return outcome{what: p.fault.name, problem: err.Error()}
	}
	victim := w.victim(p, before)
	out.what = fmt.Sprintf("%s: %s, %s of %s", p.fault.name, victim.Name, map[bool]string{true: "owner", false: "runner"}[p.owner], w.feeds[p.feed].name)
	rest := w.but(victim)
	held := w.hold(victim)
	began := time.Now()
	p.fault.inject(w, victim)
	effect := proc.Await(effectLimit, func() error {
		now, err := w.look(rest)
		if err != nil {
			return err
		}
		if takeovers, replaced := changed(before, now, victim.Name); takeovers+replaced == 0 {
			return fmt.Errorf("nothing of %s was replaced", victim.Name)
		}
		return nil
	})
	err = w.reached(rest)
	out.took = time.Since(began)
	now, lookErr := w.look(rest)
	switch {
	case err != nil:
		out.problem = err.Error()
		w.tell(now)
	case lookErr != nil:
		out.problem = lookErr.Error()
	case effect != nil:
		w.t.Log(effect)
	default:
		out.takeovers, out.replaced = changed(before, now, victim.Name) // what came of it by the end
	}
	if held != nil {
		out.held = true
		held.Release() // into what its successor has claimed
	}
	p.fault.heal(w, victim)
	victim.Orders.Drop()
	victim.AwaitReady()
	return out
}

// tell logs what is known of a cluster that does not go on.
func (w *world) tell(now []seen) {
	w.t.Helper()
	for i, one := range now {
		w.t.Logf("%s: %+v", w.feeds[i].name, one)
	}
	for _, n := range w.nodes {
		w.t.Logf("--- %s ---\n%s", n.Name, n.Output.Last(40))
	}
}

// holdLimit bounds how long is waited until the victim has a transaction on its way. It may run no span.
const holdLimit = 1500 * time.Millisecond

// hold stops the next data transaction of a node after all checks, before anything of it is sent; nil if it has none.
func (w *world) hold(victim *lab.Node) *proc.Hit {
	const name = "held"
	if victim.Orders.Arm(name, "txn", "^write of default/") != nil {
		return nil
	}
	hit, err := proc.FirstHit(holdLimit, []*proc.Orders{victim.Orders})
	if err != nil {
		victim.Orders.Disarm(name)
		return nil
	}
	return hit
}

// victim is whom a plan means.
func (w *world) victim(p plan, now []seen) *lab.Node {
	name := now[p.feed].Owner
	for _, s := range now[p.feed].Spans {
		if !p.owner && s.Node != now[p.feed].Owner {
			name = s.Node
		}
	}
	for _, n := range w.nodes {
		if n.Name == name {
			return n
		}
	}
	return w.nodes[0]
}

// look sees all changefeeds.
func (w *world) look(nodes []*lab.Node) ([]seen, error) {
	var out []seen
	for _, f := range w.feeds {
		one, err := f.look(nodes)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// changed counts what a node had before and another has now.
func changed(before, now []seen, victim string) (takeovers, replaced int) {
	for i := range before {
		if before[i].Owner == victim && now[i].Owner != victim && now[i].Epoch > before[i].Epoch {
			takeovers++
		}
		runs := map[string]string{}
		for _, s := range now[i].Spans {
			if s.State == "running" {
				runs[s.Start] = s.Node
			}
		}
		for _, s := range before[i].Spans {
			if s.Node == victim && runs[s.Start] != "" && runs[s.Start] != victim {
				replaced++
			}
		}
	}
	return takeovers, replaced
}

// reached waits until what the source has committed by now is in all targets, and stored.
func (w *world) reached(nodes []*lab.Node) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	return proc.Await(lab.WaitMax, func() error {
		now, err := w.look(nodes)
		if err != nil {
			return err
		}
		var behind []string
		for i, one := range now {
			if one.Checkpoint < end {
				behind = append(behind, fmt.Sprintf("%s of %s is at %d, %s (%v)", w.feeds[i].name, one.Owner, one.Checkpoint, one.State, one.Error))
			}
		}
		if len(behind) > 0 {
			return fmt.Errorf("not got over: of %d: %s", end, strings.Join(behind, "; "))
		}
		return nil
	})
}
