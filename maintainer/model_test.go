package maintainer

import (
	"cmp"
	"fmt"
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

const modelKeys = "abcdefghijklmnop"

// model is a small world of several nodes around one changefeed: hosts that run dispatchers, a network that delays,
// doubles and loses, owners that die and are followed by others, and a sink that knows what it holds of each key.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	b       *bench
	dead    []*bench // owners that were bumped over, and may still act
	hosts   []*modelHost
	wire    []message.Envelope
	durable [len(modelKeys)]change.Position
	claims  [len(modelKeys)]fence.Token
	head    change.Position
	epoch   fence.Epoch
	lossy   bool
	born    int
	stored  change.Position
}

// modelHost is a node as a dispatcher host: a polite one, with the real gate.
type modelHost struct {
	id      changefeed.NodeID
	gate    fence.Gate
	live    []*modelDispatcher
	stopped map[fence.Token]bool
	finals  []message.Status
	number  uint64
	spec    int64           // of the last Bootstrap
	goneAt  changefeed.Time // 0: alive
	mute    bool            // cut off from the owner
	void    fence.Token     // every token up to it was evicted
}

type modelDispatcher struct {
	span  changefeed.Span
	token fence.Token
	spec  int64
	pos   change.Position
	stop  change.Position // asked to stop there; 0: not asked
	dead  bool
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), head: 10, epoch: 4, lossy: true}
	m.b = newBench(4)
	if seed%2 == 0 {
		m.b.fencing = FencedByNothing
	}
	for range 3 {
		m.join()
	}
	m.takeover()
	return m
}

func (m *model) join() {
	m.born++
	m.hosts = append(m.hosts, &modelHost{
		id: changefeed.NodeID(fmt.Sprintf("h%02d", m.born)), stopped: map[fence.Token]bool{},
	})
}

// takeover bumps the epoch. The old owner may go on for a while.
func (m *model) takeover() {
	before := m.b
	m.epoch++
	next := newBench(m.epoch)
	next.fencing, next.now, next.status, next.spec = before.fencing, before.now, before.status, before.spec
	if m.rng.IntN(4) == 0 {
		next.spec.Revision++
		next.spec.Spec.Options = changefeed.Options{
			SplitKeys: []string{"", "d,h", "c,i,m"}[m.rng.IntN(3)], MergeKeys: []string{"", "e", "c,d,h,i"}[m.rng.IntN(3)],
		}
	}
	next.own.Record.SpecRevision = next.spec.Revision
	next.current = next.own
	next.core = NewCore(DefaultConfig("n1"), next.own)
	next.nodes = m.nodes(next.now)
	before.current = next.own
	m.dead = append(m.dead, before)
	if len(m.dead) > 2 {
		m.dead = m.dead[1:]
	}
	m.b = next
	for _, h := range m.hosts {
		h.gate.Observe(next.own.Record.Claimant())
	}
	next.step(Started{})
	m.collect(next)
}

func (m *model) nodes(now changefeed.Time) Nodes {
	out := Nodes{Revision: int64(now)}
	for _, h := range m.hosts {
		if h.goneAt == 0 {
			out.Nodes = append(out.Nodes, record.Node{ID: h.id, Name: string(h.id), Liveness: record.Alive})
		}
	}
	return out
}

// collect puts what an owner sent on the wire.
func (m *model) collect(b *bench) {
	m.wire = append(m.wire, b.sent...)
	b.sent = nil
}

// step is one random event.
func (m *model) step() {
	switch pick := m.rng.IntN(100); {
	case pick < 45:
		m.deliver()
	case pick < 65:
		m.advance(time.Duration(m.rng.IntN(300)) * time.Millisecond)
	case pick < 80:
		m.write()
	case pick < 88:
		m.beat()
	case pick < 90 && len(m.dead) > 0:
		b := m.dead[m.rng.IntN(len(m.dead))]
		b.pass(time.Second)
		m.collect(b)
	case pick < 91 && m.lossy:
		m.takeover()
	case pick < 92 && m.lossy:
		m.lose()
	case pick < 94 && m.lossy:
		m.hosts[m.rng.IntN(len(m.hosts))].mute = m.rng.IntN(2) == 0
	case pick < 96:
		m.obey()
	case pick < 98:
		m.b.nodes = m.nodes(m.b.now)
		m.b.step(NodesWatched{Nodes: m.b.nodes})
		m.collect(m.b)
	}
	m.check()
}

