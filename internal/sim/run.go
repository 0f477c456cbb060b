package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/maintainer"
	"fencerow/record"
)

// Options say how a seed is run.
type Options struct {
	Steps   int         // inputs and answers before the faults end; 0: StepsDefault
	Without []FaultKind // kinds of faults that are left out
	Spare   []string    // wishes that operators don't have
	Out     io.Writer   // the story, step by step; nil: none
}

// StepsDefault is how long a seed runs before its faults end.
const StepsDefault = 4000

// StepsMin is what every seed runs at least.
const StepsMin = 2000

// Report is what became of a seed.
type Report struct {
	Seed    uint64
	Steps   int // all of them
	Took    time.Duration
	Settled time.Duration // how long it took to catch up after the faults
	Census  Census
	Err     error // the invariant that was broken
	Trace   uint64
}

// Run runs a seed to its end, or to the first violation.
func Run(seed uint64, options Options) Report {
	if options.Steps == 0 {
		options.Steps = StepsDefault
	}
	plan := draw(seed, options.Steps)
	for _, kind := range options.Without {
		plan.Enabled[kind] = false
	}
	for _, wish := range options.Spare {
		plan.Spare[wish] = true
	}
	w := newWorld(plan)
	trace := fnv.New64a()
	if options.Out != nil {
		w.out = io.MultiWriter(options.Out, trace)
	}
	w.say("seed      %d: %d nodes, %d changefeeds, TTL %v", seed, plan.Nodes, plan.Feeds, plan.TTL)
	report := Report{Seed: seed}
	report.Settled = w.run()
	report.Steps, report.Took, report.Census, report.Err = w.steps, w.now, w.census, w.failed
	report.Trace = trace.Sum64()
	w.close()
	return report
}

const (
	etcdClusterID   = 7
	targetClusterID = 9
	etcdLook        = 100 * time.Millisecond
	settleLook      = 500 * time.Millisecond
	repairEvery     = 20 * time.Second
	// faultsMax ends the faults of a run in which hardly anything can happen.
	faultsMax = 3 * time.Hour
)

func newServer(w *World, name string, place int, id uint64) *server {
	s := &server{world: w, name: name, place: place, machine: kvmem.NewMachine(id)}
	s.watchAll()
	return s
}

func newWorld(plan Plan) *World {
	w := &World{plan: plan, rng: newRand(plan.Seed), checker: NewChecker(keySpace), links: map[[2]int]*link{}, faulty: true, tables: map[changefeed.ID]*table{}}
	w.etcd = newServer(w, "etcd", atEtcd, etcdClusterID)
	w.target = newServer(w, "target", atTarget, targetClusterID)
	w.source = &log{world: w, live: map[string]bool{}, kept: map[changefeed.UID]*kept{}, head: 1} // as an etcd, which never is at 0
	for n := range plan.Nodes {
		w.nodes = append(w.nodes, &node{world: w, index: n, name: fmt.Sprintf("n%d", n), rate: 1})
	}
	w.people = newPeople(w)
	w.observer = w.newObserver()
	return w
}

// run runs the world: first with faults, then without, until everything has caught up.
func (w *World) run() time.Duration {
	w.begins()
	for w.steps < w.plan.Steps && w.next(faultsMax) {
	}
	return w.settle()
}

// begins puts everything in place.
func (w *World) begins() {
	w.found()
	for _, n := range w.nodes {
		w.after(w.between(0, time.Second), n.start)
	}
	w.source.run()
	w.spawn(nil, w.people.run)
	w.look()
	if w.plan.Enabled[LateEviction] {
		w.dispossessions()
	}
	for _, kind := range lasting {
		if w.plan.Enabled[kind] {
			w.misfortune(kind)
		}
	}
}

// found makes the cluster's record.
func (w *World) found() {
	meta := record.Meta{Format: record.FormatCurrent, Level: w.plan.Level, ClusterID: clusterID, Created: w.wall()}
	value, err := record.Encode(record.Ref{Kind: record.KindMeta}, &meta)
	if err == nil {
		_, err = w.etcd.machine.Apply(kv.Txn{Then: []kv.Op{kv.Put(w.plan.Keys.Meta(), value)}})
	}
	w.fail(err)
	w.etcd.committed(actor{})
	if w.plan.Upgraded {
		w.inherit()
	}
}

