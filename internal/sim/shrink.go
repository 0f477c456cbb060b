package sim

import (
	"fmt"
	"strings"
)

// Shrunk is the least that was found to break the same invariant.
type Shrunk struct {
	Report  Report
	Options Options
}

// String says how to replay it.
func (s Shrunk) String() string {
	var names []string
	for _, kind := range s.Options.Without {
		names = append(names, kind.String())
	}
	text := fmt.Sprintf("%v\n  replay: go run ./internal/sim/cmd/sim -seed %d -steps %d -v", s.Report.Err, s.Report.Seed, s.Options.Steps)
	if len(names) > 0 {
		text += " -without " + strings.Join(names, ",")
	}
	if len(s.Options.Spare) > 0 {
		text += " -spare " + strings.Join(s.Options.Spare, ",")
	}
	return text
}

// Shrink looks for less of a failing seed that still breaks the same invariant: it leaves out kinds of faults and of
// wishes one after another, and then cuts the horizon.
func Shrink(seed uint64, options Options) Shrunk {
	options.Out = nil
	if options.Steps == 0 {
		options.Steps = StepsDefault
	}
	best := Shrunk{Report: Run(seed, options), Options: options}
	if best.Report.Err == nil {
		return best
	}
	for kind := range faultKinds {
		less := best.Options
		less.Without = append(append([]FaultKind(nil), less.Without...), kind)
		best.try(less)
	}
	for _, wish := range wishes {
		less := best.Options
		less.Spare = append(append([]string(nil), less.Spare...), wish)
		best.try(less)
	}
	for cut := best.Options.Steps / 2; cut >= 10; cut /= 2 {
		for best.Options.Steps > cut {
			less := best.Options
			less.Steps -= cut
			if !best.try(less) {
				break
			}
		}
	}
	return best
}

// try keeps what still fails in the same way.
func (s *Shrunk) try(less Options) bool {
	report := Run(s.Report.Seed, less)
	if report.Err == nil || invariantOf(report.Err) != invariantOf(s.Report.Err) {
		return false
	}
	s.Report, s.Options = report, less
	return true
}

func invariantOf(err error) int {
	if violation, ok := err.(*Violation); ok { //nolint:errorlint // as the checker made it
		return violation.Invariant
	}
	return 0
}
