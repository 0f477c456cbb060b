package sim

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/message"
	"fencerow/record"
)

const (
	lifeLook    = 200 * time.Millisecond // how often a process looks whether its session is over
	joinRetry   = 250 * time.Millisecond
	leaveWait   = 8 * time.Second
	renewParts  = 5
	renewWaits  = 4
	requestWait = 5 * time.Second
)

// node is a place where processes of one name run, one after another.
type node struct {
	world *World
	index int
	name  string
	life  *life // nil while none runs
	lives int
	rate  float64

	buried bool // none starts here any more
}

// life is one session of one process: a node id, and what runs under it.
type life struct {
	world    *World
	node     *node
	id       changefeed.NodeID
	clock    *clock
	kv       kv.Store
	store    *epochstore.Store
	session  *epochstore.Session
	record   epochstore.Registration
	dead     bool
	leaving  bool
	pausedTo time.Duration
	struck   bool // the pause that it is in held something up
	deferred []func()
	tasks    []*task

	leads       *term
	maintainers *maintainers
	hosts       *hosts
	peers       map[changefeed.NodeID]changefeed.Time // the other nodes, and when there was a link to each last
	draining    bool
	level       int // feature level of the cluster when the process joined
}

// start brings up a process, or a new session of one.
func (n *node) start() {
	w := n.world
	n.lives++
	l := &life{world: w, node: n, id: changefeed.NodeID(w.word(n.name + "-"))}
	l.clock = &clock{world: w, offset: w.between(time.Second, time.Hour), rate: n.rate, since: w.now}
	l.kv = epochstore.NewGuard(&client{world: w, life: l, from: n.index, to: w.etcd}, func(error) { w.after(0, l.wentBack) })
	l.store = epochstore.New(l.kv, w.plan.Keys, w.wall).InTurn()
	n.life = l
	w.say("process   %s starts", l.id)
	w.spawn(l, l.run)
}

// wentBack ends a process that has seen etcd go back; another one starts.
func (l *life) wentBack() {
	if l.dead {
		return
	}
	w := l.world
	w.census.Died++
	w.say("process   %s: etcd went back", l.id)
	l.die()
	w.after(w.between(0, 3*time.Second), l.node.startIfNone)
}

// lifeOf returns the process of that id, nil if it is gone.
func (w *World) lifeOf(id changefeed.NodeID) *life {
	for _, n := range w.nodes {
		if n.life != nil && n.life.id == id {
			return n.life
		}
	}
	return nil
}

// frozen defers what a process that stands still would do.
func (l *life) frozen(do func()) bool {
	if l.dead {
		return false
	}
	if l.pausedTo <= l.world.now {
		return false
	}
	if !l.struck {
		l.struck = true
		l.world.struck(Pause)
	}
	l.deferred = append(l.deferred, do)
	return true
}

// pause makes the process stand still.
func (l *life) pause(d time.Duration) {
	w := l.world
	if l.pausedTo > w.now {
		return
	}
	w.say("process   %s stands still for %v", l.id, d)
	l.pausedTo, l.struck = w.now+d, false
	w.after(d, l.goOn)
}

func (l *life) goOn() {
	deferred := l.deferred
	l.deferred = nil
	if l.dead {
		return
	}
	l.world.say("process   %s goes on", l.id)
	for _, do := range deferred {
		do()
	}
}

// timer has something happen on the life's clock, if it is still alive then.
func (l *life) timer(d time.Duration, do func()) {
	l.world.after(l.clock.until(d), func() { l.run1(do) })
}

func (l *life) run1(do func()) {
	if l.dead || l.frozen(func() { l.run1(do) }) {
		return
	}
	do()
}

// receive takes a message in.
func (l *life) receive(env message.Envelope) {
	if l.dead || l.frozen(func() { l.receive(env) }) {
		return
	}
	if l.world.out != nil {
		l.world.say("message   %v of %v, epoch %d: %s → %s %s", env.Body.Kind(), env.ID, env.Epoch, env.From, env.To, tell(env.Body))
	}
	if l.hosts == nil {
		return
	}
	if env.Body.Kind().Down() {
		l.hosts.deliver(env)
		return
	}
	l.maintainers.deliver(env)
}

func (l *life) forget(t *task) {
	l.tasks = slices.DeleteFunc(l.tasks, func(other *task) bool { return other == t })
}

// die ends the process where it stands.
func (l *life) die() {
	if l.dead {
		return
	}
	l.dead = true
	l.node.life = nil
	for _, t := range l.tasks {
		t.kill()
	}
	l.tasks = nil
	l.world.etcd.drop(l)
	l.world.checker.Crashed(l.id)
}

// drop ends the streams of a process.
func (s *server) drop(l *life) {
	var watches []*stream
	for _, other := range s.watches {
		if other.life == l {
			other.generation++
			if other.cursor != nil {
				other.cursor.Close()
				other.cursor = nil
			}
			continue
		}
		watches = append(watches, other)
	}
	s.watches = watches
}

