// Command mutants takes the fences out of the code, one by one and in pairs, and says which test notices.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"fencerow/internal/mutants"
)

// stride is about how many mutants a day's part gets through on two cores.
const stride = 16

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // main starts the context
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	root, only, output string
	budget, limit      time.Duration
	day                int
	list               bool
	simulation         int
	tests              bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", ".", "the module's folder")
	flags.StringVar(&o.only, "only", "", "only mutants whose fence, place or change matches this expression")
	flags.StringVar(&o.output, "o", "", "write the table to this file")
	flags.DurationVar(&o.budget, "budget", 0, "run a part only, which the day decides, for about this long; 0: all")
	flags.DurationVar(&o.limit, "limit", time.Minute, "the tests of one suite may take this long")
	flags.IntVar(&o.day, "day", time.Now().UTC().YearDay(), "the day of the year that decides the part")
	flags.IntVar(&o.simulation, "simulation", 0, "run so many seeds of the simulation on each mutant as well, and say at which an invariant breaks")
	flags.BoolVar(&o.tests, "tests", true, "run the tests; without them only the simulation")
	flags.BoolVar(&o.list, "list", false, "only say what would be run")
	return o, flags.Parse(args)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	chosen, err := choose(root, o)
	if err != nil {
		return err
	}
	if o.list {
		for _, m := range chosen {
			fmt.Fprintln(out, m.Fence, m.Place+":", m.What)
		}
		return nil
	}
	harness, err := mutants.NewHarness(ctx, mutants.Config{Root: root, SuiteLimit: o.limit, CallLimit: 3 * o.limit})
	if err != nil {
		return err
	}
	results, err := judge(ctx, harness, chosen, o, out)
	if err != nil {
		return err
	}
	return report(out, o, chosen, results)
}

// choose returns the mutants to run, in order.
func choose(root string, o options) ([]mutants.Mutant, error) {
	all, err := mutants.Find(root)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("mutants: no fence is marked below " + root)
	}
	all = append(all, mutants.Pairs(all)...)
	ordered, err := mutants.Orders(root)
	if err != nil {
		return nil, err
	}
	all = append(all, ordered...)
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	var chosen []mutants.Mutant
	for _, m := range all {
		if only.MatchString(m.Fence + " " + m.Note + " " + m.Place + " " + m.What) {
			chosen = append(chosen, m)
		}
	}
	if o.budget > 0 {
		chosen = mutants.Rotate(chosen, o.day, stride)
	}
	return chosen, nil
}

// judge runs mutants until all were, or the budget is used up.
func judge(ctx context.Context, harness *mutants.Harness, chosen []mutants.Mutant, o options, out io.Writer) ([]mutants.Result, error) {
	errBudget := errors.New("the budget is used up")
	if o.budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.budget, errBudget)
		defer cancel()
	}
	var results []mutants.Result
	for _, m := range chosen {
		if m.Seen != "" {
			results = append(results, mutants.Result{Mutant: m})
			continue
		}
		result := mutants.Result{Mutant: m}
		if o.tests {
			var err error
			if result, err = harness.Run(ctx, m); errors.Is(err, errBudget) {
				break
			} else if err != nil {
				return nil, err
			}
		}
		if o.simulation > 0 && m.Simulated() {
			var err error
			if result.Simulation, err = harness.Simulate(ctx, m, o.simulation); err != nil {
				return nil, err
			}
		}
		fmt.Fprintln(out, result.Line())
		results = append(results, result)
	}
	if len(results) == 0 {
		return nil, errors.New("mutants: not one was run in time")
	}
	return results, nil
}

func report(out io.Writer, o options, chosen []mutants.Mutant, results []mutants.Result) error {
	if o.budget > 0 {
		fmt.Fprintf(out, "\nday %d of the year: from %s %s on\n", o.day, chosen[0].Fence, chosen[0].Place)
	}
	missed, unseen := 0, 0
	for _, result := range results {
		switch {
		case result.Mutant.Seen != "":
			unseen++
		case !result.Found():
			missed++
		}
	}
	fmt.Fprintf(out, "\n%d of %d mutants were run: %d found, %d not; %d are the same program\n\n",
		len(results), len(chosen), len(results)-missed-unseen, missed, unseen)
	if err := table(out, o, results); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("mutants: %d fences can be removed without a test that notices", missed)
	}
	return nil
}

func table(out io.Writer, o options, results []mutants.Result) error {
	if o.output == "" {
		return mutants.WriteTable(out, results)
	}
	file, err := os.Create(o.output)
	if err != nil {
		return err
	}
	return errors.Join(mutants.WriteTable(file, results), file.Close())
}
