package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/node/records"
	"fencerow/record"
)

// hosts drives the dispatcher host of one life: a core for each changefeed that it has heard of.
type hosts struct {
	life    *life
	feeds   map[changefeed.ID]*hosted
	records map[changefeed.ID]record.Epoch
	opened  bool // the records were listed
	evicted map[changefeed.UID]dispatcher.Evicted
}

// hosted drives one core.
type hosted struct {
	host    *hosts
	life    *life
	id      changefeed.ID
	core    *dispatcher.Core
	pumps   map[fence.Token]*pump
	dirty   []*pump
	awake   uint64 // number of the timer that counts
	reading int
	acking  int // acknowledgements under way
}

func newHosts(l *life) *hosts {
	return &hosts{
		life: l, feeds: map[changefeed.ID]*hosted{}, records: map[changefeed.ID]record.Epoch{},
		evicted: map[changefeed.UID]dispatcher.Evicted{},
	}
}

func (h *hosts) running() int {
	n := 0
	for _, f := range h.feeds {
		n += f.core.Running()
	}
	return n
}

func (h *hosts) feed(id changefeed.ID) *hosted {
	f := h.feeds[id]
	if f != nil {
		return f
	}
	f = &hosted{
		host: h, life: h.life, id: id, pumps: map[fence.Token]*pump{},
		core: dispatcher.NewCore(dispatcher.CoreConfig{
			ID: id, Node: h.life.id, Legacy: h.life.level == record.LevelBeforeEpochs, Memory: h.life.world.plan.Memory,
		}),
	}
	h.feeds[id] = f
	if known, found := h.records[id]; found {
		f.input(dispatcher.Observed{Record: known})
		if eviction, evicted := h.evicted[known.UID]; evicted {
			f.input(eviction)
		}
	}
	if h.opened {
		f.input(dispatcher.Listed{})
	}
	return f
}

func (h *hosts) deliver(env message.Envelope) {
	f := h.feed(env.ID)
	f.input(dispatcher.Deliver{Envelope: env})
	f.settle()
}

func (h *hosts) each(do func(*hosted)) {
	for _, id := range slices.SortedFunc(maps.Keys(h.feeds), changefeed.ID.Compare) {
		if f := h.feeds[id]; f != nil {
			do(f)
		}
	}
}

