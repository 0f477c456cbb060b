package maintainer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

var errUnreachable = errors.New("no route to host")

// bench holds one core and stands in for its records, its sink and its source. Requests are answered at once, unless
// they are held or told to fail; messages to hosts are kept.
type bench struct {
	serial  bool // the source has one log
	core    *Core
	now     changefeed.Time
	own     Ownership
	current Ownership // what the records say
	spec    StoredSpec
	status  StoredStatus
	nodes   Nodes
	fencing Fencing
	synced  change.Position // the sink's newest sync point
	whole   changefeed.Span
	head    change.Position
	fails   map[string]error // by request name
	held    map[string]bool
	pending []Effect
	queue   []Effect
	doing   bool
	sent    []message.Envelope
	trace   []string
	outcome Outcome
	evicts  []Evict // that were written, in order
	writes  []record.Status
	applied bool // a status write of unknown outcome was applied
}

var testID = changefeed.ID{Namespace: "default", Name: "a"}

func newBench(epoch fence.Epoch, nodes ...string) *bench {
	own := Ownership{
		ID: testID, Revision: int64(epoch) * 10,
		Record: record.Epoch{UID: "u1", Epoch: epoch, Owner: "n1", SpecRevision: 3},
	}
	b := &bench{
		own: own, current: own, now: changefeed.Time(time.Second), fencing: FencedByClaims, head: 500,
		fails: map[string]error{}, held: map[string]bool{},
		spec: StoredSpec{Revision: 3, Spec: record.Spec{
			UID: "u1", Namespace: "default", Name: "a", Start: record.StartSnapshot, Desired: changefeed.DesiredRunning,
		}},
	}
	for _, name := range nodes {
		b.nodes.Nodes = append(b.nodes.Nodes, record.Node{ID: changefeed.NodeID(name), Name: name, Liveness: record.Alive})
	}
	b.nodes.Revision = 1
	b.core = NewCore(DefaultConfig("n1"), own)
	return b
}

// ran says that a status was stored by an earlier owner.
func (b *bench) ran(checkpoint change.Position, spans int) *bench {
	b.status = StoredStatus{Revision: 40, Status: record.Status{
		UID: "u1", Epoch: b.own.Record.Epoch - 1, State: changefeed.StateRunning, Checkpoint: checkpoint, Spans: spans,
	}}
	return b
}

func (b *bench) wall() Now {
	return Now{At: b.now, Wall: time.Unix(1_800_000_000, 0).UTC().Add(time.Duration(b.now))}
}

// step tells the core something and answers what it asks.
func (b *bench) step(in Input) {
	b.do(b.core.Step(b.wall(), in))
}

// do answers effects in the order in which they were decided.
func (b *bench) do(effects []Effect) {
	b.queue = append(b.queue, effects...)
	if b.doing {
		return
	}
	b.doing = true
	for len(b.queue) > 0 {
		effect := b.queue[0]
		b.queue = b.queue[1:]
		b.note(effect)
		if in := b.answer(effect); in != nil {
			b.step(in)
		}
	}
	b.doing = false
}

// pass lets time pass in small steps.
func (b *bench) pass(d time.Duration) {
	const stride = 50 * time.Millisecond
	for ; d > 0; d -= stride {
		b.now = b.now.Add(min(d, stride))
		b.step(Ticked{})
	}
}

func (b *bench) release(name string) {
	delete(b.held, name)
	waiting := b.pending
	b.pending = nil
	for _, effect := range waiting {
		if in := b.answer(effect); in != nil {
			b.step(in)
		}
	}
}

func requestName(effect Effect) string {
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", effect), "maintainer."))
}

