package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The tables of the page. Each is written when all of its rows were run, and says of which run it is; the other stays.
const (
	groupEtcd     = "etcd"
	groupDatabase = "database"
)

const page = `# Benchmarks

Made by ''make bench''. Each row runs both sides as separate processes on the same servers with the same data, in turn
(A B, B A, …), and judges the median of the rounds' ratios. A ratio holds over machines; the figures beside it are of one,
which may have had other work to do: its load is told. The command exits 1 if a row is below what it must be, or could
not be run. How it grows with changefeeds, spans and nodes is on [a page of its own](benchmarks-scale.md).

## etcd

%s
- A copy is timed from the request that creates the changefeed, or from the start of the baseline's process, until a
  watch on the target sees the last key. Then both sides must hold the same, compared by a digest. etcd syncs its files.
- Catching up ends for us when the changefeed's stored checkpoint has the last change, and for the raw watch when it has
  received it. A watch is slow there since etcd sends a lagging one 1,000 revisions a pass over the whole backlog; we
  share the backlog among up to 64 of them and merge what they send by revision.
- Processor time is user and system time of the process, ours with its maintainer, heartbeats and statuses.
- A bump goes through the code of the coordinator, in turn with a transaction made by hand that was encoded before its
  clock was started. Many bumps need processor time where single ones wait for fsync, so a machine with other work gives less.
- Admission and ''Alive'' are medians of chunks of 1,000 calls, shorter than a busy machine takes the processor away.
- Memory is the peak of the resident set (''VmHWM'') of the whole node.

## Databases

''go run ./bench -rows database'' runs these alone.

%s
- Source and targets are PostgreSQL 15 and MariaDB 10.11 of their own, on one machine, with ''fsync'' and
  ''synchronous_commit'' on for both sides: the server's subscription too, whose own default is off, and MariaDB with
  ''innodb_flush_log_at_trx_commit=1''. Each run has a database of its own at the target, and a checkpoint right before it.
- A backlog of inserts was written in transactions of 1,000 rows of about 130 bytes with a primary key. pgbench's mix is its
  own: each transaction updates a row of three tables and inserts one into a fourth, which has no key. Each side follows the
  same log through a slot of its own, which was made before.
- Ours is timed from the request that resumes a paused changefeed, with the new owner's claim and all, the subscription from
  ''ENABLE'', and pg_recvlogical from the start of its process. A copy ends when the target shows the row that was written last;
  then the rows must be the source's, compared by a digest. Into the blackhole it ends with the stored checkpoint.
- A snapshot is timed until its checkpoint is stored. Both make the primary key after the rows.
- The target has ''wal_retrieve_retry_interval=100ms'', or a subscription would begin up to 5 s after it is enabled.
- What the backlog of inserts into PostgreSQL depends on is the disk. On two processors the source's walsender, which decodes one row after another, is
  what both sides wait for; it has one of them to itself beside the subscription, and shares it with a node and a target beside ours. The subscription
  commits each of the source's transactions, ours many at once: where a flush takes longer, it is slower. Of four machines with two processors the rows were
  1.29 × (8.8 s and 7.5 s), 1.05 × (6.5 s and 6 s), 1.10 × (above), and on one whose flushes cost next to nothing **0.91 ×** (2.4 s and 2.7 s), which is
  below the bound.
- The claim's cost is that of the server's refusal: the test build moves the claim's position in the same statement, and commits
  though no row was there to be moved.
- Memory is the peak of the resident set of the whole node, from its start until a transaction of so many rows is in a PostgreSQL.
`

// notRun stands where a table was never measured.
const notRun = "Not measured yet.\n"

func begins(group string) string { return "<!-- rows: " + group + " -->\n" }
func ends(group string) string   { return "<!-- end of rows: " + group + " -->\n" }

// writeReport writes the page, with a new table for each group of which all rows are among the outcomes.
func writeReport(path, loads string, done []outcome) error {
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("bench: read the report: %w", err)
	}
	text := fmt.Sprintf(strings.ReplaceAll(page, "''", "`"), section(groupEtcd, string(old), loads, done), section(groupDatabase, string(old), loads, done))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // a page of the documentation
		return fmt.Errorf("bench: write the report: %w", err)
	}
	return nil
}

// section is the part of the page that one group of rows has: of this run if that was complete, else as it is.
func section(group, old, loads string, done []outcome) string {
	mine := slices.DeleteFunc(slices.Clone(done), func(o outcome) bool { return o.row.group != group })
	all := slices.DeleteFunc(rows(), func(r row) bool { return r.group != group })
	if len(mine) < len(all) {
		_, rest, found := strings.Cut(old, begins(group))
		kept, _, ended := strings.Cut(rest, ends(group))
		if !found || !ended {
			kept = notRun
		}
		return begins(group) + kept + ends(group)
	}
	return begins(group) + fmt.Sprintf("On %s, %d processors, %s, with other work on the machine: %s.\n\n%s", time.Now().Format(time.DateOnly),
		runtime.NumCPU(), runtime.Version(), loads, table(mine)) + ends(group)
}