func (m *model) advance(d time.Duration) {
	m.b.pass(d)
	m.collect(m.b)
	// A node that lost its session stops what it ran, at the latest when one TTL has passed.
	for _, h := range m.hosts {
		if h.goneAt != 0 && m.b.now.Sub(h.goneAt) >= 4*time.Second {
			h.live = nil
		}
	}
}

// obey has the nodes stop what was evicted, and acknowledge it. That is told to whoever owns.
func (m *model) obey() {
	for _, b := range append(slices.Clone(m.dead), m.b) {
		evicts := b.evicts
		b.evicts = nil
		for _, eviction := range evicts {
			for _, h := range m.hosts {
				if h.id == eviction.Node && h.goneAt == 0 {
					m.acknowledge(h, eviction.Token)
				}
			}
		}
	}
}

func (m *model) acknowledge(h *modelHost, void fence.Token) {
	seen := EvictionSeen{Node: h.id, Eviction: record.Eviction{Epoch: void.Epoch(), Seq: void.Seq(), AcknowledgedAt: &time.Time{}}}
	if h.void.OlderThan(void) {
		h.void = void
	}
	h.live = slices.DeleteFunc(h.live, func(d *modelDispatcher) bool {
		if void.OlderThan(d.token) {
			return false
		}
		final := m.status(d)
		final.State = message.DispatcherStopped
		h.finals = append(h.finals, final)
		return true
	})
	for _, f := range h.finals {
		seen.Eviction.Finals = append(seen.Eviction.Finals, record.Final{
			Start: f.Span.Start, End: f.Span.End, Epoch: f.Token.Epoch(), Seq: f.Token.Seq(), Position: f.Mark.Position,
		})
	}
	for _, b := range append(slices.Clone(m.dead), m.b) {
		b.step(seen)
		m.collect(b)
	}
}

// lose ends a node's lease. Its dispatchers may still be writing.
func (m *model) lose() {
	alive := 0
	for _, h := range m.hosts {
		if h.goneAt == 0 {
			alive++
		}
	}
	if h := m.hosts[m.rng.IntN(len(m.hosts))]; alive > 1 && h.goneAt == 0 {
		h.goneAt = m.b.now
		m.join()
		m.hosts[len(m.hosts)-1].gate.Observe(m.b.own.Record.Claimant())
	}
}

func (m *model) deliver() {
	if len(m.wire) == 0 {
		return
	}
	at := m.rng.IntN(len(m.wire))
	if !m.lossy {
		at = 0
	}
	env := m.wire[at]
	switch lot := m.rng.IntN(10); {
	case lot == 0 && m.lossy: // doubled
	default:
		m.wire = slices.Delete(m.wire, at, at+1)
		if lot == 1 && m.lossy {
			return // lost
		}
	}
	if !env.Body.Kind().Down() {
		for _, b := range append(slices.Clone(m.dead), m.b) {
			if b.own.Record.Epoch == env.Epoch {
				b.step(Received{Envelope: env})
				m.collect(b)
			}
		}
		return
	}
	for _, h := range m.hosts {
		if h.id == env.To && h.goneAt == 0 && !h.mute {
			m.handle(h, env)
		}
	}
}

func (m *model) reply(h *modelHost, to message.Envelope, body message.Body) {
	m.wire = append(m.wire, message.Envelope{ID: to.ID, UID: to.UID, Epoch: to.Epoch, From: h.id, To: to.From, Body: body})
}

// handle is what a dispatcher host does.
func (m *model) handle(h *modelHost, env message.Envelope) {
	if err := h.gate.Admit(env.Claimant()); err != nil {
		m.reply(h, env, message.Rejected{Offered: env.Epoch, Held: h.gate.Held().Epoch, Rule: "F9", Command: env.Body.Kind()})
		return
	}
	switch body := env.Body.(type) {
	case message.Bootstrap:
		h.spec = body.SpecRevision
		m.reply(h, env, message.BootstrapReply{Dispatchers: append(m.statuses(h), h.finals...)})
	case message.ListStatuses:
		m.reply(h, env, message.Statuses{Full: true, Statuses: m.statuses(h)})
	case message.Place:
		m.place(h, env, body)
	case message.Stop:
		m.stop(h, env, body)
	}
}

