package sim

import (
	"fmt"
	"io"

	"fencerow/maintainer"
)

// FaultKind is something that a seed may do to a cluster.
type FaultKind uint8

// The kinds of faults. Each is counted only where it had an effect: something was really held up, lost, or ended.
const (
	Crash        FaultKind = iota // a process that ran something dies, and starts again with an empty memory
	Pause                         // a process that had something to do stands still, and goes on
	Stall                         // time passes between the look at the session and the write
	ClockRate                     // a node's clock is slow or fast
	ClockJump                     // a node's clock jumps, as over a suspension
	Cut                           // a link between nodes is cut, one way or both
	CutEtcd                       // a node is cut off from etcd, one way or both
	CutTarget                     // a node is cut off from the target
	Loss                          // a message is lost
	Duplicate                     // a message comes twice
	Reorder                       // a message comes late, after others
	DeadLetter                    // a message or a request of a dead process arrives
	EtcdAsk                       // a request to etcd is lost before it is done
	EtcdAnswer                    // etcd's answer is lost after the request was done
	EtcdStall                     // etcd answers nobody for a while
	EtcdFull                      // etcd refuses writes for a while
	Compaction                    // history that somebody still watches is gone
	WatchLag                      // a watch delivers late
	WatchSilence                  // a watch says nothing, without an error
	TargetAsk                     // a write to the target is lost
	TargetAnswer                  // the target's answer is lost after the write was done
	TargetStall                   // the target answers nobody for a while
	SourceOutage                  // the source can't be read for a while
	Isolate                       // a node is cut off from all others, not from etcd
	SourceSwap                    // another source stands where the changefeed's was
	Echo                          // a command of long ago arrives again
	Rogue                         // a broken node sends commands with an epoch, a sender or a uid that is not so
	Restore                       // etcd comes back from an old backup
	Damage                        // a spec can't be read for a while
	Intruder                      // somebody whose time is over, or never was, tries the sink
	LateEviction                  // an eviction is learned of late, and its changefeed changes its owner before
	faultKinds
)

var faultNames = [faultKinds]string{
	"crash", "pause", "stall", "clock-rate", "clock-jump", "cut", "cut-etcd", "cut-target", "loss", "duplicate", "reorder",
	"dead-letter", "etcd-ask", "etcd-answer", "etcd-stall", "etcd-full", "compaction", "watch-lag", "watch-silence",
	"target-ask", "target-answer", "target-stall", "source-outage", "isolate", "source-swap", "echo", "rogue", "restore",
	"damage", "intruder", "late-eviction",
}

// String returns the kind's name.
func (k FaultKind) String() string {
	if k < faultKinds {
		return faultNames[k]
	}
	return "unknown"
}

// ParseFault returns the kind of that name.
func ParseFault(name string) (FaultKind, error) {
	for kind, known := range faultNames {
		if known == name {
			return FaultKind(kind), nil
		}
	}
	return 0, fmt.Errorf("sim: no fault is called %q; there are %v", name, faultNames)
}

// outcomesMax is above the highest outcome of a maintainer.
const outcomesMax = 16

// fencesMax is above the highest number of a fence.
const fencesMax = 32

// Census counts what happened.
type Census struct {
	Faults [faultKinds]int
	Fences [fencesMax]int // refusals, by the fence's number
	Inputs [inputKinds]int
	// Motions are those of spans that were begun, by why.
	Motions [maintainer.MovedForQuiet + 1]int
	Bumps   int
	// Evictions are those that were acknowledged.
	Evictions int
	Wishes    int // of operators that were stored
	Written   int // changes in sinks
	Late      int // writes that reached the target after their writer was superseded or dead
	Pages     int // of snapshots, in claiming sinks
	Syncs     int // sync points that were recorded
	Behind    int // statuses that say that the sink knows a newer owner than the records
	Died      int // processes that ended since etcd went back
	// Outcomes are the ends of maintainers.
	Outcomes [outcomesMax]int
}

// inputKind is who was given an input.
type inputKind uint8

const (
	toCoordinator inputKind = iota
	toMaintainer
	toDispatchers
	answered
	inputKinds
)