func (b *bench) answer(effect Effect) Input {
	name := requestName(effect)
	switch effect := effect.(type) {
	case Send:
		b.sent = append(b.sent, effect.Envelope)
		return nil
	case End:
		b.outcome = effect.Outcome
		return nil
	}
	if b.held[name] {
		b.pending = append(b.pending, effect)
		return nil
	}
	err := b.fails[name]
	switch effect := effect.(type) {
	case ReadRecords:
		return RecordsRead{Spec: b.spec, Status: b.status, Err: err}
	case Open:
		return Opened{Whole: b.whole, Fencing: b.fencing, Syncs: b.fencing == FencedByClaims, Serial: b.serial, Err: err}
	case Raise:
		return Raised{Epoch: effect.Epoch, Err: err}
	case ResolveStart:
		return StartResolved{Position: b.head, SourceID: "s1", Err: err}
	case ListNodes:
		return NodesListed{Nodes: b.nodes, Err: err}
	case RemoveSink:
		return SinkRemoved{Err: err}
	case DropSource:
		return SourceDropped{Err: err}
	case WriteStatus:
		return b.write(effect, err)
	case ReadStatus:
		return StatusRead{Stored: b.status, Err: err}
	case ReadEpoch:
		return EpochRead{Ownership: b.current, Err: err}
	case Evict:
		if err == nil && b.current.Revision == b.own.Revision {
			b.evicts = append(b.evicts, effect)
		} else if err == nil {
			err = fence.ErrStale
		}
		return EvictionPut{Node: effect.Node, Err: err}
	case DropEviction:
		return EvictionDropped{Node: effect.Node, Err: err}
	case ReadSync:
		return SyncRead{Position: b.synced, Err: err}
	}
	return nil
}

func (b *bench) write(effect WriteStatus, err error) Input {
	if err != nil && !(errors.Is(err, fence.ErrUnknown) && b.applied) {
		return StatusWritten{Err: err}
	}
	if b.current.Revision != b.own.Revision || effect.Previous != b.status.Revision {
		return StatusWritten{Err: fence.ErrStale}
	}
	b.status = StoredStatus{Status: effect.Status, Revision: b.status.Revision + 1}
	b.writes = append(b.writes, effect.Status)
	return StatusWritten{Revision: b.status.Revision, Err: err}
}

func (b *bench) note(effect Effect) {
	line := describe(effect)
	if line != "" {
		b.trace = append(b.trace, line)
	}
}

// taken returns what was traced since the last time.
func (b *bench) taken() []string {
	out := b.trace
	b.trace = nil
	return out
}

func describe(effect Effect) string {
	switch effect := effect.(type) {
	case Raise:
		return fmt.Sprintf("raise the floor to %d", effect.Epoch)
	case WriteStatus:
		return "store " + describeStatus(&effect.Status)
	case Send:
		return describeMessage(&effect.Envelope)
	case Moved:
		return "set in motion: " + effect.Why.String()
	case End:
		return "end: " + effect.Outcome.String()
	case ReadRecords:
		return "read spec and status"
	case ReadStatus:
		return "read the status back"
	case ReadEpoch:
		return "read the epoch record"
	case Evict:
		return fmt.Sprintf("evict %s up to %v", effect.Node, effect.Token)
	case DropEviction:
		return fmt.Sprintf("delete the eviction of %s", effect.Node)
	case RemoveSink:
		return "remove from the sink"
	case DropSource:
		return "remove from the source"
	case ServeLog:
		return fmt.Sprintf("read and serve the log of %s, stored at %d", effect.SourceID, effect.Stored)
	case Acknowledge:
		return fmt.Sprintf("let the source forget up to %d", effect.Stored)
	case ResolveStart:
		return "ask the source for its head"
	case ListNodes:
		return "list nodes"
	case ReadSync:
		return "ask the sink for its newest sync point"
	}
	return ""
}