// look turns the servers' clocks.
func (w *World) look() {
	w.etcd.advance()
	w.target.advance()
	w.after(etcdLook, w.look)
}

// settle ends the faults, and waits until every changefeed is as it is wanted, and has caught up with the source.
func (w *World) settle() time.Duration {
	if w.failed != nil {
		return 0
	}
	began := w.now
	w.heal()
	w.people.quiet = true
	w.source.idle = true
	w.repairs()
	for look := w.now; w.failed == nil; look += settleLook {
		for w.next(look) {
		}
		w.now = max(w.now, look)
		problem := w.unsettled()
		if problem == "" {
			w.compare()
			w.keptForNobody()
			return w.now - began
		}
		if w.now-began > settleMax {
			w.fail(&Violation{Invariant: 8, Detail: fmt.Sprintf("after %v without faults %s", w.now-began, problem)})
		}
	}
	return w.now - began
}

// repairs has people look after what has failed, now and then, and after drains: one of before may arrive late.
func (w *World) repairs() {
	w.undrain()
	w.spawn(nil, func(*task) { w.people.repair() })
	w.undrain() // again, since a drain that was asked for may arrive after it
	w.after(repairEvery, w.repairs)
}

// undrain has people take their drains back: else nobody may be left to own anything.
func (w *World) undrain() {
	w.spawn(nil, func(*task) {
		for _, n := range w.nodes {
			_, err := w.people.store.DeleteDrain(never{}, n.name)
			w.fail(err)
		}
	})
}

// unsettled says what is not as it is wanted.
func (w *World) unsettled() string {
	for n := range w.plan.Feeds {
		id := w.feedID(n)
		name := w.checker.name(id)
		if name.spec == nil {
			continue
		}
		switch name.spec.Desired {
		case changefeed.DesiredRemoved:
			return fmt.Sprintf("%v is not removed", id)
		case changefeed.DesiredPaused:
			if name.epoch != nil && name.epoch.Owner != "" && name.epoch.UID == name.spec.UID {
				return fmt.Sprintf("%v is not paused", id)
			}
		case changefeed.DesiredRunning:
			if name.status != nil && name.status.UID == name.spec.UID && name.status.State == changefeed.StateFailed {
				return fmt.Sprintf("%v has failed: %s", id, tellStatus(name.status))
			}
			if problem := w.unsynced(id, name); problem != "" {
				return problem
			}
			if w.checker.Behind(name.spec.UID, w.source.head) {
				return fmt.Sprintf("%v stands at %d, the source at %d; status %s", id, w.checker.feeds[name.spec.UID].checkpoint, w.source.head,
					tellStatus(name.status))
			}
		}
	}
	return ""
}

// unsynced says that a sync point is missing although one was asked for: nothing moves any more, and the last one is of before.
func (w *World) unsynced(id changefeed.ID, name *named) string {
	feed := w.checker.feeds[name.spec.UID]
	if name.spec.Options[maintainer.SyncPointInterval] == "" || feed == nil || feed.synced >= w.source.head {
		return ""
	}
	return fmt.Sprintf("%v has its last sync point at %d, the source is at %d; status %s", id, feed.synced, w.source.head, tellStatus(name.status))
}

func tellStatus(status *record.Status) string {
	if status == nil {
		return "none"
	}
	text := fmt.Sprintf("%s at epoch %d", status.State, status.Epoch)
	if status.Error != nil {
		text += ", " + status.Error.Message
	}
	if status.Stalled != nil {
		text += fmt.Sprintf(", %s on %s from %q", status.Stalled.Reason, status.Stalled.Node, status.Stalled.Start)
	}
	return text
}

// close ends the tasks, so that no coroutine is left.
func (w *World) close() {
	w.out = nil
	for _, n := range w.nodes {
		if n.life != nil {
			n.life.die()
		}
	}
	for _, t := range w.loose {
		t.kill()
	}
}
