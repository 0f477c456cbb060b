// Command sim runs seeds of the simulation: one of them as a story, or many for a summary.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"fencerow/internal/sim"
)

func main() {
	seed := flag.Uint64("seed", 0, "the seed to run")
	seeds := flag.String("seeds", "", "a range of seeds to run, as in 1..1000")
	steps := flag.Int("steps", 0, "inputs and answers before the faults end")
	verbose := flag.Bool("v", false, "tell the story")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "worlds that run at a time")
	without := flag.String("without", "", "kinds of faults to leave out, separated by commas")
	spare := flag.String("spare", "", "wishes of operators to leave out, separated by commas")
	first := flag.Bool("first", false, "of many seeds, stop at the first that fails")
	shrink := flag.Bool("shrink", false, "look for less that still fails")
	flag.Parse()
	comma := func(r rune) bool { return r == ',' }
	options := sim.Options{Steps: *steps, Spare: strings.FieldsFunc(*spare, comma)}
	for _, name := range strings.FieldsFunc(*without, comma) {
		kind, err := sim.ParseFault(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		options.Without = append(options.Without, kind)
	}
	if *seeds != "" {
		from, to, found := strings.Cut(*seeds, "..")
		low, err := strconv.ParseUint(from, 10, 64)
		high, err2 := strconv.ParseUint(to, 10, 64)
		if !found || err != nil || err2 != nil {
			fmt.Fprintln(os.Stderr, "sim: -seeds takes a range such as 1..1000")
			os.Exit(2)
		}
		os.Exit(many(batch{first: low, last: high, workers: *workers, stop: *first}, options))
	}
	os.Exit(one(*seed, options, *verbose, *shrink))
}

func one(seed uint64, options sim.Options, verbose, shrink bool) int {
	if verbose {
		options.Out = os.Stdout
	}
	report := sim.Run(seed, options)
	report.Census.Print(os.Stdout)
	fmt.Printf("seed %d: %d steps, %v simulated, settled in %v\n", seed, report.Steps, report.Took, report.Settled)
	if report.Err == nil {
		return 0
	}
	fmt.Printf("FAILED %v\n", report.Err)
	if shrink {
		fmt.Println(sim.Shrink(seed, options))
	}
	return 1
}

// batch is a range of seeds.
type batch struct {
	first, last uint64
	workers     int
	stop        bool // at the first that fails
}

// many runs worlds side by side, each in one goroutine.
func many(seeds batch, options sim.Options) int {
	var (
		group    sync.WaitGroup
		mu       sync.Mutex
		next     = seeds.first
		total    sim.Census
		steps    int
		fewest   sim.Report
		failures []sim.Report
		slowest  time.Duration
		began    = time.Now()
	)
	for range seeds.workers {
		group.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				over := seed > seeds.last || seeds.stop && len(failures) > 0
				mu.Unlock()
				if over {
					return
				}
				report := sim.Run(seed, options)
				mu.Lock()
				total.Add(&report.Census)
				steps += report.Steps
				if fewest.Steps == 0 || report.Steps < fewest.Steps {
					fewest = report
				}
				slowest = max(slowest, report.Settled)
				if report.Err != nil {
					failures = append(failures, report)
					fmt.Printf("FAILED seed %d after %d steps: %v\n  replay: go run ./internal/sim/cmd/sim -seed %d -steps %d -v\n", seed,
						report.Steps, report.Err, seed, options.Steps)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	count := seeds.last - seeds.first + 1
	fmt.Printf("%d seeds, %d steps in %v, at least %d each; the slowest settled in %v\n", count, steps,
		time.Since(began).Round(time.Millisecond), fewest.Steps, slowest)
	total.Print(os.Stdout)
	fmt.Printf("%d failures\n", len(failures))
	faults := total.Unproven(count)
	if options.Steps == 0 && fewest.Steps < sim.StepsMin && len(failures) == 0 {
		faults = append(faults, fmt.Sprintf("seed %d ended after %d steps", fewest.Seed, fewest.Steps))
	}
	for _, fault := range faults {
		fmt.Println("PROVES TOO LITTLE:", fault)
	}
	if len(failures)+len(faults) > 0 {
		return 1
	}
	return 0
}
