package sim

import "time"

// misfortune has faults that last begin at random moments.
func (w *World) misfortune(kind FaultKind) {
	w.after(w.between(0, 2*w.plan.Every[kind]), func() {
		if !w.faulty {
			return
		}
		w.begin(kind)
		w.misfortune(kind)
	})
}

// lasting are the kinds of faults that begin at a moment, and not with a message or a request.
var lasting = []FaultKind{
	Crash, Pause, ClockRate, ClockJump, Cut, CutEtcd, CutTarget, EtcdStall, EtcdFull, Compaction, WatchSilence, TargetStall,
	SourceOutage, Isolate, SourceSwap, Echo, Rogue, Restore, Damage, Intruder,
}

// duration draws how long a fault lasts: mostly shorter than a session, sometimes much longer.
func (w *World) duration() time.Duration {
	switch w.rng.IntN(4) {
	case 0:
		return w.between(0, w.plan.TTL/4)
	case 1, 2:
		return w.between(0, 2*w.plan.TTL)
	default:
		return w.between(0, 6*w.plan.TTL)
	}
}

func (w *World) begin(kind FaultKind) {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	d := w.duration()
	switch kind { //nolint:exhaustive // what stops everything at once lasts shorter
	case EtcdStall, EtcdFull, TargetStall:
		d /= 3
	}
	w.say("fault     %v of %s for %v", kind, n.name, d)
	switch kind {
	case Crash:
		w.crash(n)
	case Pause:
		if n.life != nil {
			n.life.pause(d)
		}
	case ClockRate:
		w.turn(n, 0.9+0.2*w.rng.Float64())
	case ClockJump:
		if n.life != nil && n.life.busy() {
			w.struck(ClockJump)
			n.life.clock.jump(d)
		}
	case Cut:
		w.cut(n.index, w.nodes[w.rng.IntN(len(w.nodes))].index, d)
	case Isolate:
		w.isolate(n, d)
	case CutEtcd:
		w.cut(n.index, atEtcd, d)
	case CutTarget:
		w.cut(n.index, atTarget, d)
	case Compaction:
		_ = w.etcd.machine.Compact(w.etcd.machine.Revision())
	case WatchSilence:
		for _, s := range w.etcd.watches {
			if s.life.node == n && w.chance(0.7) {
				s.silent = w.now + d
			}
		}
	default:
		w.disturb(kind, d)
	}
}

// disturb begins a fault that is no single node's.
func (w *World) disturb(kind FaultKind, d time.Duration) {
	switch kind { //nolint:exhaustive // the others strike nodes, messages and requests
	case EtcdStall:
		w.etcd.stalled = max(w.etcd.stalled, w.now+d)
	case EtcdFull:
		w.etcd.full = max(w.etcd.full, w.now+d)
	case TargetStall:
		w.target.stalled = max(w.target.stalled, w.now+d)
	case SourceOutage:
		w.source.outage = max(w.source.outage, w.now+d)
	case SourceSwap:
		w.source.swapped = max(w.source.swapped, w.now+d)
	case Echo:
		w.echo()
	case Rogue:
		w.rogue()
	case Restore:
		w.restore()
	case Damage:
		w.damage(d)
	case Intruder:
		w.intrude()
	}
}

// crash kills a process; another one of its name starts after a while.
func (w *World) crash(n *node) {
	if n.life == nil {
		return
	}
	if n.life.busy() {
		w.struck(Crash)
	}
	w.say("process   %s dies", n.life.id)
	n.life.die()
	w.after(w.duration(), n.startIfNone)
}

func (w *World) turn(n *node, rate float64) {
	n.rate = rate
	if n.life == nil {
		return
	}
	if n.life.busy() {
		w.struck(ClockRate)
	}
	n.life.clock.set(rate)
}

// cut cuts a link, one way or both.
func (w *World) cut(a, b int, d time.Duration) {
	if a == b {
		return
	}
	holds := w.chance(0.5)
	ways := [][2]int{{a, b}, {b, a}}
	switch w.rng.IntN(4) {
	case 0:
		ways = ways[:1]
	case 1:
		ways = ways[1:]
	}
	for _, way := range ways {
		l := w.link(way[0], way[1])
		l.cutUntil, l.holds, l.isolated = max(l.cutUntil, w.now+d), holds, false
	}
}

// isolate cuts a node off from all other nodes, mostly for long enough that everybody notices.
func (w *World) isolate(n *node, d time.Duration) {
	for _, other := range w.nodes {
		if other == n {
			continue
		}
		for _, way := range [][2]int{{n.index, other.index}, {other.index, n.index}} {
			l := w.link(way[0], way[1])
			l.cutUntil, l.holds, l.isolated = max(l.cutUntil, w.now+2*d), false, true
		}
	}
}

// join gives a node its links to all others back.
func (w *World) join(n *node) {
	for _, other := range w.nodes {
		for _, l := range []*link{w.link(n.index, other.index), w.link(other.index, n.index)} {
			l.cutUntil = min(l.cutUntil, w.now)
		}
	}
}

// heal ends all faults.
func (w *World) heal() {
	w.faulty = false
	w.say("faults    have ended")
	for _, l := range w.links { // each by itself
		l.cutUntil = min(l.cutUntil, w.now)
	}
	for _, s := range []*server{w.etcd, w.target} {
		s.stalled, s.full = min(s.stalled, w.now), min(s.full, w.now)
	}
	w.source.outage, w.source.swapped, w.backup = 0, 0, nil
	for _, s := range w.etcd.watches {
		s.silent, s.late = 0, 0
	}
	for _, n := range w.nodes {
		n.rate = 1
		if n.life != nil {
			n.life.clock.set(1)
			if n.life.pausedTo > w.now {
				n.life.pausedTo = w.now
				w.after(0, n.life.goOn)
			}
		} else {
			w.after(0, n.startIfNone)
		}
	}
}
