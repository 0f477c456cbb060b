package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
)

const absent = "-"

func printJSON(w io.Writer, raw json.RawMessage) error {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(out.String(), "\n"))
	return err
}

// grid prints rows of words in columns.
func grid(w io.Writer, header string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, columnGap, ' ', 0)
	for _, row := range fitted(append([][]string{strings.Fields(header)}, rows...), columnsOf(w)) {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
}

func tableOfChangefeeds(w io.Writer, items []shape.Changefeed) {
	rows := make([][]string, len(items))
	for i, f := range items {
		rows[i] = rowOfChangefeed(f)
	}
	grid(w, headerOfChangefeeds, rows)
}

const headerOfChangefeeds = "NAMESPACE NAME STATE OWNER EPOCH CHECKPOINT LAG WHY"

func rowOfChangefeed(f shape.Changefeed) []string {
	return []string{
		f.Namespace, f.Name, string(f.State), word(f.OwnerName), number(uint64(f.Epoch)), position(f.Checkpoint), seconds(f.LagSeconds), why(f),
	}
}

// why says what people want to know of a state that isn't fine.
func why(f shape.Changefeed) string {
	switch {
	case f.Stalled != nil:
		return f.Stalled.Reason
	case f.Error != nil:
		return fmt.Sprintf("%s: %.80s", f.Error.Code, strings.ReplaceAll(f.Error.Message, "\n", " "))
	default:
		return absent
	}
}

// tableOfChangefeed prints one changefeed, a line for each thing.
func tableOfChangefeed(w io.Writer, f shape.Changefeed) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" && value != absent {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("name", f.Namespace+"/"+f.Name)
	line("uid", string(f.UID))
	line("source", f.Source)
	line("sink", f.Sink)
	line("start", f.Start)
	line("start position", position(f.StartPosition))
	for _, option := range sortedOptions(f.Options) {
		line("option", option)
	}
	for _, skip := range f.Skips {
		line("left out", fmt.Sprintf("position %s, index %d, at %s", skip.Position, skip.Index, moment(&skip.At)))
	}
	line("desired", string(f.Desired))
	line("state", string(f.State))
	if f.Stalled != nil {
		line("stalled", fmt.Sprintf("%s; node %s, span [%q, %q), since %s", f.Stalled.Reason, f.Stalled.Node, f.Stalled.Start, f.Stalled.End, moment(&f.Stalled.Since)))
	}
	if f.Error != nil {
		line("error", string(f.Error.Code)+": "+strings.ReplaceAll(f.Error.Message, "\n", " "))
		line("error since", moment(&f.Error.Since))
		line("next try", moment(f.Error.NextTry))
	}
	line("owner", strings.TrimSpace(f.OwnerName+" "+string(f.Owner)))
	line("epoch", number(uint64(f.Epoch)))
	line("reason", string(f.Reason))
	line("checkpoint", position(f.Checkpoint))
	line("resolved", position(f.Resolved))
	line("lag", seconds(f.LagSeconds))
	line("spans", number(uint64(f.Spans)))
	if f.SyncPoint != nil {
		line("sync point", position(f.SyncPoint))
	}
	line("created", moment(f.Created))
	line("updated", moment(f.Updated))
	line("revision", f.Revision)
	_ = t.Flush()
}

func tableOfNodes(w io.Writer, nodes []shape.Node) {
	rows := make([][]string, len(nodes))
	for i, n := range nodes {
		rows[i] = rowOfNode(n)
	}
	grid(w, headerOfNodes, rows)
}

const headerOfNodes = "NAME ID LIVENESS ROLE OWNS RUNS HTTP UNREACHABLE"

func rowOfNode(n shape.Node) []string {
	role := absent
	if n.Coordinator {
		role = "coordinator"
	}
	return []string{
		n.Name, short(n.ID), string(n.Liveness), role, count(n.Maintainers), count(n.Dispatchers), n.HTTP,
		strconv.Itoa(len(n.Unreachable)),
	}
}

func tableOfSpans(w io.Writer, spans []shape.Span) {
	rows := make([][]string, len(spans))
	for i, s := range spans {
		end := "∞"
		if len(s.End) > 0 {
			end = strconv.Quote(string(s.End))
		}
		state := s.State
		if s.SnapshotRows > 0 {
			state = fmt.Sprintf("%s, %d of about %d rows", state, s.SnapshotRows, max(s.SnapshotRows, s.SnapshotTotal))
		}
		rows[i] = []string{
			strconv.Quote(string(s.Start)), end, word(s.NodeName), fmt.Sprintf("%d.%d", s.Epoch, s.Seq), state, position(s.Checkpoint), seconds(s.LagSeconds),
		}
	}
	grid(w, "START END NODE TOKEN STATE CHECKPOINT LAG", rows)
}

// tableOfOwnerships leaves out why each one ended: that is why the one above it began. A day is said once a line.
func tableOfOwnerships(w io.Writer, items []shape.Ownership) {
	rows := make([][]string, len(items))
	for i, o := range items {
		rows[i] = []string{
			number(uint64(o.Epoch)), word(o.OwnerName), strconv.FormatInt(o.Term, 10), moment(&o.From), word(until(&o)), began(items, i),
			position(o.FinalCheckpoint),
		}
	}
	grid(w, "EPOCH OWNER TERM FROM UNTIL WHY CHECKPOINT", rows)
}

// began says why an ownership began, and if the owner before it was asked to release and did not do so in time.
func began(items []shape.Ownership, i int) string {
	reason := string(items[i].Reason)
	if i+1 < len(items) && items[i+1].Unanswered {
		return reason + ", late"
	}
	return reason
}

func until(o *shape.Ownership) string {
	if o.Until == nil {
		return ""
	}
	from, end := o.From.Local(), o.Until.Local()
	if from.Format(time.DateOnly) == end.Format(time.DateOnly) {
		return end.Format(time.TimeOnly)
	}
	return end.Format(time.DateTime)
}

// shortIDMax is how much of a node id a table shows: enough to tell two lives of a node apart. JSON has all of it.
const shortIDMax = 8

func short(id changefeed.NodeID) string { return fmt.Sprintf("%.*s", shortIDMax, string(id)) }

func tableOfCoordinator(w io.Writer, cluster shape.Cluster) {
	if cluster.Coordinator == nil {
		_, _ = fmt.Fprintln(w, "nobody is the coordinator at this moment")
		return
	}
	grid(w, "NAME NODE TERM", [][]string{{
		cluster.Coordinator.Name, string(cluster.Coordinator.Node), strconv.FormatInt(cluster.Coordinator.Term, 10),
	}})
}

func word(text string) string {
	if text == "" {
		return absent
	}
	return text
}

func number(n uint64) string {
	if n == 0 {
		return absent
	}
	return strconv.FormatUint(n, 10)
}

func count(n *int) string {
	if n == nil {
		return "?"
	}
	return strconv.Itoa(*n)
}

func position(p *change.Position) string {
	if p == nil {
		return absent
	}
	return p.String()
}

func seconds(s *float64) string {
	if s == nil {
		return absent
	}
	return strconv.FormatFloat(*s, 'f', 1, 64) + "s"
}

func moment(at *time.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	return at.Local().Format(time.DateTime)
}

func sortedOptions(options changefeed.Options) []string {
	out := make([]string, 0, len(options))
	for name, value := range options {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}