// busy reports whether the process does anything that its end would be noticed by.
func (l *life) busy() bool {
	return l.leads != nil || l.maintainers != nil && l.maintainers.core.Running() > 0 || l.hosts != nil && l.hosts.running() > 0
}

// run takes a lease, joins, and lives until the session is over.
func (l *life) run(t *task) {
	for l.session == nil {
		t.bound(requestWait)
		session, err := epochstore.NewSession(never{}, l.kv, epochstore.SessionConfig{
			TTL: l.world.plan.TTL, Clock: l.clock.read, Logger: zap.NewNop(),
		})
		if err != nil {
			t.sleep(joinRetry)
			continue
		}
		l.session = session
	}
	l.world.spawn(l, l.renew)
	if !l.join(t) {
		l.over(t)
		return
	}
	l.world.say("process   %s joined", l.id)
	l.hosts = newHosts(l)
	l.maintainers = newMaintainers(l)
	always := func() bool { return true }
	l.watch(l.takeEpochs, always, record.KindEpoch)
	l.watch(l.takeNodes(), always, record.KindNode)
	l.watch(l.takeHandoffs, always, record.KindHandoff)
	l.watch(l.takeEvictions, always, record.KindEviction)
	l.watch(l.takeDrains, always, record.KindDrain)
	l.world.spawn(l, l.publish)
	l.world.spawn(l, l.campaign)
	for l.session.Alive() && !l.leaving {
		t.sleep(lifeLook)
	}
	if l.leaving {
		l.leave(t)
		return
	}
	l.over(t)
}

// renew keeps the lease. The session notes when each renewal was sent.
func (l *life) renew(t *task) {
	ttl := l.session.TTL()
	for l.session.Alive() {
		t.deadline = 0
		t.bound(min(ttl/renewWaits, max(time.Millisecond, l.session.Remaining())))
		sent := l.clock.read()
		lease, err := l.kv.KeepAlive(never{}, l.session.Lease())
		if l.session.Renewed(sent, lease, err) {
			t.sleep(ttl / renewParts)
		} else {
			t.sleep(ttl / renewParts / renewWaits)
		}
	}
}

// join registers the node. It waits while the name is held.
func (l *life) join(t *task) bool {
	for l.session.Alive() {
		t.bound(requestWait)
		meta, err := l.store.Meta(never{})
		if err != nil {
			t.sleep(joinRetry)
			continue
		}
		l.level = meta.Record.Level
		registration, err := l.store.TryJoin(never{}, l.session, record.Node{
			ID: l.id, Name: l.node.name, HTTP: "-", Peer: "-", Version: "sim", Level: record.LevelCurrent,
			Started: l.world.wall(), Liveness: record.Alive,
		})
		if err == nil {
			l.record = registration
			return true
		}
		if errors.Is(err, epochstore.ErrSessionOver) || errors.Is(err, epochstore.ErrRefused) {
			return false
		}
		t.sleep(joinRetry)
	}
	return false
}

// over ends what ran under the session, waits for it, and begins anew under another id.
func (l *life) over(t *task) {
	w := l.world
	w.say("process   %s: the session is over", l.id)
	if l.leads != nil {
		l.leads.end()
	}
	if l.hosts != nil {
		l.hosts.sessionEnded()
		l.maintainers.sessionEnded()
		for l.hosts.running() > 0 || l.maintainers.core.Running() > 0 {
			t.sleep(lifeLook)
		}
	}
	again := l.node
	w.after(0, func() {
		l.die()
		w.after(w.between(0, time.Second), again.startIfNone)
	})
	t.sleep(time.Hour)
}

func (n *node) startIfNone() {
	if n.life == nil && !n.buried {
		n.start()
	}
}

// leave ends a process in good order: it says so, waits until what it owns is elsewhere, lets its dispatchers finish,
// and gives its lease back.
func (l *life) leave(t *task) {
	w := l.world
	w.say("process   %s leaves", l.id)
	until := l.clock.read().Add(leaveWait)
	node := l.record.Node
	node.Liveness = record.Stopping
	t.bound(requestWait)
	if next, err := l.store.UpdateNode(never{}, l.record, node); err == nil {
		l.record = next
	}
	for l.maintainers.core.Running() > 0 && l.clock.read() < until && l.session.Alive() {
		t.sleep(lifeLook)
	}
	l.hosts.leave()
	for l.hosts.running() > 0 && l.clock.read() < until.Add(leaveWait) && l.session.Alive() {
		t.sleep(lifeLook)
	}
	l.maintainers.leave()
	for l.maintainers.core.Running() > 0 && l.clock.read() < until.Add(2*leaveWait) && l.session.Alive() {
		t.sleep(lifeLook)
	}
	l.maintainers.sessionEnded()
	if l.leads != nil {
		l.leads.end()
	}
	l.hosts.sessionEnded()
	for l.hosts.running() > 0 || l.maintainers.core.Running() > 0 {
		t.sleep(lifeLook)
	}
	t.bound(requestWait)
	_ = l.session.Close(never{})
	again := l.node
	w.after(0, func() {
		l.die()
		w.after(w.between(0, 5*time.Second), again.startIfNone)
	})
	t.sleep(time.Hour)
}
