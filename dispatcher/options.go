package dispatcher

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fencerow/changefeed"
	"fencerow/record"
)

// Bounds of the options of this package.
const (
	batchChangesMax  = 100_000
	batchBytesMax    = 64 << 20
	flushIntervalMax = time.Minute
	retryLimitMax    = 1_000_000
)

var errOutOfRange = errors.New("is out of range")

// Options returns the options of a changefeed that its dispatchers obey.
func Options() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: "batch_changes", Default: "5000", Check: checkNumber(1, batchChangesMax),
			Doc: "how many changes are written to the sink in one step at most, 1 to 100000; of a source of tables 50000 if nothing is said, " +
				"so that its transactions stay whole",
		},
		{
			Name: "batch_bytes", Default: "4194304", Check: checkNumber(1024, batchBytesMax),
			Doc: "how many bytes of changes are written to the sink in one step at most, 1024 to 67108864; of a source of tables 33554432 if " +
				"nothing is said",
		},
		{
			Name: "flush_interval", Default: "0s", Check: checkInterval,
			Doc: "how long changes may wait for others before they are written, 0s to 1m; 0s writes at once when the sink is idle",
		},
		{
			Name: "retry_limit", Default: "10", Check: checkNumber(0, retryLimitMax),
			Doc: "how often a dispatcher tries again without progress before it is started anew, 0 to 1000000",
		},
	}
}

func checkNumber(least, most int) func(string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%.40q is not a whole number", value)
		}
		if n < least || n > most {
			return fmt.Errorf("%d %w, %d to %d", n, errOutOfRange, least, most)
		}
		return nil
	}
}

func checkInterval(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("%.40q is not a duration such as 50ms", value)
	}
	if d < 0 || d > flushIntervalMax {
		return fmt.Errorf("%v %w, 0s to %v", d, errOutOfRange, flushIntervalMax)
	}
	return nil
}

// limits are the options as a pump uses them.
type limits struct {
	changes int
	bytes   int
	flush   time.Duration
	retries int
}

// What a step takes at most of a source of tables, if nothing is said.
const (
	tableChanges = 50_000
	tableBytes   = 32 << 20
)

// limitsOf reads the options of a spec. A source of tables has transactions of many rows, which are to stay whole.
func limitsOf(spec record.Spec) limits {
	out := parseLimits(spec.Options)
	if !strings.HasPrefix(spec.Source, "postgres:") && !strings.HasPrefix(spec.Source, "mysql:") {
		return out
	}
	if _, said := spec.Options["batch_changes"]; !said {
		out.changes = tableChanges
	}
	if _, said := spec.Options["batch_bytes"]; !said {
		out.bytes = tableBytes
	}
	return out
}

// parseLimits reads the options. What is refused falls back to its default: specs are checked where they are written,
// and a record that somebody else wrote must not stop the data.
func parseLimits(options changefeed.Options) limits {
	values := make(map[string]string)
	for _, option := range Options() {
		value := options.Value(option)
		if option.Check(value) != nil {
			value = option.Default
		}
		values[option.Name] = value
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(values[name]) //nolint:errcheck // checked above
		return n
	}
	flush, _ := time.ParseDuration(values["flush_interval"]) //nolint:errcheck // checked above
	return limits{
		changes: number("batch_changes"), bytes: number("batch_bytes"), flush: flush, retries: number("retry_limit"),
	}
}
