package faults

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fencerow/integration/history"
	"fencerow/integration/lab"
)

// report gathers what became of all faults.
type report struct {
	mu       sync.Mutex
	outcomes []outcome
	refused  map[string]int // by rule: F9
	facts    int
	requests int // on epoch records
	problems []string
	judged   []string // clusters
}

// unjudged lists the clusters whose tests ended before they were judged.
func (r *report) unjudged(clusters int) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range clusters {
		if name := fmt.Sprintf("c%d", i+1); !slices.Contains(r.judged, name) {
			out = append(out, name)
		}
	}
	return out
}

func (r *report) add(out *outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, *out)
}

func (r *report) object(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// count takes in what the fences of a cluster refused, and whose attempts these were.
func (r *report) count(cluster string, w *history.World) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judged = append(r.judged, cluster)
	for _, p := range w.Processes {
		for _, refusal := range p.Refused {
			if number, _ := strconv.Atoi(strings.TrimPrefix(refusal.Rule, "F")); !inEtcd(number) {
				r.refused[refusal.Rule]++
			}
		}
	}
	for _, attempt := range slices.Concat(w.Records.Attempts(), w.Target.Attempts()) {
		r.refused["F"+strconv.Itoa(attempt.Fence)]++
		for i := range r.outcomes {
			out := &r.outcomes[i]
			if out.cluster == cluster && attempt.Late && attempt.Call.Process.Name == out.victim &&
				attempt.Call.Invoked >= out.fell && attempt.Call.Invoked <= out.ended+int64(lab.WaitMax) && !r.laterVictim(i, attempt.Call.Invoked) {
				out.late[attempt.Fence]++
			}
		}
	}
}

// inEtcd says that a fence is a compare in etcd, whose refusals are counted from the transactions.
func inEtcd(number int) bool {
	return slices.Contains([]int{1, 2, 3, 4, 5, 25}, number)
}

// laterVictim says that a moment belongs to a later fault of the same cluster.
func (r *report) laterVictim(i int, at int64) bool {
	return slices.ContainsFunc(r.outcomes, func(o outcome) bool {
		return o.cluster == r.outcomes[i].cluster && o.fell > r.outcomes[i].fell && o.fell <= at
	})
}

// String is what people read.
func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	slices.SortFunc(r.outcomes, func(a, b outcome) int { return cmp.Compare(a.plan.number, b.plan.number) })
	effective, late := 0, map[int]int{}
	var took []time.Duration
	for i := range r.outcomes {
		out := &r.outcomes[i]
		if out.effective() {
			effective++
		}
		took = append(took, out.recovery)
		fmt.Fprintf(&b, "%3d  %-23s %-23s %-8s in flight %2d  recovered %6.2fs  late: %s %s\n", out.plan.number, out.plan.fault.name,
			out.plan.phase.name, out.victim, out.inFlight, out.recovery.Seconds(), fences(out.late), out.problem)
		for number, n := range out.late {
			late[number] += n
		}
	}
	slices.Sort(took)
	fmt.Fprintf(&b, "faults injected %d, effective %d, in %d of %d combinations of fault and phase\n", len(r.outcomes), effective, r.combinations(),
		len(faults)*len(phases))
	fmt.Fprintf(&b, "attempts of stale processes after a successor's claim, by the fence that refused them: %s\n", fences(late))
	rules := slices.SortedFunc(maps.Keys(r.refused), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	b.WriteString("all that fences refused:")
	for _, rule := range rules {
		fmt.Fprintf(&b, " %s %d", rule, r.refused[rule])
	}
	if len(took) > 0 {
		fmt.Fprintf(&b, "\nrecovery p50 %.2fs p99 %.2fs\n", quantile(took, 50).Seconds(), quantile(took, 99).Seconds())
	}
	fmt.Fprintf(&b, "judged: %d facts, %d requests on epoch records; stale effects and other objections: %d\n", r.facts, r.requests, len(r.problems))
	for _, problem := range r.problems {
		fmt.Fprintf(&b, "OBJECTION %s\n", problem)
	}
	return b.String()
}

func (r *report) effective() int {
	n := 0
	for i := range r.outcomes {
		if r.outcomes[i].effective() {
			n++
		}
	}
	return n
}

func (r *report) combinations() int {
	seen := map[string]bool{}
	for i := range r.outcomes {
		seen[r.outcomes[i].plan.String()] = true
	}
	return len(seen)
}

func fences(counts map[int]int) string {
	var out []string
	for _, number := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("F%d×%d", number, counts[number]))
	}
	return cmp.Or(strings.Join(out, " "), "none")
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}
