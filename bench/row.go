package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	name     string
	group    string // which of the page's tables it stands in
	what     string
	baseline string
	must     string // as people read it
	bound    float64
	atLeast  bool // the headline must be at least bound, else at most
	unit     string
	measure  func(context.Context, *bench) (result, error)
}

// result of a row: the samples of both sides, or of ours alone.
type result struct {
	ours     []float64
	baseline []float64 // empty: ours is judged alone
	// inverse says that less is faster, and that the headline is baseline / ours.
	inverse bool
}

type outcome struct {
	row    row
	result result
	err    error
	took   time.Duration
}

// figure is what is judged: the median of the rounds' ratios, or our median.
func (r result) figure() float64 {
	if len(r.baseline) == 0 {
		return median(r.ours)
	}
	return median(r.ratios())
}

// ratios of the two sides, by round.
func (r result) ratios() []float64 {
	var ratios []float64
	for i := range min(len(r.ours), len(r.baseline)) {
		if r.inverse {
			ratios = append(ratios, r.baseline[i]/r.ours[i])
		} else {
			ratios = append(ratios, r.ours[i]/r.baseline[i])
		}
	}
	return ratios
}

func (r result) headline(of row) string {
	if len(r.baseline) == 0 {
		return fmt.Sprintf("%.3g %s", r.figure(), of.unit)
	}
	ratios := r.ratios()
	return fmt.Sprintf("%.2f × (%.3g–%.3g)", r.figure(), slices.Min(ratios), slices.Max(ratios))
}

func (r row) holds(of result) bool {
	if r.atLeast {
		return of.figure() >= r.bound
	}
	return of.figure() <= r.bound
}

func (o outcome) line() string {
	if o.err != nil {
		return fmt.Sprintf("| %s | %s | %s | NOT RUN: %v | | | | |", o.row.what, o.row.baseline, o.row.must, o.err)
	}
	verdict := "holds"
	if !o.row.holds(o.result) {
		verdict = "**below**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %d | %s |", o.row.what, o.row.baseline, o.row.must,
		o.result.headline(o.row), spread(o.result.ours, o.row.unit), spread(o.result.baseline, o.row.unit),
		len(o.result.ours), verdict)
}

func table(done []outcome) string {
	var out strings.Builder
	out.WriteString("| what | baseline | must be | is | ours: median (min–max) | baseline: median (min–max) | rounds | |\n")
	out.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, one := range done {
		out.WriteString(one.line() + "\n")
	}
	return out.String()
}

func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

func spread(samples []float64, unit string) string {
	if len(samples) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3g (%.3g–%.3g) %s", median(samples), slices.Min(samples), slices.Max(samples), unit)
}

type side struct {
	run  func() (float64, error)
	into *[]float64
}

// interleave runs both sides once a round, in turn A B, B A, A B, …
func (b *bench) interleave(ours, baseline func() (float64, error)) (result, error) {
	return b.interleaved(b.rounds, ours, baseline)
}

// interleaved is interleave for a row that has a number of rounds of its own.
func (b *bench) interleaved(rounds int, ours, baseline func() (float64, error)) (result, error) {
	var out result
	began := time.Now()
	for i := range rounds {
		if i > 0 && b.limit > 0 && time.Since(began) > b.limit {
			break
		}
		sides := []side{{ours, &out.ours}, {baseline, &out.baseline}}
		if i%2 == 1 {
			slices.Reverse(sides)
		}
		if b.alone {
			sides = slices.DeleteFunc(sides, func(s side) bool { return s.into == &out.baseline })
		}
		for _, side := range sides {
			value, err := side.run()
			if err != nil {
				return out, err
			}
			*side.into = append(*side.into, value)
		}
		told(i, out)
	}
	return out, nil
}

// told shows a round as it ends: a row may take minutes.
func told(round int, so result) {
	if len(so.baseline) == 0 {
		fmt.Fprintf(os.Stderr, "  round %d: %.4g\n", round+1, so.ours[round])
		return
	}
	fmt.Fprintf(os.Stderr, "  round %d: ours %.4g, baseline %.4g\n", round+1, so.ours[round], so.baseline[round])
}

// load is the machine's load average, of 1, 5 and 15 minutes; "unknown" where there is none.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(text)); err == nil && len(fields) > 2 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}
