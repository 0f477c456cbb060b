package coordinator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

var errFull = errors.New("no space")

// entry is a stored record.
type entry[T any] struct {
	value T
	mod   int64
	fault string
}

// world is the records, a watch of them, and a core, for tests. Its writes are compare-and-set like the real ones.
type world struct {
	now      changefeed.Time
	revision int64
	term     int64
	nonces   int
	age      changefeed.Duration

	meta     entry[record.Meta]
	specs    map[changefeed.ID]entry[record.Spec]
	epochs   map[changefeed.ID]entry[record.Epoch]
	statuses map[changefeed.ID]entry[record.Status]
	handoffs map[changefeed.ID]entry[record.Handoff]
	nodes    map[changefeed.NodeID]entry[record.Node]
	drains   map[string]int64

	core    *Core
	pending []Effect // writes that weren't answered
	held    bool     // the watch delivers nothing
	queue   []Input  // what it holds back
	out     []string
	bumped  []record.Epoch
	level   int
}

func newWorld() *world {
	w := &world{
		revision: 10,
		specs:    map[changefeed.ID]entry[record.Spec]{}, epochs: map[changefeed.ID]entry[record.Epoch]{},
		statuses: map[changefeed.ID]entry[record.Status]{}, handoffs: map[changefeed.ID]entry[record.Handoff]{},
		nodes: map[changefeed.NodeID]entry[record.Node]{}, drains: map[string]int64{},
	}
	w.meta = entry[record.Meta]{value: record.Meta{Format: 1, Level: 1}, mod: 1}
	return w
}

func feedID(name string) changefeed.ID { return changefeed.ID{Namespace: "default", Name: name} }

func (w *world) config() Config {
	return Config{Term: w.term, SessionTTL: 5 * time.Second, Nonce: func() string {
		w.nonces++
		return fmt.Sprintf("nonce-%d", w.nonces)
	}}
}

// elect makes a new core and lists everything to it.
func (w *world) elect() error {
	w.revision++
	w.term, w.pending, w.queue = w.revision, nil, nil
	core, err := NewCore(w.config(), w.now)
	if err != nil {
		return err
	}
	w.core = core
	for _, in := range w.listing() {
		w.step(in)
	}
	w.step(Listed{})
	return nil
}

func (w *world) listing() []Input {
	inputs := []Input{MetaSeen{observed(w.meta)}}
	for _, id := range slices.SortedFunc(maps.Keys(w.specs), changefeed.ID.Compare) {
		e := w.specs[id]
		inputs = append(inputs, SpecSeen{id, observed(e)})
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.epochs), changefeed.ID.Compare) {
		e := w.epochs[id]
		inputs = append(inputs, EpochSeen{id, observed(e)})
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.statuses), changefeed.ID.Compare) {
		e := w.statuses[id]
		inputs = append(inputs, StatusSeen{id, observed(e)})
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.handoffs), changefeed.ID.Compare) {
		e := w.handoffs[id]
		inputs = append(inputs, HandoffSeen{id, observed(e)})
	}
	for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
		e := w.nodes[id]
		inputs = append(inputs, NodeSeen{id, observed(e)})
	}
	for _, name := range slices.Sorted(maps.Keys(w.drains)) {
		mod := w.drains[name]
		inputs = append(inputs, DrainSeen{name, Observed[record.Drain]{Value: &record.Drain{}, Revision: mod}})
	}
	return inputs
}

func observed[T any](e entry[T]) Observed[T] {
	if e.fault != "" {
		return Observed[T]{Revision: e.mod, Fault: e.fault}
	}
	return Observed[T]{Value: &e.value, Revision: e.mod}
}

// watch delivers an observation, or holds it back.
func (w *world) watch(inputs ...Input) {
	w.queue = append(w.queue, inputs...)
	w.release()
}

func (w *world) release() {
	for !w.held && len(w.queue) > 0 && w.core != nil {
		in := w.queue[0]
		w.queue = w.queue[1:]
		w.step(in)
	}
	if w.core == nil {
		w.queue = nil
	}
}