// Add adds the counts of another run.
func (c *Census) Add(other *Census) {
	for i := range c.Faults {
		c.Faults[i] += other.Faults[i]
	}
	for i := range c.Fences {
		c.Fences[i] += other.Fences[i]
	}
	for i := range c.Motions {
		c.Motions[i] += other.Motions[i]
	}
	for i := range c.Inputs {
		c.Inputs[i] += other.Inputs[i]
	}
	c.Bumps += other.Bumps
	c.Evictions += other.Evictions
	c.Wishes += other.Wishes
	c.Written += other.Written
	c.Late += other.Late
	c.Pages += other.Pages
	c.Syncs += other.Syncs
	c.Behind += other.Behind
	c.Died += other.Died
	for i := range c.Outcomes {
		c.Outcomes[i] += other.Outcomes[i]
	}
}

// Print writes the counts for people.
func (c *Census) Print(out io.Writer) {
	_, _ = fmt.Fprintf(out, "inputs: coordinator %d, maintainers %d, dispatcher hosts %d; answers %d\n",
		c.Inputs[toCoordinator], c.Inputs[toMaintainer], c.Inputs[toDispatchers], c.Inputs[answered])
	_, _ = fmt.Fprintf(out, "bumps %d, evictions %d, wishes %d, changes written %d, pages of snapshots %d, sync points %d, late writes %d\n", c.Bumps,
		c.Evictions, c.Wishes, c.Written, c.Pages, c.Syncs, c.Late)
	_, _ = fmt.Fprint(out, "spans in motion:")
	for why := maintainer.MovedForDrain; why <= maintainer.MovedForQuiet; why++ {
		_, _ = fmt.Fprintf(out, " %v %d", why, c.Motions[why])
	}
	_, _ = fmt.Fprintf(out, "\nrestores: processes that ended %d, statuses behind their sink %d\n", c.Died, c.Behind)
	_, _ = fmt.Fprint(out, "ends of maintainers:")
	for outcome, n := range c.Outcomes {
		if n > 0 {
			_, _ = fmt.Fprintf(out, " %v %d", maintainer.Outcome(outcome), n)
		}
	}
	_, _ = fmt.Fprint(out, "\nfaults that took effect:")
	for kind, n := range c.Faults {
		_, _ = fmt.Fprintf(out, " %v %d", FaultKind(kind), n)
	}
	_, _ = fmt.Fprint(out, "\nrefusals by fence:")
	for number, n := range c.Fences {
		if n > 0 {
			_, _ = fmt.Fprintf(out, " F%d %d", number, n)
		}
	}
	_, _ = fmt.Fprintln(out)
}

// unprovenMin is the number of seeds from which on each kind of fault and each fence must have had its effect.
const unprovenMin = 100

// provenFences are the fences that each must refuse something in a run of many seeds: one that never did proves nothing.
// F10, F11 and F14 refuse what only a broken node sends, which the fault rogue does.
func provenFences() []int { return []int{1, 2, 3, 4, 5, 9, 10, 11, 12, 14, 15, 16, 22, 23, 24, 25, 26} }

// Unproven says what never had an effect in a run of so many seeds.
func (c *Census) Unproven(seeds uint64) []string {
	if seeds < unprovenMin {
		return nil
	}
	var out []string
	for kind, n := range c.Faults {
		if n == 0 {
			out = append(out, fmt.Sprintf("no %v took effect", FaultKind(kind)))
		}
	}
	for why := maintainer.MovedForDrain; why <= maintainer.MovedForQuiet; why++ {
		if c.Motions[why] == 0 {
			out = append(out, fmt.Sprintf("no span was set in motion for %v", why))
		}
	}
	for _, number := range provenFences() {
		if c.Fences[number] == 0 {
			out = append(out, fmt.Sprintf("F%d refused nothing", number))
		}
	}
	return out
}

func (w *World) struck(kind FaultKind) { w.census.Faults[kind]++ }

func (w *World) given(kind inputKind) {
	w.step()
	w.census.Inputs[kind]++
}