func describeStatus(status *record.Status) string {
	out := fmt.Sprintf("%s at %d, spans %d", status.State, status.Checkpoint, status.Spans)
	if status.StartPosition != nil {
		out += fmt.Sprintf(", started at %d", *status.StartPosition)
	}
	if status.ReleasedFor != "" {
		out += ", done for " + string(status.ReleasedFor)
	}
	if status.SyncPoint != 0 {
		out += fmt.Sprintf(", sync point %d", status.SyncPoint)
	}
	if s := status.Stalled; s != nil {
		out += fmt.Sprintf(", stalled: %s (node %q, from %q)", s.Reason, s.Node, string(s.Start))
	}
	if e := status.Error; e != nil {
		out += fmt.Sprintf(", error %s, try %d", e.Code, e.Tries)
		if e.NextTry != nil {
			out += fmt.Sprintf(", next in %v", e.NextTry.Sub(status.At).Round(time.Second))
		}
	}
	return out
}

func describeMessage(env *message.Envelope) string {
	out := fmt.Sprintf("%s → %s", env.Body.Kind(), env.To)
	switch body := env.Body.(type) {
	case message.Place:
		out += fmt.Sprintf(": %d.%d %v from %v", env.Epoch, body.Seq, body.Span, body.From)
		if body.Barrier.Number != 0 {
			out += fmt.Sprintf(", holds at %d (%d)", body.Barrier.Position, body.Barrier.Number)
		}
	case message.Barrier:
		out += fmt.Sprintf(": %s at %d (%d)", [...]string{"?", "stop", "write", "pass"}[body.Action], body.Position, body.Number)
	case message.Stop:
		out += fmt.Sprintf(": %v", body.Token)
		if body.At != (change.Mark{}) {
			out += fmt.Sprintf(" at %v", body.At)
		}
	case message.Bootstrap:
		out += fmt.Sprintf(": spec %d, checkpoint %d", 3+body.SpecRevision-generation(&body.Spec), body.Checkpoint)
	case message.Close:
		if body.Removed {
			out += ": removed"
		}
	}
	return out
}

// from brings a message of a host, under the core's epoch.
func (b *bench) from(node string, body message.Body) {
	switch body := body.(type) {
	case message.BootstrapReply:
		b.ofSpec(body.Dispatchers)
	case message.Statuses:
		b.ofSpec(body.Statuses)
	case message.Heartbeat:
		b.ofSpec(body.Changed)
	}
	b.step(Received{Envelope: message.Envelope{
		ID: testID, UID: b.own.Record.UID, Epoch: b.own.Record.Epoch, From: changefeed.NodeID(node), To: "n1", Body: body,
	}})
}

// ofSpec says of statuses that are of the tests' spec, 3, that they run what the stored spec says.
func (b *bench) ofSpec(statuses []message.Status) {
	for i := range statuses {
		if statuses[i].SpecRevision == 3 {
			statuses[i].SpecRevision = generation(&b.spec.Spec)
		}
	}
}

// statusOf makes a status of the current spec.
func statusOf(span changefeed.Span, token fence.Token, state message.DispatcherState, at change.Position) message.Status {
	return message.Status{
		Span: span, Token: token, State: state, SpecRevision: 3, Mark: change.At(at), Known: true, Resolved: at,
	}
}

// digestOf is what a host that runs these says.
func digestOf(statuses ...message.Status) message.Digest {
	var out message.Digest
	for _, status := range statuses {
		out.Add(status.Span, status.Token)
	}
	return out
}

func span(start, end string) changefeed.Span {
	return changefeed.Span{Start: []byte(start), End: []byte(end)}
}

// lastSent returns the last message of a kind, and whether there is one.
func (b *bench) lastSent(kind message.Kind) (message.Envelope, bool) {
	for _, env := range slices.Backward(b.sent) {
		if env.Body.Kind() == kind {
			return env, true
		}
	}
	return message.Envelope{}, false
}

func (b *bench) countSent(kind message.Kind) int {
	count := 0
	for _, env := range b.sent {
		if env.Body.Kind() == kind {
			count++
		}
	}
	return count
}