func (w *world) tick(d changefeed.Duration) {
	w.now = w.now.Add(d)
	w.step(Tick{WatchAge: w.age})
}

func (w *world) step(in Input) {
	for _, effect := range w.core.Step(w.now, in) {
		switch effect := effect.(type) {
		case Bumped:
			w.bumped = append(w.bumped, effect.Record)
		case Invalid, WritesFailing, Distrust:
		default:
			w.pending = append(w.pending, effect)
		}
		w.out = append(w.out, describe(effect))
	}
}

func describe(effect Effect) string {
	switch e := effect.(type) {
	case Bump:
		how := ""
		if e.Decision.Planned {
			how = ", planned"
		}
		if e.Decision.Unanswered {
			how += ", unanswered"
		}
		return fmt.Sprintf("→ bump %s to %s: %s%s", e.Decision.ID.Name, orNobody(e.Decision.OwnerName), e.Decision.Reason, how)
	case RequestHandoff:
		return fmt.Sprintf("→ ask the owner of %s at epoch %d to release to %s: %s", e.Handoff.ID.Name, e.Handoff.Epoch,
			orNobody(e.Handoff.ToName), e.Handoff.Reason)
	case Remove:
		return "→ remove " + e.Removal.ID.Name
	case TrimHistory:
		return "→ trim the history of " + e.ID.Name
	case RaiseLevel:
		return fmt.Sprintf("→ raise the level to %d", e.Level)
	case Expel:
		return fmt.Sprintf("→ revoke the lease of %s, evicted by %s", e.Expulsion.Node, e.Expulsion.UID)
	case Probe:
		return "→ probe"
	case Bumped:
		return fmt.Sprintf("%s is at epoch %d of %s, owned by %s", e.ID.Name, e.Record.Epoch, e.Record.UID, orNobody(e.Record.OwnerName))
	case Invalid:
		return fmt.Sprintf("%s is left alone: %s %s", e.ID.Name, e.Record, e.Fault)
	case Distrust:
		return "distrusts what is watched of " + e.ID.Name
	case WritesFailing:
		if e.Err == nil {
			return "writes succeed again"
		}
		return "writes fail: " + e.Err.Error()
	default:
		return fmt.Sprintf("%#v", effect)
	}
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func (w *world) say() string {
	out := strings.Join(w.out, "\n")
	w.out = nil
	return out
}

// The writes of others.

func (w *world) putNode(name string, liveness record.Liveness) {
	w.revision++
	id := changefeed.NodeID(name)
	w.nodes[id] = entry[record.Node]{value: record.Node{ID: id, Name: strings.TrimRight(name, "'"), Level: w.level + 1, Liveness: liveness}, mod: w.revision}
	w.watch(NodeSeen{id, observed(w.nodes[id])})
}

// cutNode has a node say which others it can't reach.
func (w *world) cutNode(name string, from ...string) {
	w.revision++
	id := changefeed.NodeID(name)
	e := w.nodes[id]
	e.value.Unreachable = nil
	for _, other := range from {
		e.value.Unreachable = append(e.value.Unreachable, changefeed.NodeID(other))
	}
	e.mod = w.revision
	w.nodes[id] = e
	w.watch(NodeSeen{id, observed(e)})
}

// evict stores an eviction, or its acknowledgement.
func (w *world) evict(uid, node string, acknowledged *time.Time) {
	w.revision++
	w.watch(EvictionSeen{changefeed.UID(uid), changefeed.NodeID(node), Observed[record.Eviction]{
		Value: &record.Eviction{Epoch: 11, Seq: 3, AcknowledgedAt: acknowledged}, Revision: w.revision,
	}})
}

func (w *world) loseNode(name string) {
	w.revision++
	delete(w.nodes, changefeed.NodeID(name))
	w.watch(NodeSeen{ID: changefeed.NodeID(name), Observed: Observed[record.Node]{Revision: w.revision}})
}

func (w *world) drain(name string) {
	w.revision++
	w.drains[name] = w.revision
	w.watch(DrainSeen{name, Observed[record.Drain]{Value: &record.Drain{}, Revision: w.revision}})
}

func (w *world) undrain(name string) {
	w.revision++
	delete(w.drains, name)
	w.watch(DrainSeen{name, Observed[record.Drain]{Revision: w.revision}})
}

func (w *world) putMeta(change func(*record.Meta)) {
	w.revision++
	change(&w.meta.value)
	w.meta.mod = w.revision
	w.watch(MetaSeen{observed(w.meta)})
}

// putSpec writes a spec; the write drops what was asked for once, as the API does.
func (w *world) putSpec(id changefeed.ID, change func(*record.Spec)) {
	e, found := w.specs[id]
	if !found {
		e.value = record.Spec{
			UID: changefeed.UID(fmt.Sprintf("uid%d", w.revision)), Namespace: id.Namespace, Name: id.Name,
			Desired: changefeed.DesiredRunning,
		}
	}
	w.revision++
	e.value.Move, e.value.Bump, e.fault = nil, "", ""
	change(&e.value)
	e.mod = w.revision
	w.specs[id] = e
	w.watch(SpecSeen{id, observed(e)})
}

// putStatus writes a status as the owner of the current epoch does.
func (w *world) putStatus(id changefeed.ID, state changefeed.State, done changefeed.Desired, nextTry changefeed.Duration) bool {
	epoch, found := w.epochs[id]
	if !found || epoch.value.Owner == "" {
		return false
	}
	w.revision++
	at := time.Unix(1_700_000_000, int64(w.now))
	status := record.Status{UID: epoch.value.UID, Epoch: epoch.value.Epoch, State: state, ReleasedFor: done, At: at}
	if nextTry > 0 {
		next := at.Add(nextTry)
		status.Error = &record.Error{Code: changefeed.CodeSourceUnreachable, NextTry: &next}
	}
	w.statuses[id] = entry[record.Status]{value: status, mod: w.revision}
	w.watch(StatusSeen{id, observed(w.statuses[id])})
	return true
}

// watchLate has a status watched that a former owner wrote.
func (w *world) watchLate(id changefeed.ID, epoch fence.Epoch, state changefeed.State) {
	w.revision++
	w.watch(StatusSeen{id, Observed[record.Status]{
		Value: &record.Status{UID: w.epochs[id].value.UID, Epoch: epoch, State: state}, Revision: w.revision,
	}})
}

// How a write is answered.
type answer string

const (
	answerOK      answer = "ok"      // done by compare-and-set
	answerLost    answer = "lost"    // likewise, but the answer says that it isn't known
	answerUnknown answer = "unknown" // not done, and the answer says that it isn't known
	answerFail    answer = "fail"    // not done
)

func (w *world) answer(effect Effect, how answer) {
	class := func(apply func() error) error {
		switch how {
		case answerFail:
			return errFull
		case answerUnknown:
			return fence.ErrUnknown
		case answerLost:
			_ = apply()
			return fence.ErrUnknown
		default:
			return apply()
		}
	}
	var reply Input
	switch e := effect.(type) {
	case Bump:
		var outcome Outcome
		err := class(func() error { outcome = w.bump(w.term, e.Decision); return outcome.Err })
		if err != nil {
			outcome = Outcome{Err: err}
		}
		reply = BumpAnswered{ID: e.Decision.ID, Nonce: e.Decision.Nonce, Outcome: outcome}
	case RequestHandoff:
		reply = HandoffAnswered{Handoff: e.Handoff, Err: class(func() error { return w.ask(e.Handoff) })}
	case Remove:
		reply = RemoveAnswered{Removal: e.Removal, Err: class(func() error { return w.remove(e.Removal) })}
	case TrimHistory:
		reply = TrimAnswered{ID: e.ID, Err: class(func() error { return nil })}
	case RaiseLevel:
		reply = LevelAnswered{Err: class(func() error { w.putMeta(func(m *record.Meta) { m.Level = e.Level }); return nil })}
	case Expel:
		reply = ExpelAnswered{Expulsion: e.Expulsion, Err: class(func() error { w.loseNode(string(e.Expulsion.Node)); return nil })}
	case Probe:
		reply = ProbeAnswered{Err: class(func() error { return nil })}
	}
	w.step(reply)
}

// answerAll answers what is pending now, in order.
func (w *world) answerAll(how answer) {
	pending := w.pending
	w.pending = nil
	for _, effect := range pending {
		w.answer(effect, how)
	}
}

// settle answers until nothing is pending.
func (w *world) settle() {
	for range 1000 {
		if len(w.pending) == 0 {
			return
		}
		w.answerAll(answerOK)
	}
}

func (w *world) bump(term int64, d Decision) Outcome {
	epoch := w.epochs[d.ID]
	if term == w.term && d.Nonce != "" && epoch.value.Nonce == d.Nonce {
		return Outcome{Record: epoch.value, Revision: epoch.mod} // the first attempt was done
	}
	stale := term != w.term || epoch.mod != d.PreviousRevision || w.specs[d.ID].mod != d.SpecRevision || w.meta.mod != d.MetaRevision
	if stale || d.Planned && w.statuses[d.ID].mod != d.StatusRevision {
		return Outcome{Err: fence.ErrStale}
	}
	next := record.Epoch{
		UID: d.UID, Epoch: fence.Next(epoch.value.Epoch, uint64(w.revision), d.Floor), Owner: d.Owner, OwnerName: d.OwnerName,
		Term: term, SpecRevision: d.SpecRevision, Reason: d.Reason, Nonce: d.Nonce,
	}
	w.revision++
	w.epochs[d.ID] = entry[record.Epoch]{value: next, mod: w.revision}
	inputs := []Input{EpochSeen{d.ID, observed(w.epochs[d.ID])}}
	if _, asked := w.handoffs[d.ID]; asked {
		delete(w.handoffs, d.ID)
		inputs = append(inputs, HandoffSeen{ID: d.ID, Observed: Observed[record.Handoff]{Revision: w.revision}})
	}
	outcome := Outcome{Record: next, Revision: w.revision}
	w.queue = append(w.queue, inputs...) // the answer may come before or after
	return outcome
}

func (w *world) ask(h Handoff) error {
	if w.epochs[h.ID].mod != h.EpochRevision {
		return fence.ErrStale
	}
	w.revision++
	w.handoffs[h.ID] = entry[record.Handoff]{mod: w.revision, value: record.Handoff{
		UID: h.UID, Epoch: h.Epoch, To: h.To, ToName: h.ToName, Reason: h.Reason,
	}}
	w.queue = append(w.queue, HandoffSeen{h.ID, observed(w.handoffs[h.ID])})
	return nil
}

func (w *world) remove(r Removal) error {
	if w.epochs[r.ID].mod != r.EpochRevision || w.specs[r.ID].mod != r.SpecRevision {
		return fence.ErrStale
	}
	w.revision++
	delete(w.specs, r.ID)
	delete(w.epochs, r.ID)
	delete(w.statuses, r.ID)
	delete(w.handoffs, r.ID)
	w.queue = append(w.queue,
		SpecSeen{r.ID, Observed[record.Spec]{Revision: w.revision}}, EpochSeen{r.ID, Observed[record.Epoch]{Revision: w.revision}},
		StatusSeen{r.ID, Observed[record.Status]{Revision: w.revision}}, HandoffSeen{r.ID, Observed[record.Handoff]{Revision: w.revision}})
	w.out = append(w.out, r.ID.Name+" is removed")
	return nil
}

func (w *world) names() []changefeed.ID {
	return slices.SortedFunc(maps.Keys(w.specs), changefeed.ID.Compare)
}
