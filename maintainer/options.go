package maintainer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"fencerow/changefeed"
)

// Names of the options that say where spans meet. Dispatchers don't obey them.
const (
	SplitKeys = changefeed.OptionSplitKeys
	MergeKeys = changefeed.OptionMergeKeys
)

var errOutOfRange = errors.New("is out of range")

// Options returns the options of a changefeed that its maintainer obeys.
func Options() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: SplitKeys, Check: checkKeys,
			Doc: "keys at which the key space is split into spans, separated by commas: text, or base64:…; at most 1000",
		},
		{
			Name: MergeKeys, Check: checkKeys,
			Doc: "keys at which spans are joined that traffic has split, as changefeed merge asks for; written like split_keys",
		},
		{
			Name: splitTraffic, Default: "on", Check: checkSwitch,
			Doc: "on or off: whether spans with much more than their share of the traffic are split, and cold neighbours joined again",
		},
		{
			Name: splitRate, Default: "500", Check: checkRate,
			Doc: "from how many changes a second a span is split that has over twice the mean of its changefeed, 20 to 1000000",
		},
		{
			Name: splitAfter, Default: "1m", Check: checkWait,
			Doc: "for how long it must have them, 1s to 24h",
		},
		{
			Name: mergeAfter, Default: "10m", Check: checkWait,
			Doc: "for how long two neighbours must have less than a quarter of split_rate together to be joined, 1s to 24h; never at split_keys",
		},
	}
}

// SyncPointInterval is the option that says how often a sync point is recorded.
const SyncPointInterval = "sync_point_interval"

// syncIntervalMax keeps a mistake from meaning never.
const syncIntervalMax = 7 * 24 * time.Hour

// SyncOptions returns the options of a changefeed whose sink keeps sync points, which its maintainer obeys.
func SyncOptions() []changefeed.Option {
	return []changefeed.Option{{
		Name: SyncPointInterval, Default: "0s", Check: checkSyncInterval,
		Doc: "how often a sync point is recorded, 1s to 168h; 0s never. At a sync point the sink holds exactly everything up to one " +
			"position: all spans are held there for a moment",
	}}
}

func checkSyncInterval(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("%.40q is not a duration such as 30s", value)
	}
	if d != 0 && (d < syncIntervalMin || d > syncIntervalMax) {
		return fmt.Errorf("%v %w, 1s to 168h, or 0s for none", d, errOutOfRange)
	}
	return nil
}

// syncInterval reads the option. What is refused means none: specs are checked where they are written.
func syncInterval(options changefeed.Options) changefeed.Duration {
	value := options[SyncPointInterval]
	if value == "" || checkSyncInterval(value) != nil {
		return 0
	}
	d, _ := time.ParseDuration(value) //nolint:errcheck // checked above
	return d
}

func checkKeys(value string) error {
	_, err := changefeed.ParseKeys(value)
	return err
}

// keysOf reads a list of keys, in order. A spec that does not parse was not written by the API: it has none.
func keysOf(options changefeed.Options, name string) [][]byte {
	parsed, err := changefeed.ParseKeys(options[name])
	if err != nil {
		return nil
	}
	keys := make([][]byte, len(parsed))
	for i, key := range parsed {
		keys[i] = key
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

// without returns the keys that are not among others.
func without(keys, others [][]byte) [][]byte {
	return slices.DeleteFunc(keys, func(key []byte) bool {
		return slices.ContainsFunc(others, func(other []byte) bool { return bytes.Equal(key, other) })
	})
}

// ownOption reports whether an option is obeyed by the maintainer alone.
func ownOption(name string) bool {
	return slices.ContainsFunc(slices.Concat(Options(), SyncOptions()), func(option changefeed.Option) bool { return option.Name == name })
}
