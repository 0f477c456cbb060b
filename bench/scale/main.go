// Command scale measures how the control plane grows: the real cores and codecs, with messages in memory, at three sizes
// up to 100 nodes with 10,000 changefeeds, and one changefeed of 1,000,000 spans. The coordinator and the nodes work on a
// real etcd that is embedded here. It writes docs/benchmarks-scale.md and exits 1 if a row is above its bound.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

// parts of the full size that are measured, smallest first: a row shows how it grows.
var parts = []int{100, 10, 1} //nolint:gochecknoglobals // read only

// collectAt has garbage collected less often than by default: in one heap for a hundred nodes, each collection looks at what
// all of them hold. What lives is measured after one.
const collectAt = 400

func run(ctx context.Context) int {
	only := flag.String("rows", "", "comma-separated names of scenes (coordinator, spans, cluster); empty is all")
	report := flag.String("report", "docs/benchmarks-scale.md", "where the page is written; empty writes none")
	size := flag.Int("part", 0, "only this part of the size, as in 100 for a hundredth; nothing is judged or written")
	profile := flag.String("cpuprofile", "", "write a processor profile")
	flag.Parse()
	if *profile != "" {
		end, err := startProfile(*profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer end()
	}
	debug.SetGCPercent(collectAt)
	sizes := parts
	if *size > 0 {
		sizes = []int{*size}
	}
	began := load()
	found := figures{}
	for _, scene := range scenes {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), scene.name) {
			continue
		}
		for _, part := range sizes {
			start := time.Now()
			got, err := scene.measure(ctx, part)
			if err != nil {
				fmt.Fprintf(os.Stderr, "scale: %s at 1/%d: %v\n", scene.name, part, err)
				return 1
			}
			found.add(part, got)
			debug.FreeOSMemory() // the next scene is another process, as it were
			fmt.Fprintf(os.Stderr, "%s at 1/%d (%.1f s): %v\n", scene.name, part, time.Since(start).Seconds(), got)
		}
	}
	if *size > 0 {
		return 0
	}
	text := table(found)
	fmt.Println(text)
	if *report != "" && *only == "" {
		if err := writeReport(*report, began, found); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := judge(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// scene is one run of which several rows are measured.
type scene struct {
	name    string
	measure func(ctx context.Context, part int) (map[string]float64, error)
}

var scenes = []scene{ //nolint:gochecknoglobals // read only
	{"coordinator", measureCoordinator},
	{"spans", measureSpans},
	{"cluster", measureCluster},
}

// figures are what was measured, by row and part of the full size.
type figures map[string]map[int]float64

func (f figures) add(part int, got map[string]float64) {
	for name, value := range got {
		if f[name] == nil {
			f[name] = map[int]float64{}
		}
		f[name][part] = value
	}
}

// judge returns an error that names every row that is above its bound at full size.
func judge(found figures) error {
	var faults []error
	for _, row := range rows {
		if at, measured := found[row.name][1]; measured && row.bound > 0 && at > row.bound {
			faults = append(faults, fmt.Errorf("scale: %s must be at most %g %s and is %.4g", row.what, row.bound, row.unit, at))
		}
	}
	return errors.Join(faults...)
}