// stop ends a dispatcher: at once, or, if it is not as far as it is asked to be, when it has come there.
func (m *model) stop(h *modelHost, env message.Envelope, body message.Stop) {
	status := message.Status{Token: body.Token, State: message.DispatcherStopped}
	for _, d := range h.live {
		if d.token != body.Token {
			continue
		}
		if !d.dead && d.pos < body.At.Whole() && m.rng.IntN(10) > 0 {
			d.stop = body.At.Whole()
			status = m.status(d)
			m.reply(h, env, message.Statuses{Statuses: []message.Status{status}})
			return
		}
		status = m.end(h, d)
		break
	}
	h.stopped[body.Token] = true
	m.reply(h, env, message.Statuses{Statuses: []message.Status{status}})
}

func (m *model) end(h *modelHost, d *modelDispatcher) message.Status {
	status := m.status(d)
	status.State = message.DispatcherStopped
	h.finals, h.stopped[d.token] = append(h.finals, status), true
	h.live = slices.DeleteFunc(h.live, func(other *modelDispatcher) bool { return other == d })
	return status
}

func (m *model) place(h *modelHost, env message.Envelope, body message.Place) {
	token := fence.Mint(env.Epoch, body.Seq)
	for _, d := range h.live {
		if d.token == token {
			m.reply(h, env, message.Statuses{Statuses: []message.Status{m.status(d)}})
			return
		}
	}
	overlaps := slices.ContainsFunc(h.live, func(d *modelDispatcher) bool { return d.span.Overlaps(body.Span) })
	if h.stopped[token] || overlaps || !h.void.OlderThan(token) {
		m.reply(h, env, message.Rejected{
			Offered: env.Epoch, Held: env.Epoch, Rule: fence.RefusedToken.Rule(), Command: message.KindPlace, Token: token,
		})
		return
	}
	d := &modelDispatcher{span: body.Span, token: token, spec: h.spec, pos: body.From.Whole()}
	first := true
	for i := range modelKeys {
		if !body.Span.Contains([]byte(modelKeys[i : i+1])) {
			continue
		}
		if m.b.fencing == FencedByNothing {
			require.LessOrEqual(m.t, d.pos, m.durable[i], "%v starts above what %c holds: changes are lost", token, modelKeys[i])
			continue
		}
		if token.OlderThan(m.claims[i]) {
			d.dead = true
			break
		}
		m.claims[i] = token
		if first || m.durable[i] < d.pos {
			d.pos, first = m.durable[i], false
		}
	}
	h.live = append(h.live, d)
	m.reply(h, env, message.Statuses{Statuses: []message.Status{m.status(d)}})
}

func (m *model) status(d *modelDispatcher) message.Status {
	state := message.DispatcherRunning
	switch {
	case d.dead:
		state = message.DispatcherFailed
	case d.stop != 0:
		state = message.DispatcherStopping
	}
	out := statusOf(d.span, d.token, state, d.pos)
	out.SpecRevision, out.Resolved = d.spec, m.head
	return out
}

func (m *model) statuses(h *modelHost) []message.Status {
	var out []message.Status
	for _, d := range h.live {
		out = append(out, m.status(d))
	}
	return out
}

// write lets a random dispatcher write up to a random position. One that is shut out by a claim writes nothing.
func (m *model) write() {
	if m.lossy {
		m.head += change.Position(m.rng.IntN(3))
	}
	h := m.hosts[m.rng.IntN(len(m.hosts))]
	if len(h.live) == 0 {
		return
	}
	d := h.live[m.rng.IntN(len(h.live))]
	to := d.pos + change.Position(m.rng.IntN(int(m.head-min(d.pos, m.head))+1))
	if !m.lossy {
		to = max(m.head, d.pos)
	}
	if d.stop != 0 {
		to = min(to, max(d.stop, d.pos))
	}
	for i := range modelKeys {
		if d.span.Contains([]byte(modelKeys[i:i+1])) && m.b.fencing == FencedByClaims && m.claims[i] != d.token {
			d.dead = true
			return
		}
	}
	for i := range modelKeys {
		if d.span.Contains([]byte(modelKeys[i : i+1])) {
			m.durable[i] = max(m.durable[i], to)
		}
	}
	d.pos = to
	if d.stop != 0 && d.pos >= d.stop {
		m.end(h, d) // the next question, or the next owner, learns of it
	}
}

