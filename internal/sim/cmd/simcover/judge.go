package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// place is a line and a column.
type place struct{ line, column int }

// block is a run of statements, and how often it was executed.
type block struct {
	from, to   place
	statements int
	count      int
}

// mark is a `// fence:Fn` and what became of it.
type mark struct {
	fence, place, text string
	held, refused      int // how often the condition was true, and how often it was not
}

// tally is what was executed of one file.
type tally struct {
	file             string
	core             bool
	statements, done int
	missing          []string
}

// outcome is all that was counted.
type outcome struct {
	tallies []tally
	marks   []mark
}

// rewrite turns `return condition // fence:Fn` and `name := condition // fence:Fn` into an if, so that each outcome is a block of
// its own.
func rewrite(text string) string {
	returned := regexp.MustCompile(`(?m)^(\s*)return (.+) // (fence:F\d+.*)$`)
	text = returned.ReplaceAllStringFunc(text, func(line string) string {
		parts := returned.FindStringSubmatch(line)
		if parts[2] == "nil" {
			return line
		}
		return fmt.Sprintf("%[1]sif %[2]s { // %[3]s\n%[1]s\treturn true\n%[1]s}\n%[1]sreturn false", parts[1], parts[2], parts[3])
	})
	kept := regexp.MustCompile(`(?m)^(\s*)(\w+) := (.+) // (fence:F\d+.*)$`)
	return kept.ReplaceAllString(text, "${1}${2} := false\n${1}if ${3} { // ${4}\n${1}\t${2} = true\n${1}}")
}

// read reads the blocks of a profile by file.
func read(profile string) map[string][]block {
	pattern := regexp.MustCompile(`^fencerow/(\S+):(\d+)\.(\d+),(\d+)\.(\d+) (\d+) (\d+)$`)
	out := map[string][]block{}
	for line := range strings.SplitSeq(profile, "\n") {
		parts := pattern.FindStringSubmatch(line)
		if parts == nil {
			continue
		}
		var n [6]int
		for i := range n {
			n[i], _ = strconv.Atoi(parts[i+2])
		}
		out[parts[1]] = append(out[parts[1]], block{from: place{n[0], n[1]}, to: place{n[2], n[3]}, statements: n[4], count: n[5]})
	}
	return out
}

// refusals reads how often each fence refused from what the seeds printed. A fence of a transaction is counted there.
func refusals(census string) map[string]int {
	out := map[string]int{}
	for line := range strings.SplitSeq(census, "\n") {
		list, found := strings.CutPrefix(line, "refusals by fence:")
		if !found {
			continue
		}
		words := strings.Fields(list)
		for i := 0; i+1 < len(words); i += 2 {
			out[words[i]], _ = strconv.Atoi(words[i+1])
		}
	}
	return out
}

// judge counts statements and the outcomes of the marks.
func (c *counting) judge(profile, census string) outcome {
	var out outcome
	blocks, refused := read(profile), refusals(census)
	for _, file := range slices.Sorted(maps.Keys(c.sources)) {
		decides, core := judged(file)
		if !decides {
			continue
		}
		t := tally{file: file, core: core}
		for _, b := range blocks[file] {
			t.statements += b.statements
			if b.count > 0 {
				t.done += b.statements
			} else if b.statements > 0 {
				t.missing = append(t.missing, fmt.Sprintf("%d-%d", b.from.line, b.to.line))
			}
		}
		out.tallies = append(out.tallies, t)
		for i, line := range c.sources[file] {
			_, after, found := strings.Cut(line, "// fence:")
			if !found {
				continue
			}
			name, _, _ := strings.Cut(after, " ")
			m := mark{fence: name, place: file, text: strings.TrimSpace(line)}
			m.count(blocks[file], i+1, refused[name])
			out.marks = append(out.marks, m)
		}
	}
	return out
}

// count finds the outcomes of a mark on a line.
func (m *mark) count(blocks []block, line, refused int) {
	around := enclosing(blocks, line)
	switch {
	case strings.Contains(m.text, "kv.ModIs(") || strings.Contains(m.text, "kv.CreateIs("):
		m.held, m.refused = around.count, refused
	case strings.HasPrefix(m.text, "if ") || strings.HasPrefix(m.text, "} else if "):
		m.held, m.refused = branch(blocks, line)
	case strings.HasPrefix(m.text, "return nil"):
		m.held, m.refused = around.count, following(blocks, around).count
	default: // an effect, whose refusals are counted where it lands
		m.held, m.refused = around.count, refused
	}
}

// enclosing returns the block that a line is in.
func enclosing(blocks []block, line int) block {
	var best block
	for _, b := range blocks {
		if b.from.line <= line && line <= b.to.line && (best.to.line == 0 || best.from.line < b.from.line) {
			best = b
		}
	}
	return best
}

// following returns the block behind the end of another one and of what it is nested in.
func following(blocks []block, before block) block {
	var best block
	for _, b := range blocks {
		if b.from.line > before.to.line && (best.to.line == 0 || b.from.line < best.from.line) {
			best = b
		}
	}
	return best
}

// branch returns how often the branch was taken whose condition ends on the line, and how often it was not. The block that
// ends with the condition ends where the body begins.
func branch(blocks []block, line int) (taken, passed int) {
	for _, body := range blocks {
		if body.from.line != line {
			continue
		}
		for _, before := range blocks {
			if before.to == body.from {
				return body.count, before.count - body.count
			}
		}
	}
	return 0, 0
}

// verdictRules say what is enough.
type verdictRules struct {
	least   float64
	missing bool
}

// report prints the tables, and returns an error where less was executed than must be.
func report(out io.Writer, what outcome, rules verdictRules) error {
	var total, cores tally
	fmt.Fprintln(out, "statements of what decides, executed by the seeds:")
	for i := range what.tallies {
		t := &what.tallies[i]
		total.statements, total.done = total.statements+t.statements, total.done+t.done
		if t.core {
			cores.statements, cores.done = cores.statements+t.statements, cores.done+t.done
		}
		if t.statements == 0 {
			continue
		}
		fmt.Fprintf(out, "  %-34s %4d of %4d  %5.1f %%", t.file, t.done, t.statements, t.percent())
		if rules.missing {
			fmt.Fprintf(out, "  %s", strings.Join(t.missing, " "))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "  %-34s %4d of %4d  %5.1f %%\n", "together", total.done, total.statements, total.percent())
	fmt.Fprintf(out, "  %-34s %4d of %4d  %5.1f %%\n", "the cores (core*.go)", cores.done, cores.statements, cores.percent())
	fmt.Fprintln(out, "fences: how often the condition at the mark was true, and how often false (for a compare or an effect: held, refused):")
	slices.SortStableFunc(what.marks, func(a, b mark) int { return cmp.Compare(number(a.fence), number(b.fence)) })
	oneSided := 0
	for _, m := range what.marks {
		note := ""
		if m.held == 0 || m.refused <= 0 {
			note = "  [ONE OUTCOME ONLY]"
			oneSided++
		}
		fmt.Fprintf(out, "  %-4s %-28s %9d %9d  %.90s%s\n", m.fence, m.place, m.held, m.refused, m.text, note)
	}
	switch {
	case oneSided > 0:
		return fmt.Errorf("simcover: %d fences had one outcome only", oneSided)
	case cores.percent() < rules.least:
		return fmt.Errorf("simcover: %.1f %% of the cores' statements were executed, %.0f must be", cores.percent(), rules.least)
	default:
		return nil
	}
}

func number(fence string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(fence, "F"))
	return n
}

func (t *tally) percent() float64 { return 100 * float64(t.done) / float64(max(t.statements, 1)) }
