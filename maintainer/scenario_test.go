package maintainer

import (
	"fmt"
	"slices"
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

// The scenarios in testdata/core are told to one maintainer core; those in testdata/host to a host core.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/core", func(t *testing.T, path string) {
		var b *bench
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				b = scenarioBench(t, d)
				return ""
			}
			b.command(t, d)
			lines := b.taken()
			if len(lines) == 0 {
				return "nothing\n"
			}
			return strings.Join(lines, "\n") + "\n"
		})
	})
}

func scenarioBench(t *testing.T, d *datadriven.TestData) *bench {
	t.Helper()
	nodes := []string{"n1"}
	if d.HasArg("nodes") {
		nodes = strings.Split(word(t, d, "nodes"), "+")
	}
	b := newBench(fence.Epoch(number(t, d, "epoch")), nodes...)
	if d.HasArg("checkpoint") {
		b.ran(change.Position(number(t, d, "checkpoint")), int(number(t, d, "spans")))
	}
	if d.HasArg("sink") {
		require.Equal(t, "none", word(t, d, "sink"))
		b.fencing = FencedByNothing
	}
	b.serial = d.HasArg("serial")
	if d.HasArg("source") {
		b.status.Status.SourceID = word(t, d, "source")
	}
	if d.HasArg("started") {
		started := change.Position(number(t, d, "started"))
		b.status.Status.StartPosition = &started
	}
	if d.HasArg("start") {
		b.spec.Spec.Start = word(t, d, "start")
	}
	b.spec.Spec.Options = changefeed.Options{}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "split", "merge":
			b.spec.Spec.Options[arg.Key+"_keys"] = strings.ReplaceAll(arg.Vals[0], "+", ",")
		case "split_traffic", "split_rate", "split_after", "merge_after":
			b.spec.Spec.Options[arg.Key] = arg.Vals[0]
		}
	}
	if d.HasArg("sync") {
		b.spec.Spec.Options[SyncPointInterval] = word(t, d, "sync")
	}
	if d.HasArg("synced") {
		b.synced = change.Position(number(t, d, "synced"))
	}
	if d.HasArg("desired") {
		b.spec.Spec.Desired = changefeed.Desired(word(t, d, "desired"))
	}
	if d.HasArg("spec") {
		b.spec.Revision = int64(number(t, d, "spec"))
	}
	if d.HasArg("tries") {
		b.status.Status.Error = &record.Error{Code: changefeed.CodeSinkFull, Tries: int(number(t, d, "tries"))}
	}
	return b
}

func word(t *testing.T, d *datadriven.TestData, name string) string {
	t.Helper()
	var out string
	d.ScanArgs(t, name, &out)
	return out
}

func number(t *testing.T, d *datadriven.TestData, name string) uint64 {
	t.Helper()
	var out uint64
	d.ScanArgs(t, name, &out)
	return out
}