// beat has a host report to its owner.
func (m *model) beat() {
	h := m.hosts[m.rng.IntN(len(m.hosts))]
	held := h.gate.Held()
	if h.goneAt != 0 || h.mute || held.Owner == "" {
		return
	}
	beat := message.Heartbeat{Checkpoint: m.head, Resolved: m.head}
	h.number++
	beat.Number = h.number
	for _, d := range h.live {
		if d.dead {
			beat.Changed = append(beat.Changed, m.status(d))
			continue
		}
		if d.stop != 0 {
			continue
		}
		beat.Set.Add(d.span, d.token)
		beat.Checkpoint = min(beat.Checkpoint, d.pos)
	}
	h.live = slices.DeleteFunc(h.live, func(d *modelDispatcher) bool {
		h.stopped[d.token] = h.stopped[d.token] || d.dead
		return d.dead
	})
	m.wire = append(m.wire, message.Envelope{
		ID: testID, UID: "u1", Epoch: held.Epoch, From: h.id, To: changefeed.NodeID(held.Owner), Body: beat,
	})
}

// check holds the invariants against the state.
func (m *model) check() {
	core := m.b.core
	if core.cover != nil {
		var spans []changefeed.Span
		core.cover.each(func(c *cell) bool {
			spans = append(spans, c.span)
			return true
		})
		require.NoError(m.t, changefeed.CheckCover(changefeed.Whole(), spans))
	}
	lowest := slices.Min(m.durable[:])
	require.GreaterOrEqual(m.t, lowest, m.b.status.Status.Checkpoint, "a change at or below the checkpoint is not in the sink")
	require.GreaterOrEqual(m.t, m.b.status.Status.Checkpoint, m.stored, "the stored checkpoint went back")
	m.stored = m.b.status.Status.Checkpoint
	if m.b.fencing == FencedByNothing {
		m.checkSingle()
	}
}

// checkSingle says that no two dispatchers of overlapping spans ever run where the sink keeps nobody out.
func (m *model) checkSingle() {
	var all []*modelDispatcher
	for _, h := range m.hosts {
		all = append(all, h.live...)
	}
	slices.SortFunc(all, func(a, b *modelDispatcher) int { return cmp.Or(a.span.Compare(b.span), a.token.Compare(b.token)) })
	for i := 1; i < len(all); i++ {
		require.False(m.t, all[i-1].span.Overlaps(all[i].span), "%v %v and %v %v both run", all[i-1].token, all[i-1].span,
			all[i].token, all[i].span)
	}
}

// heal ends all faults and runs until everything is copied.
func (m *model) heal() {
	m.lossy = false
	for _, h := range m.hosts {
		h.mute = false
	}
	m.dead = nil
	if m.b.core.Ended() {
		m.takeover()
	}
	for range 400 {
		m.b.nodes = m.nodes(m.b.now)
		m.b.step(NodesWatched{Nodes: m.b.nodes})
		m.advance(250 * time.Millisecond)
		m.obey()
		for range 40 {
			m.deliver()
			m.write()
			m.beat()
		}
		m.check()
		if m.b.core.Ended() {
			m.takeover()
		}
		status := m.b.status.Status
		if status.State == changefeed.StateRunning && status.Checkpoint == m.head {
			return
		}
	}
	require.Failf(m.t, "did not catch up", "head %d, status %s\nlast: %v", m.head, describeStatus(&m.b.status.Status),
		m.b.trace[max(0, len(m.b.trace)-20):])
}

// Whatever is lost, doubled, delayed, killed or bumped over: the cover is a partition, the checkpoint never goes back
// and is never above what the sink holds, nothing runs twice where the sink can't tell, and when the faults end
// everything is copied. (hazards 21 to 29, 32, 33)
func TestInvariantsHoldUnderRandomFaults(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			m := newModel(t, seed)
			for range 600 {
				m.step()
			}
			m.heal()
		})
	}
}
