package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	name  string
	what  string
	bound float64 // 0: told, not judged
	unit  string
}

var rows = []row{ //nolint:gochecknoglobals // read only
	{"cold-start", "100 nodes, 10,000 changefeeds: cold start until all run", 20, "s"},
	{"cold-start-cpu", "… processor time of all nodes, the coordinator and etcd", 0, "s"},
	{"cold-start-share", "… share of the processors that it got", 0, "%"},
	{"coordinator-memory", "memory of the coordinator per changefeed", 4096, "B"},
	{"span-memory", "one changefeed of 1,000,000 spans on 100 nodes: memory of its maintainer per span", 300, "B"},
	{"bootstrap", "… bootstrap of a new maintainer from all nodes' answers", 5, "s"},
	{"heartbeats", "… processor time per second for heartbeats while idle", 0.1, "s"},
	{"loss", "… loss of one node: all its 10,000 spans placed again", 2, "s"},
	{"status-writes", "10,000 changefeeds that move: status writes to etcd", 200, "transactions/s"},
	{"statuses", "… statuses that they store", 0, "statuses/s"},
}

func table(found figures) string {
	var out strings.Builder
	out.WriteString("| what | at most | is | at 1/10 | at 1/100 | grows from 1/100 by | |\n|---|---|---|---|---|---|---|\n")
	for _, row := range rows {
		got, measured := found[row.name]
		if !measured {
			continue
		}
		bound, verdict := "–", ""
		if row.bound > 0 {
			bound, verdict = fmt.Sprintf("%g %s", row.bound, row.unit), "holds"
			if got[1] > row.bound {
				verdict = "**above**"
			}
		}
		fmt.Fprintf(&out, "| %s | %s | %s %s | %s | %s | %s × | %s |\n",
			row.what, bound, number(got[1]), row.unit, number(got[10]), number(got[100]), number(got[1]/got[100]), verdict)
	}
	return out.String()
}

// plotWidth is how many characters wide the bar of a row at its bound is.
const plotWidth = 40

// plot draws how much of its bound each row takes at each size.
func plot(found figures) string {
	var out strings.Builder
	fmt.Fprintf(&out, "How much of its bound each row takes, at 1/100, at 1/10 and at the full size:\n\n```\n")
	for _, row := range rows {
		got, measured := found[row.name]
		if !measured || row.bound == 0 {
			continue
		}
		for _, part := range parts {
			share := got[part] / row.bound
			bar := strings.Repeat("█", min(max(int(share*plotWidth), 1), plotWidth))
			name := ""
			if part == parts[0] {
				name = row.name
			}
			fmt.Fprintf(&out, "%-18s  1/%-4d %-*s| %s %%\n", name, part, plotWidth, bar, number(100*share))
		}
	}
	out.WriteString("```\n")
	return out.String()
}

// number writes a figure with three digits that count.
func number(value float64) string {
	if value >= 100 {
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.3g", value)
}

func writeReport(path, began string, found figures) error {
	page := fmt.Sprintf("# How it grows\n\nMade by `make bench-scale` on %s, %d processors, %s, load average %s when it began and %s when it ended.\n"+
		"%s\n%s\n%s\n%s", time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), began, load(), intro, table(found), plot(found), outro)
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil { //nolint:gosec // a page of the documentation
		return fmt.Errorf("scale: write the report: %w", err)
	}
	return nil
}

const intro = `
The real cores, codecs and records, with messages in memory between 100 nodes that are one process; keys of 24 bytes, URIs of
100 bytes, live heap after a collection. It exits 1 if a row is above its bound. What the rows measure is below.
`

const outro = `- **Cold start**: a real etcd is embedded, in this process too; its files are not synced, so that it is not the disk that
  is measured. 100 nodes hold leases and watch the epoch records, each by a
  connection of its own; 10,000 specs are stored. The clock begins with the election of the coordinator and ends when every
  changefeed is stored as running: by then each was bumped, its maintainer has read the records, listed the nodes, asked hosts,
  stored that it will place a span, placed it, and heard that it runs. Sinks and sources answer at once. It is the clock on
  the wall, so that other work on the machine counts: the share of the processors says how much there was. The processor time is that
  of a hundred nodes, which have a hundred machines elsewhere.
- **Memory of the coordinator** is that of its watch and its core after both took in a cluster in which everything runs.
- **Spans**: one goroutine steps the maintainer and all hosts in turn, on a clock that is the processor time of the process, so that
  other work on the machine does not count, but all that the hosts do, and collections, do. The bootstrap begins before the maintainer
  reads its records, and ends when all that the hosts run was taken over. The heartbeats' time is that of the hosts and the
  maintainer together. A lost node's spans are placed on the others, and told to run, by the end of the last row.
- **Status writes** are counted at etcd's client while every changefeed moves on twice a second and stores a status once a second;
  on a machine that is too busy for that the number of statuses beside it is below 10,000.

See [benchmarks](benchmarks.md) for speed against other tools.
`