func (b *bench) command(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	switch d.Cmd {
	case "start":
		b.step(Started{})
	case "pass":
		length, err := time.ParseDuration(word(t, d, "d"))
		require.NoError(t, err)
		b.pass(length)
	case "beats":
		length, err := time.ParseDuration(word(t, d, "d"))
		require.NoError(t, err)
		b.passBeating(length)
	case "fail":
		b.fails[word(t, d, "what")] = scenarioError(word(t, d, "how"))
		b.applied = d.HasArg("applied")
	case "heal":
		delete(b.fails, word(t, d, "what"))
	case "hold":
		b.held[word(t, d, "what")] = true
	case "release":
		b.release(word(t, d, "what"))
	case "reply":
		b.from(word(t, d, "node"), message.BootstrapReply{Dispatchers: parseStatuses(t, d.Input)})
	case "status":
		b.from(word(t, d, "node"), message.Statuses{Full: d.HasArg("full"), Statuses: parseStatuses(t, d.Input)})
	case "beat":
		at := change.Position(number(t, d, "at"))
		b.from(word(t, d, "node"), message.Heartbeat{
			Number: number(t, d, "n"), Set: digestOf(parseStatuses(t, d.Input)...), Checkpoint: at, Resolved: at,
			Held: heldOf(t, d, at),
		})
	case "synced":
		b.synced = change.Position(number(t, d, "at"))
	case "closed":
		b.from(word(t, d, "node"), message.Closed{})
	case "reject":
		b.reject(t, d)
	case "handoff":
		b.step(HandoffRequested{Handoff: record.Handoff{
			UID: "u1", Epoch: b.own.Record.Epoch, Reason: changefeed.Reason(word(t, d, "reason")),
		}})
	case "leave":
		b.step(NodeLeaves{})
	case "eviction":
		b.step(parseEviction(t, d))
	case "bumped":
		b.current.Revision++
	case "join", "gone", "drain", "cut", "mend":
		b.nodesCommand(d.Cmd, word(t, d, "node"))
	case "written":
		b.trace = append(b.trace, fmt.Sprintf("%d changes", b.core.View(b.now).Changes))
	case "cover":
		for _, view := range b.core.Spans(b.now) {
			b.trace = append(b.trace, fmt.Sprintf("%v %s %s on %q at %d", view.Span, view.State, view.Token, view.Node, view.Checkpoint))
		}
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
}

// passBeating lets time pass while every host reports what it runs, and leaves out of the trace that it is asked for that,
// and that all is well.
func (b *bench) passBeating(d time.Duration) {
	before := len(b.trace)
	for ; d > 0; d -= b.core.cfg.Heartbeat {
		b.pass(min(d, b.core.cfg.Heartbeat))
		for _, h := range slices.Clone(b.core.hosts) {
			b.from(string(h.id), message.Heartbeat{Number: h.number + 1, Set: h.set, Checkpoint: h.resolved, Resolved: h.resolved})
		}
	}
	said := slices.DeleteFunc(slices.Clone(b.trace[before:]), func(line string) bool {
		return line == "list_statuses → n1" || line == "list_statuses → n2" || strings.HasPrefix(line, "store running")
	})
	b.trace = append(b.trace[:before], said...)
}

// reject brings a Rejected, under the epoch of its envelope if that is not this owner's.
func (b *bench) reject(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	rejected := message.Rejected{
		Offered: b.own.Record.Epoch, Held: fence.Epoch(number(t, d, "held")), Rule: word(t, d, "rule"), Command: message.KindPlace,
	}
	if d.HasArg("token") {
		rejected.Token = parseToken(t, word(t, d, "token"))
	}
	if d.HasArg("barrier") {
		rejected.Command = message.KindBarrier
	}
	under := b.own.Record.Epoch
	if d.HasArg("under") {
		under = fence.Epoch(number(t, d, "under"))
	}
	b.step(Received{Envelope: message.Envelope{
		ID: testID, UID: "u1", Epoch: under, From: changefeed.NodeID(word(t, d, "node")), To: "n1", Body: rejected,
	}})
}

// heldOf reads `holds=50 obeys=1 highest=52 synced=50`; without highest nobody is above the checkpoint.
func heldOf(t *testing.T, d *datadriven.TestData, at change.Position) message.Held {
	t.Helper()
	held := message.Held{Highest: at}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "obeys":
			held.Number = number(t, d, "obeys")
		case "holds":
			held.Position = change.Position(number(t, d, "holds"))
		case "highest":
			held.Highest = change.Position(number(t, d, "highest"))
		case "synced":
			held.Synced = change.Position(number(t, d, "synced"))
		}
	}
	return held
}

func (b *bench) nodesCommand(cmd, name string) {
	nodes := slices.Clone(b.nodes.Nodes)
	switch cmd {
	case "join":
		nodes = append(nodes, record.Node{ID: changefeed.NodeID(name), Name: name, Liveness: record.Alive})
	case "drain":
		for i := range nodes {
			if nodes[i].Name == name {
				nodes[i].Liveness = record.Draining
			}
		}
	case "cut", "mend": // from n1
		for i := range nodes {
			if nodes[i].Name == name {
				nodes[i].Unreachable = map[string][]changefeed.NodeID{"cut": {"n1"}}[cmd]
			}
		}
	default:
		nodes = slices.DeleteFunc(nodes, func(node record.Node) bool { return node.Name == name })
	}
	b.nodes = Nodes{Revision: b.nodes.Revision + 1, Nodes: nodes}
	b.step(NodesWatched{Nodes: b.nodes})
}

// parseEviction reads `eviction node=n2 token=6.0 acknowledged`, with lines such as `5.1 a-m 120` of finals.
func parseEviction(t *testing.T, d *datadriven.TestData) EvictionSeen {
	t.Helper()
	token := parseToken(t, word(t, d, "token"))
	seen := EvictionSeen{Node: changefeed.NodeID(word(t, d, "node")), Eviction: record.Eviction{Epoch: token.Epoch(), Seq: token.Seq()}}
	if d.HasArg("acknowledged") {
		seen.Eviction.AcknowledgedAt = &time.Time{}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		of := parseToken(t, words[0])
		start, end, _ := strings.Cut(words[1], "-")
		position, err := change.ParsePosition(words[2])
		require.NoError(t, err)
		seen.Eviction.Finals = append(seen.Eviction.Finals, record.Final{
			Start: changefeed.Key(start), End: changefeed.Key(end), Epoch: of.Epoch(), Seq: of.Seq(), Position: position,
		})
	}
	return seen
}

