package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
)

// What people look at in an emergency fits into a terminal of 80 columns.
func TestTablesFitInto80Columns(t *testing.T) {
	at := time.Date(2026, 11, 22, 21, 59, 58, 0, time.UTC)
	later, position, lag, two := at.Add(time.Minute), change.Position(20817412), 12.5, 2
	id := changefeed.NodeID("1349936b-252d-441d-82d9-545d4281fa98")
	var out strings.Builder
	tableOfNodes(&out, []shape.Node{{ID: id, Name: "n1", Liveness: "draining", Coordinator: true, Maintainers: &two, Dispatchers: &two, HTTP: "127.0.0.1:18301"}})
	tableOfSpans(&out, []shape.Span{{Start: []byte("/orders/"), End: []byte("/orders0"), NodeName: "n1", Epoch: 1043, Seq: 2, State: "running", Checkpoint: &position, LagSeconds: &lag}})
	tableOfOwnerships(&out, []shape.Ownership{
		{Epoch: 20817413, OwnerName: "n1", Term: 12, From: at, Reason: changefeed.ReasonOwnerLost},
		{Epoch: 1043, OwnerName: "n2", Term: 4, From: at, Until: &later, Reason: changefeed.ReasonUpdated, FinalCheckpoint: &position},
		{Epoch: 12, OwnerName: "n2", Term: 4, From: at, Until: &later, Reason: changefeed.ReasonCreated, Unanswered: true},
	})
	tableOfChangefeeds(&out, []shape.Changefeed{{Namespace: "default", Name: "orders", State: "running", OwnerName: "n1", Epoch: 20817413, Checkpoint: &position, LagSeconds: &lag}})
	tableOfCoordinator(&out, shape.Cluster{Coordinator: &shape.Coordinator{Node: id, Name: "n1", Term: 12}})
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 80, line)
	}
	require.Contains(t, out.String(), "1349936b ")
	require.Contains(t, out.String(), "updated, late ")
}

func TestUntilSaysTheDayWhenItIsAnother(t *testing.T) {
	from := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local) //nolint:gosmopolitan // tables are in local time
	same, next := from.Add(time.Minute), from.Add(24*time.Hour)
	require.Equal(t, "12:01:00", until(&shape.Ownership{From: from, Until: &same}))
	require.Equal(t, "2026-11-23 12:00:00", until(&shape.Ownership{From: from, Until: &next}))
	require.Empty(t, until(&shape.Ownership{From: from}))
}

// On a terminal the widest columns are cut until a row fits; in a pipe nothing is.
func TestRowsAreCutToTheTerminal(t *testing.T) {
	rows := [][]string{{"NAME", "STATE", "WHY"}, {"orders", "retrying", "sink.unreachable: " + strings.Repeat("ü", 90)}}
	require.Equal(t, rows, fitted(rows, 0))
	var out strings.Builder
	for _, row := range fitted(rows, 60) {
		out.WriteString(strings.Join(row, "  ") + "\n")
	}
	require.Contains(t, out.String(), "orders  retrying  sink.unreachable: ü")
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSpace(line)), 60)
	}
	require.Contains(t, out.String(), "…\n")
	require.Equal(t, rows[0], fitted(rows[:1], 5)[0], "names are not cut to nothing")
}
