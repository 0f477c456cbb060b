package mutants

import (
	"bufio"
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// outcome is what one run of a suite says.
type outcome uint8

const (
	passed      outcome = iota + 1
	failed              // a named assertion failed
	notCompiled         // the code or its tests
	panicked            // or a fatal error of the runtime, or the tests' own time ran out
	unclear             // it failed without an assertion of any test
	nothingRan          // no test was run at all
)

func (o outcome) String() string {
	switch o {
	case passed:
		return "passed"
	case failed:
		return "an assertion failed"
	case notCompiled:
		return "does not compile"
	case panicked:
		return "panic or time-out"
	case unclear:
		return "failed without an assertion"
	case nothingRan:
		return "no test ran"
	default:
		return "unknown"
	}
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output, FailedBuild string
}

// judge reads what `go test -json` wrote, and names the test whose assertion failed.
func judge(output []byte) (verdict outcome, by string) {
	// What testing and the libraries of assertions put before a message: the file and the line.
	assertion := regexp.MustCompile(`^\s+(Error Trace:\s|[\w./-]+\.(go|txt):\d+:)`)
	asserted, failures := map[string]bool{}, []string{}
	ran, hasFailed := false, false
	lines := bufio.NewScanner(bytes.NewReader(output))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Action {
		case "build-fail":
			return notCompiled, ""
		case "run":
			ran = true
		case "output":
			if strings.HasPrefix(e.Output, "panic: ") || strings.HasPrefix(e.Output, "fatal error: ") {
				return panicked, ""
			}
			if e.Test != "" && assertion.MatchString(e.Output) {
				asserted[e.Test] = true
			}
		case "fail":
			hasFailed = true
			if e.FailedBuild != "" {
				return notCompiled, ""
			}
			if e.Test != "" {
				failures = append(failures, e.Test)
			}
		}
	}
	for _, name := range failures { // a part comes before the whole
		if asserted[name] {
			return failed, name
		}
	}
	switch {
	case hasFailed:
		return unclear, ""
	case !ran:
		return nothingRan, ""
	default:
		return passed, ""
	}
}
