package maintainer

import (
	"fmt"
	"strconv"
	"time"

	"fencerow/changefeed"
)

// Names of the options about traffic.
const (
	splitTraffic = "split_traffic"
	splitRate    = "split_rate"
	splitAfter   = "split_after"
	mergeAfter   = "merge_after"
)

const (
	splitRateMin = 20 // below it dispatchers do not sample keys
	splitRateMax = 1_000_000
	waitMin      = time.Second
	waitMax      = 24 * time.Hour
)

func checkSwitch(value string) error {
	if value != "on" && value != "off" {
		return fmt.Errorf("%.40q is neither on nor off", value)
	}
	return nil
}

func checkRate(value string) error {
	rate, err := strconv.ParseUint(value, 10, 32)
	if err != nil || rate < splitRateMin || rate > splitRateMax {
		return fmt.Errorf("%.40q is not a number of %d to %d", value, splitRateMin, splitRateMax)
	}
	return nil
}

func checkWait(value string) error {
	wait, err := time.ParseDuration(value)
	if err != nil || wait < waitMin || wait > waitMax {
		return fmt.Errorf("%.40q is not a duration of 1s to 24h", value)
	}
	return nil
}

// trafficRules are the options about traffic as the core uses them.
type trafficRules struct {
	on         bool
	rate       uint32
	splitAfter changefeed.Duration
	mergeAfter changefeed.Duration
}

// trafficRulesOf reads them. A value that the API did not write falls back to its default.
func trafficRulesOf(options changefeed.Options) trafficRules {
	values := make(map[string]string)
	for _, option := range Options() {
		value := options.Value(option)
		if option.Check(value) != nil {
			value = option.Default
		}
		values[option.Name] = value
	}
	rules := trafficRules{on: values[splitTraffic] == "on"}
	rate, _ := strconv.ParseUint(values[splitRate], 10, 32) //nolint:errcheck // checked above, like the others
	rules.rate = uint32(rate)
	rules.splitAfter, _ = time.ParseDuration(values[splitAfter]) //nolint:errcheck // checked above
	rules.mergeAfter, _ = time.ParseDuration(values[mergeAfter]) //nolint:errcheck // checked above
	return rules
}