func scenarioError(how string) error {
	switch how {
	case "stale":
		return fmt.Errorf("sink: %w", fence.ErrStale)
	case "unknown":
		return fmt.Errorf("store: %w", fence.ErrUnknown)
	case "slot_lost":
		return &changefeed.Fault{Code: changefeed.CodeSourceSlotLost, Detail: "the slot is gone", Cure: "reset it", Permanent: true}
	case "permanent":
		return &changefeed.Fault{Code: changefeed.CodeSinkLost, Permanent: true}
	default:
		return errUnreachable
	}
}

func parseToken(t *testing.T, text string) fence.Token {
	t.Helper()
	var epoch fence.Epoch
	var seq fence.Seq
	_, err := fmt.Sscanf(text, "%d.%d", &epoch, &seq)
	require.NoError(t, err, text)
	return fence.Mint(epoch, seq)
}

var scenarioStates = map[string]message.DispatcherState{
	"starting": message.DispatcherStarting, "running": message.DispatcherRunning, "stopping": message.DispatcherStopping,
	"stopped": message.DispatcherStopped, "failed": message.DispatcherFailed,
}

// parseStatuses reads lines such as `4.1 a-m running 100 spec=2 fault=sink.full`; `-` alone is the whole key space.
func parseStatuses(t *testing.T, text string) []message.Status {
	t.Helper()
	var out []message.Status
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		start, end, _ := strings.Cut(words[1], "-")
		position, err := change.ParsePosition(words[3])
		require.NoError(t, err)
		status := statusOf(span(start, end), parseToken(t, words[0]), scenarioStates[words[2]], position)
		for _, more := range words[4:] {
			name, value, _ := strings.Cut(more, "=")
			switch name {
			case "spec":
				_, err := fmt.Sscan(value, &status.SpecRevision)
				require.NoError(t, err)
			case "head":
				status.Resolved, err = change.ParsePosition(value)
				require.NoError(t, err)
			case "fault":
				status.Fault = &changefeed.Fault{Code: changefeed.Code(value)}
			case "permanent":
				status.Fault = &changefeed.Fault{Code: changefeed.Code(value), Permanent: true}
			case "waits":
				status.WaitingOn = value
			case "holds":
				status.Barrier, err = change.ParsePosition(value)
				require.NoError(t, err)
			case "source":
				status.SourceID = value
			case "age":
				status.Age, err = time.ParseDuration(value)
				require.NoError(t, err)
			case "rate":
				_, err := fmt.Sscan(value, &status.Rate)
				require.NoError(t, err)
			case "half":
				key, percent, _ := strings.Cut(value, "/")
				status.Half = &message.Half{Key: []byte(key)}
				_, err := fmt.Sscan(percent, &status.Half.Percent)
				require.NoError(t, err)
			case "wrote":
				_, err := fmt.Sscan(value, &status.Changes)
				require.NoError(t, err)
			}
		}
		out = append(out, status)
	}
	return out
}

func TestHostScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/host", func(t *testing.T, path string) {
		core := NewHostCore("n1")
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var lines []string
			for _, effect := range core.Step(hostInputOf(t, d)) {
				switch effect := effect.(type) {
				case StartMaintainer:
					lines = append(lines, fmt.Sprintf("start %s at epoch %d", effect.Ownership.ID.Name, effect.Ownership.Record.Epoch))
				case StopMaintainer:
					lines = append(lines, fmt.Sprintf("stop %s at epoch %d", effect.ID.Name, effect.Epoch))
				}
			}
			if len(lines) == 0 {
				return "nothing\n"
			}
			return strings.Join(lines, "\n") + "\n"
		})
	})
}

// hostInputOf reads `observe`, `list`, `delete`, `ended` and `session-over`; records are lines `a epoch=5 owner=n1 uid=u1`.
func hostInputOf(t *testing.T, d *datadriven.TestData) HostInput {
	t.Helper()
	parse := func(line string) Ownership {
		var name, owner, uid string
		var epoch fence.Epoch
		_, err := fmt.Sscanf(line, "%s epoch=%d owner=%s uid=%s", &name, &epoch, &owner, &uid)
		require.NoError(t, err, line)
		own := owned(epoch, changefeed.NodeID(strings.TrimPrefix(owner, "nobody")), changefeed.UID(uid))
		own.ID.Name = name
		return own
	}
	switch d.Cmd {
	case "observe":
		return RecordObserved{Record: parse(d.Input)}
	case "list":
		var records []Ownership
		for line := range strings.SplitSeq(d.Input, "\n") {
			if line != "" {
				records = append(records, parse(line))
			}
		}
		return RecordsListed{Records: records}
	case "delete":
		return RecordDeleted{ID: changefeed.ID{Namespace: "default", Name: word(t, d, "name")}}
	case "ended":
		return MaintainerEnded{
			ID: changefeed.ID{Namespace: "default", Name: word(t, d, "name")}, Epoch: fence.Epoch(number(t, d, "epoch")),
		}
	case "session-over":
		return SessionEnded{}
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return nil
}
