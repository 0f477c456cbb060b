package mutants

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// preface stands above the table.
const preface = `# Each fence taken away

Written by ` + "`make mutants`" + `: a mark of the code, what was taken away there, the test that noticed and how long that took, and the first seed
of the simulation at which an invariant broke. What the marks mean is in [protocol.md](protocol.md), the rest in [safety.md](safety.md).

`

// WriteTable writes the results as a page with a Markdown table: fence, place, what found it, and how soon.
func WriteTable(w io.Writer, results []Result) error {
	var text strings.Builder
	text.WriteString(preface + "| fence | place | taken away | found by | after | simulation |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, result := range results {
		by, after := result.By, fmt.Sprintf("%.1f s", result.After.Seconds())
		switch {
		case result.Mutant.Seen != "":
			by, after = "can't be: "+result.Mutant.Seen, ""
		case !result.Found():
			by = "**not found**"
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %v |\n",
			strings.TrimSpace(result.Mutant.Fence+" "+result.Mutant.Note), result.Mutant.Place, cell(result.Mutant.What), by, after, result.Simulation)
	}
	_, err := io.WriteString(w, text.String())
	if err != nil {
		return fmt.Errorf("mutants: report: %w", err)
	}
	return nil
}

func cell(text string) string {
	const longest = 160
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

// Line says in one line what became of a mutant.
func (r Result) Line() string {
	m := r.Mutant
	at := fmt.Sprintf("%-8s %s: %s", m.Fence, m.Place, m.What)
	switch {
	case m.Seen != "":
		return at + ": can't be found: " + m.Seen
	case r.Found():
		return fmt.Sprintf("%s: found by %s after %v; simulation: %v", at, r.By, r.After.Round(100*time.Millisecond), r.Simulation)
	default:
		return at + ": NOT FOUND: " + strings.Join(r.Tried, "; ")
	}
}

// Rotate puts the mutants in the order of a day: each day begins a stride further on, so that a part that is run daily
// gets through all of them.
func Rotate(all []Mutant, day, stride int) []Mutant {
	if len(all) == 0 {
		return nil
	}
	first := day * stride % len(all)
	return append(append([]Mutant{}, all[first:]...), all[:first]...)
}