func (h *hosts) listed(update epochstore.Update) {
	known := map[changefeed.ID]record.Epoch{}
	for _, change := range update.Changes {
		if own, ok := records.Ownership(change); ok {
			known[own.ID] = own.Record
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(h.records), changefeed.ID.Compare) {
		if _, found := known[id]; !found {
			h.forgetRecord(id)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(known), changefeed.ID.Compare) {
		h.observe(id, known[id])
	}
	if !h.opened {
		h.opened = true
		h.each(func(f *hosted) {
			f.input(dispatcher.Listed{})
			f.settle()
		})
	}
}

func (h *hosts) observed(change epochstore.Change) {
	if change.Deleted {
		h.forgetRecord(change.Ref.ID)
	} else if own, ok := records.Ownership(change); ok {
		h.observe(own.ID, own.Record)
	}
}

func (h *hosts) observe(id changefeed.ID, watched record.Epoch) {
	before := h.records[id].UID
	h.records[id] = watched
	if f := h.feeds[id]; f != nil {
		f.input(dispatcher.Observed{Record: watched})
		f.settle()
	}
	if eviction, found := h.evicted[watched.UID]; found && before != watched.UID {
		h.evict(id, eviction)
	}
}

func (h *hosts) forgetRecord(id changefeed.ID) {
	last, found := h.records[id]
	if !found {
		return
	}
	delete(h.records, id)
	if f := h.feeds[id]; f != nil {
		f.input(dispatcher.RecordDeleted{Record: last})
		f.settle()
	}
}

func (h *hosts) leave() {
	h.each(func(f *hosted) { f.input(dispatcher.Leaving{}) })
}

func (h *hosts) sessionEnded() {
	h.each(func(f *hosted) { f.input(dispatcher.SessionEnded{}) })
}

// input tells the core what the pumps have to tell, and then one thing.
func (f *hosted) input(in dispatcher.Input) {
	dirty := f.dirty
	f.dirty = nil
	for _, p := range dirty {
		p.dirty = false
		f.step(dispatcher.Reported{Token: p.start.Token, Progress: p.progress})
	}
	f.step(in)
	f.schedule()
}

// settle forgets a core that holds nothing.
func (f *hosted) settle() {
	if f.reading == 0 && f.acking == 0 && len(f.dirty) == 0 && len(f.pumps) == 0 && f.core.Idle() && f.host.feeds[f.id] == f {
		delete(f.host.feeds, f.id)
		f.awake++
	}
}

// schedule has the core ticked when it wants to be.
func (f *hosted) schedule() {
	at, found := f.core.Due()
	f.awake++
	if !found {
		return
	}
	mine := f.awake
	f.life.timer(at.Sub(f.life.clock.read()), func() {
		if f.awake == mine {
			f.input(dispatcher.Tick{})
			f.settle()
		}
	})
}

func (f *hosted) step(in dispatcher.Input) {
	w := f.life.world
	w.given(toDispatchers)
	for _, effect := range f.core.Step(f.life.clock.read(), in) {
		switch effect := effect.(type) {
		case dispatcher.Send:
			w.post(f.life, effect.Envelope)
		case dispatcher.Refused:
			w.census.Fences[effect.Refusal]++
			w.say("refused   %v of %v on %s by %s", effect.Command, f.id, f.life.id, effect.Refusal.Rule())
		case dispatcher.ReadRecord:
			f.readRecord(effect.Request)
		case dispatcher.StartPump:
			w.see(StartFact{Node: f.life.id, ID: f.id, UID: effect.UID, Token: effect.Token, Span: effect.Span})
			f.startPump(effect)
		case dispatcher.StopPump:
			if p := f.pumps[effect.Token]; p != nil {
				p.stop(effect.At)
			}
		case dispatcher.HoldPump:
			if p := f.pumps[effect.Token]; p != nil {
				p.hold = hold{order: effect.Order, at: effect.At}
			}
		case dispatcher.SyncPump:
			if p := f.pumps[effect.Token]; p != nil {
				p.hold.sync = p.hold.at == effect.At
			}
		case dispatcher.CancelPump:
			if p := f.pumps[effect.Token]; p != nil {
				p.cancel()
			}
		case dispatcher.AcknowledgeEviction:
			f.acknowledge(effect)
		}
	}
}

func (f *hosted) readRecord(request uint64) {
	f.reading++
	f.life.world.spawn(f.life, func(t *task) {
		t.bound(requestWait)
		epoch, found, err := records.Maintaining{Store: f.life.store}.Epoch(never{}, f.id)
		in := dispatcher.RecordAnswer{Request: request, Record: epoch, Found: found, Failed: err != nil}
		if found {
			f.life.world.see(KnownFact{Node: f.life.id, ID: f.id, UID: epoch.UID, Epoch: epoch.Epoch})
		}
		f.reading--
		f.input(in)
		f.settle()
	})
}

// tell shows a message's body in the story.
func tell(body message.Body) string {
	switch body := body.(type) {
	case message.Bootstrap:
		return fmt.Sprintf("spec revision %d, checkpoint %d", body.SpecRevision, body.Checkpoint)
	case message.BootstrapReply:
		return tellStatuses(body.Dispatchers)
	case message.Statuses:
		return tellStatuses(body.Statuses)
	case message.Heartbeat:
		return fmt.Sprintf("#%d %v checkpoint %d resolved %d held %+v; %s", body.Number, body.Set, body.Checkpoint, body.Resolved, body.Held,
			tellStatuses(body.Changed))
	default:
		return fmt.Sprintf("%+v", body)
	}
}

func tellStatuses(statuses []message.Status) string {
	parts := make([]string, 0, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		parts = append(parts, fmt.Sprintf("%v %v %v at %v (known %t)", s.Token, s.Span, s.State, s.Mark, s.Known))
	}
	return strings.Join(parts, "; ")
}

// pumpRetry bounds the pauses of a pump between two tries.
const (
	pumpRetryFirst   = 100 * time.Millisecond
	pumpRetryLongest = 10 * time.Second
)
