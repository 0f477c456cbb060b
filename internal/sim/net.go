package sim

import (
	"time"

	"fencerow/message"
)

// Places that links end at. Nodes are numbered from 0.
const (
	atEtcd   = -1
	atTarget = -2
	atSource = -3
	atPeople = -4
)

// link is one direction between two places.
type link struct {
	cutUntil time.Duration
	isolated bool // the cut is one of all links of a node
	holds    bool // what is sent meanwhile comes out when the cut ends, else it is lost
}

func (w *World) link(from, to int) *link {
	key := [2]int{from, to}
	l := w.links[key]
	if l == nil {
		l = &link{}
		w.links[key] = l
	}
	return l
}

func (l *link) cut(w *World) bool { return l.cutUntil > w.now }

// kind says which fault the cut of a link is.
func (l *link) kind(from, to int) FaultKind {
	if l.isolated {
		return Isolate
	}
	return cutKind(from, to)
}

// cutKind says which fault a cut between two places is.
func cutKind(from, to int) FaultKind {
	switch min(from, to) {
	case atEtcd:
		return CutEtcd
	case atTarget:
		return CutTarget
	default:
		return Cut
	}
}

// transmit brings something over a link. What a cut holds back comes when it has ended, whoever is dead by then.
func (w *World) transmit(from, to int, sender *life, do func()) {
	arrive := func() {
		if sender != nil && sender.dead {
			w.struck(DeadLetter)
		}
		do()
	}
	l := w.link(from, to)
	delay := w.between(w.plan.DelayMin, w.plan.DelayMax)
	if l.cut(w) {
		w.struck(l.kind(from, to))
		if l.holds {
			w.after(l.cutUntil-w.now+delay, arrive)
		}
		return
	}
	if w.strikes(Reorder) {
		w.struck(Reorder)
		delay += w.between(0, w.plan.LateMax)
	}
	w.after(delay, arrive)
}

// Send brings a message to a node, once, twice or never.
func (w *World) post(sender *life, env message.Envelope) {
	to := w.lifeOf(env.To)
	if to == nil {
		return
	}
	w.see(SentFact{Envelope: env})
	w.remember(env)
	if to == sender {
		w.after(time.Microsecond, func() { to.receive(env) })
		return
	}
	if w.strikes(Loss) {
		w.struck(Loss)
		w.miss(env)
		w.say("lost      %v %v → %v", env.Body.Kind(), sender.id, env.To)
		return
	}
	copies := 1
	if w.strikes(Duplicate) {
		w.struck(Duplicate)
		copies++
	}
	for range copies {
		w.transmit(sender.node.index, to.node.index, sender, func() { to.receive(env) })
	}
}

// strikes draws whether a fault of one message or request happens.
func (w *World) strikes(kind FaultKind) bool {
	return w.faulty && w.plan.Enabled[kind] && w.chance(w.plan.Rates[kind])
}
