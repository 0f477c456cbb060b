package dispatcher

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// TestScenarios tells the core's story as text: each file in testdata begins with its goal.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		world := newWorld(CoreConfig{ID: testID, Node: "host", Legacy: strings.Contains(path, "legacy")})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			return world.run(t, d)
		})
	})
}

var testID = changefeed.ID{Namespace: "default", Name: "orders"}

// world is one core and its clock.
type world struct {
	core *Core
	now  changefeed.Time
}

func newWorld(config CoreConfig) *world { return &world{core: NewCore(config), now: 1} }

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	var out strings.Builder
	for _, line := range append([]string{strings.Join(append([]string{d.Cmd}, args(d)...), " ")}, inputLines(d)...) {
		words := strings.Fields(line)
		if words[0] == "state" {
			out.WriteString(w.state())
			continue
		}
		if words[0] == "tick" {
			pause, err := time.ParseDuration(words[1])
			require.NoError(t, err)
			w.now = w.now.Add(pause)
		}
		for _, effect := range w.core.Step(w.now, parseInput(t, words)) {
			fmt.Fprintln(&out, describe(effect))
		}
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

func inputLines(d *datadriven.TestData) []string {
	if strings.TrimSpace(d.Input) == "" {
		return nil
	}
	return strings.Split(strings.TrimSpace(d.Input), "\n")
}

func args(d *datadriven.TestData) []string {
	var out []string
	for _, arg := range d.CmdArgs {
		if len(arg.Vals) == 0 {
			out = append(out, arg.Key)
			continue
		}
		out = append(out, arg.Key+"="+strings.Join(arg.Vals, ","))
	}
	return out
}

func (w *world) state() string {
	held := w.core.gate.Held()
	due := "no tick due"
	if at, found := w.core.Due(); found {
		due = fmt.Sprintf("tick due in %v", max(at.Sub(w.now), 0))
	}
	return fmt.Sprintf("holds %q epoch %d owner %q, running %d, waiting %d, idle %v, %s\n",
		held.UID, held.Epoch, held.Owner, w.core.Running(), len(w.core.waiting.items), w.core.Idle(), due)
}

// words are key=value arguments.
type words map[string]string

func (a words) number(t *testing.T, key string) uint64 {
	t.Helper()
	if a[key] == "" {
		return 0
	}
	n, err := strconv.ParseUint(a[key], 10, 64)
	require.NoError(t, err, key)
	return n
}

func (a words) token(t *testing.T) fence.Token {
	t.Helper()
	epoch, seq, found := strings.Cut(a["token"], ".")
	require.True(t, found, "token")
	e, err := strconv.ParseUint(epoch, 10, 64)
	require.NoError(t, err)
	s, err := strconv.ParseUint(seq, 10, 64)
	require.NoError(t, err)
	return fence.Mint(fence.Epoch(e), fence.Seq(s))
}

func (a words) or(key, otherwise string) string {
	if value, found := a[key]; found {
		return value
	}
	return otherwise
}

func (a words) record(t *testing.T) record.Epoch {
	t.Helper()
	return record.Epoch{
		UID: changefeed.UID(a.or("uid", "u")), Epoch: fence.Epoch(a.number(t, "epoch")), Owner: changefeed.NodeID(a["owner"]),
	}
}

// barrier reads `n=1 position=50 stop`, of which stop is the default; none without the key of its number.
func (a words) barrier(t *testing.T, number string) message.Barrier {
	t.Helper()
	if _, found := a[number]; !found {
		return message.Barrier{}
	}
	action := message.BarrierStop
	if _, found := a["write"]; found {
		action = message.BarrierWrite
	}
	if _, found := a["pass"]; found {
		action = message.BarrierPass
	}
	return message.Barrier{Number: a.number(t, number), Position: change.Position(a.number(t, "position")), Action: action}
}

func (a words) envelope(t *testing.T, body message.Body) Input {
	t.Helper()
	return Deliver{Envelope: message.Envelope{
		ID: testID, UID: changefeed.UID(a.or("uid", "u")), Epoch: fence.Epoch(a.number(t, "epoch")),
		From: changefeed.NodeID(a["from"]), To: changefeed.NodeID(a.or("to", "host")), Body: body,
	}}
}

func parseSpan(text string) changefeed.Span {
	start, end, _ := strings.Cut(text, "-")
	span := changefeed.Span{Start: []byte(start), End: []byte(end)}
	if end == "" {
		span.End = nil
	}
	return span
}

func parseInput(t *testing.T, line []string) Input {
	t.Helper()
	a := words{}
	for _, word := range line[1:] {
		key, value, _ := strings.Cut(word, "=")
		a[key] = value
	}
	has := func(key string) bool { _, found := a[key]; return found }
	switch line[0] {
	case "listed":
		return Listed{}
	case "upgraded":
		return Upgraded{}
	case "observe":
		return Observed{Record: a.record(t)}
	case "deleted":
		return RecordDeleted{Record: a.record(t)}
	case "answer":
		return RecordAnswer{
			Request: a.number(t, "request"), Record: a.record(t), Found: !has("none") && !has("failed"), Failed: has("failed"),
		}
	case "bootstrap":
		return a.envelope(t, message.Bootstrap{SpecRevision: int64(a.number(t, "spec")), SourceID: a["source"]}) //nolint:gosec // small
	case "place":
		return a.envelope(t, message.Place{
			Seq: fence.Seq(a.number(t, "seq")), Span: parseSpan(a["span"]),
			From: change.At(change.Position(a.number(t, "start"))), Barrier: a.barrier(t, "barrier"),
		})
	case "stop":
		return a.envelope(t, message.Stop{Token: a.token(t), At: change.At(change.Position(a.number(t, "at")))})
	case "close":
		return a.envelope(t, message.Close{Removed: has("removed")})
	case "list":
		list := message.ListStatuses{}
		if has("halve") {
			var epoch fence.Epoch
			var seq fence.Seq
			_, err := fmt.Sscanf(a["halve"], "%d.%d", &epoch, &seq)
			require.NoError(t, err)
			list.Halve = fence.Mint(epoch, seq)
		}
		return a.envelope(t, list)
	case "closed":
		return a.envelope(t, message.Closed{})
	case "barrier":
		return a.envelope(t, a.barrier(t, "n"))
	case "evict":
		return Evicted{UID: "u", Token: a.token(t), Acknowledged: has("acknowledged")}
	case "report", "ended":
		return parseReport(t, line[0], a)
	case "tick":
		return Tick{}
	case "leave":
		return Leaving{}
	case "session-ended":
		return SessionEnded{}
	}
	t.Fatalf("unknown command %q", line)
	return nil
}

func parseReport(t *testing.T, kind string, a words) Input {
	t.Helper()
	_, claimed := a["mark"]
	_, unknown := a["unknown"]
	_, fenced := a["fenced"]
	progress := Progress{
		Claimed: claimed, Known: claimed && !unknown, Mark: change.At(change.Position(a.number(t, "mark"))),
		Resolved: change.Position(a.number(t, "resolved")), SourceID: a["source"], WaitingOn: a["waits"],
		Order: a.number(t, "order"), Highest: change.Position(max(a.number(t, "mark"), a.number(t, "highest"))),
		Synced: change.Position(a.number(t, "synced")),
	}
	if a["rate"] != "" {
		progress.Rate, progress.RateAt = uint32(a.number(t, "rate")), changefeed.Time(a.number(t, "at"))*changefeed.Time(changefeed.Second)
		progress.Half = &message.Half{Key: []byte("k"), Percent: 52}
	}
	var fault *changefeed.Fault
	if a["fault"] != "" {
		fault = &changefeed.Fault{Code: changefeed.Code(a["fault"])}
	}
	if kind == "ended" {
		return DispatcherEnded{Token: a.token(t), Progress: progress, Fault: fault, Fenced: fenced}
	}
	progress.Fault = fault
	return Reported{Token: a.token(t), Progress: progress}
}

func describe(effect Effect) string {
	switch e := effect.(type) {
	case Send:
		return fmt.Sprintf("to %s at %d: %s", e.Envelope.To, e.Envelope.Epoch, describeBody(e.Envelope.Body))
	case ReadRecord:
		return fmt.Sprintf("read record, request %d", e.Request)
	case HoldPump:
		return fmt.Sprintf("hold %v at %v, order %d", e.Token, e.At, e.Order)
	case SyncPump:
		return fmt.Sprintf("sync %v at %v", e.Token, e.At)
	case StartPump:
		if e.Hold != 0 {
			return fmt.Sprintf("start %v %v from %v, holds at %v, order %d", e.Token, e.Span, e.From, e.Hold, e.Order)
		}
		return fmt.Sprintf("start %v %v from %v, spec %d, source %q", e.Token, e.Span, e.From, e.SpecRevision, e.SourceID)
	case StopPump:
		if e.At == (change.Mark{}) {
			return fmt.Sprintf("stop %v at once", e.Token)
		}
		return fmt.Sprintf("stop %v at %v", e.Token, e.At)
	case CancelPump:
		return fmt.Sprintf("cancel %v", e.Token)
	case AcknowledgeEviction:
		return fmt.Sprintf("acknowledge eviction up to %v: %s", e.Token, describeStatuses(e.Finals))
	case Refused:
		return fmt.Sprintf("refused %v by %s", e.Command, e.Refusal.Rule())
	}
	return fmt.Sprintf("%T", effect)
}

func describeBody(body message.Body) string {
	switch b := body.(type) {
	case message.BootstrapReply:
		return "bootstrap reply " + describeStatuses(b.Dispatchers)
	case message.Statuses:
		if b.Full {
			return "all statuses " + describeStatuses(b.Statuses)
		}
		return "statuses " + describeStatuses(b.Statuses)
	case message.Heartbeat:
		return fmt.Sprintf("heartbeat of %d, checkpoint %v, resolved %v%s %s",
			b.Set.Count, b.Checkpoint, b.Resolved, describeHeld(b.Held), describeStatuses(b.Changed))
	case message.Rejected:
		return fmt.Sprintf("rejected %v by %s, offered %d, held %d", b.Command, b.Rule, b.Offered, b.Held)
	default:
		return body.Kind().String()
	}
}

// describeHeld says nothing where nothing is held.
func describeHeld(h message.Held) string {
	if h.Position == 0 && h.Number == 0 {
		return ""
	}
	return fmt.Sprintf(", holds at %v (number %d, highest %v, synced %v)", h.Position, h.Number, h.Highest, h.Synced)
}

func describeStatuses(statuses []message.Status) string {
	parts := make([]string, 0, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		text := fmt.Sprintf("%v %v", s.Token, s.State)
		if s.Known {
			text += " at " + s.Mark.String()
		}
		if s.Fault != nil {
			text += " fault " + string(s.Fault.Code)
		}
		if s.Rate != 0 {
			text += fmt.Sprintf(", %d/s since %v ago", s.Rate, s.Age)
		}
		if s.Half != nil {
			text += fmt.Sprintf(", halved at %s with %d%%", s.Half.Key, s.Half.Percent)
		}
		if s.WaitingOn != "" {
			text += fmt.Sprintf(" waits for %s since %v", s.WaitingOn, s.WaitingFor)
		}
		parts = append(parts, text)
	}
	return "[" + strings.Join(parts, "; ") + "]"
}
