// Command bench measures cdc-node against the tools that people would use instead, as separate processes on the same
// servers with the same data, interleaved, and prints medians and spreads as ratios of one run: machines differ and are
// noisy, ratios hold. It writes docs/benchmarks.md and exits 1 if a row is below what it must be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && children[os.Args[1]] != nil {
		if err := children[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

// roundsDefault gives each side a median of five.
const roundsDefault = 5

func run(ctx context.Context) int {
	rounds := flag.Int("rounds", roundsDefault, "rounds of each row, each side once a round")
	limit := flag.Duration("limit", 0, "no row begins another round after this long, and has fewer then; 0 is no limit")
	only := flag.String("rows", "", "comma-separated names of rows, or etcd or database for all of those; empty is all")
	report := flag.String("report", "docs/benchmarks.md", "where a table whose rows were all run is written; empty writes none")
	alone := flag.Bool("alone", false, "run our side only, to profile it; nothing is judged or written")
	part := flag.Int("part", 1, "only this part of the database rows' size, as in 10 for a tenth; above 1 nothing is written")
	flag.Parse()
	dir, err := os.MkdirTemp("", "fencerow-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{
		dir: dir, rounds: *rounds, limit: *limit, alone: *alone, part: max(*part, 1), binary: filepath.Join(dir, "cdc-node"),
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/cdc-node")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: build cdc-node:", err)
		return 1
	}
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	loads := "load average " + load() + " when it began"
	done := b.measure(ctx, chosen)
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		return 1
	}
	fmt.Println(table(done))
	if *alone {
		return 0
	}
	if *report != "" && b.part == 1 {
		if err := writeReport(*report, loads+", "+load()+" when it ended", done); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := judge(done); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// measure runs rows, until ctx ends.
func (b *bench) measure(ctx context.Context, chosen []row) []outcome {
	var done []outcome
	for _, row := range chosen {
		fmt.Fprintf(os.Stderr, "\n%s: %s\n", row.name, row.what)
		began := time.Now()
		result, err := row.measure(ctx, b)
		if ctx.Err() != nil {
			return done
		}
		one := outcome{row: row, result: result, err: err, took: time.Since(began)}
		fmt.Fprintln(os.Stderr, one.line())
		done = append(done, one)
	}
	return done
}

// choose returns the rows of these names and groups, in the table's order.
func choose(names string) ([]row, error) {
	if names == "" {
		return rows(), nil
	}
	var out []row
	wanted := strings.Split(names, ",")
	known := make(map[string]bool)
	for _, row := range rows() {
		known[row.name], known[row.group] = true, true
		if slices.Contains(wanted, row.name) || slices.Contains(wanted, row.group) {
			out = append(out, row)
		}
	}
	for _, name := range wanted {
		if !known[name] {
			return nil, fmt.Errorf("bench: -rows %q is no row and no group of rows: take etcd, database, or names of bench/rows.go", name)
		}
	}
	return out, nil
}

// judge returns an error that names every row that is below its bound or could not be run.
func judge(done []outcome) error {
	var faults []error
	for _, one := range done {
		if one.err != nil {
			faults = append(faults, fmt.Errorf("bench: %s could not be run: %w", one.row.name, one.err))
		} else if !one.row.holds(one.result) {
			faults = append(faults, fmt.Errorf("bench: %s must be %s and is %s", one.row.name, one.row.must, one.result.headline(one.row)))
		}
	}
	return errors.Join(faults...)
}
