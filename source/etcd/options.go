package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

// Names of the options.
const (
	OptionPrevious      = "previous"
	OptionOnGap         = "on_gap"
	OptionSnapshotRate  = "snapshot_rate"
	OptionSnapshotChunk = "snapshot_chunk"
)

// Values of on_gap.
const (
	gapFail       = "fail"
	gapResnapshot = "resnapshot"
)

const (
	snapshotChunkDefault = 4000
	// snapshotChunkMax bounds a page: etcd answers it in one message, under a lock that writers need.
	snapshotChunkMax = 50_000
)

// Options returns the options of this kind of source.
func Options() []changefeed.Option { return append(ownOptions(), endpoint.TLSOptions()...) }

func ownOptions() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: OptionPrevious, Default: "false", Check: oneOf("true", "false"),
			Doc: "true reads the value before each change too, for `before`; it costs etcd a read for every change",
		},
		{
			Name: OptionOnGap, Default: gapFail, Check: oneOf(gapFail, gapResnapshot),
			Doc: "what to do when the history that is needed was compacted away: fail, or resnapshot, which reads " +
				"everything again and makes deletes of the keys that are gone",
		},
		{
			Name: OptionSnapshotRate, Default: "0", Check: number(0, 1<<31),
			Doc: "at most so many rows a second while a snapshot is read; 0 is as fast as possible",
		},
		{
			Name: OptionSnapshotChunk, Default: strconv.Itoa(snapshotChunkDefault), Check: number(1, snapshotChunkMax),
			Doc: fmt.Sprintf("at most so many rows in one page of a snapshot, 1 to %d; large rows make smaller pages", snapshotChunkMax),
		},
	}
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("is none of %q", values)
	}
}

func number(least, most int64) func(string) error {
	return func(value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return errors.New("is not a whole number")
		}
		if n < least || n > most {
			return fmt.Errorf("is not from %d to %d", least, most)
		}
		return nil
	}
}

// settings are the options as values.
type settings struct {
	previous      bool
	resnapshot    bool
	snapshotRate  int
	snapshotChunk int
}

func parseSettings(options changefeed.Options) (settings, error) {
	var s settings
	own := make(changefeed.Options)
	values := make(map[string]string)
	for _, option := range Options() {
		if value, found := options[option.Name]; found {
			own[option.Name] = value
		}
		values[option.Name] = options.Value(option)
	}
	if err := own.Validate(Options()); err != nil {
		return s, err
	}
	s.previous = values[OptionPrevious] == "true"
	s.resnapshot = values[OptionOnGap] == gapResnapshot
	var err, errChunk error
	s.snapshotRate, err = strconv.Atoi(values[OptionSnapshotRate])
	s.snapshotChunk, errChunk = strconv.Atoi(values[OptionSnapshotChunk])
	return s, errors.Join(err, errChunk)
}
