package etcd

import (
	"errors"
	"fmt"
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
			Name: OptionPrevious, Default: "false", Check: changefeed.OneOf("true", "false"),
			Doc: "true reads the value before each change too, for `before`; it costs etcd a read for every change",
		},
		{
			Name: OptionOnGap, Default: gapFail, Check: changefeed.OneOf(gapFail, gapResnapshot),
			Doc: "what to do when the history that is needed was compacted away: fail, or resnapshot, which reads " +
				"everything again and makes deletes of the keys that are gone",
		},
		{
			Name: OptionSnapshotRate, Default: "0", Check: changefeed.Between(0, 1<<31),
			Doc: "at most so many rows a second while a snapshot is read; 0 is as fast as possible",
		},
		{
			Name: OptionSnapshotChunk, Default: strconv.Itoa(snapshotChunkDefault), Check: changefeed.Between(1, snapshotChunkMax),
			Doc: fmt.Sprintf("at most so many rows in one page of a snapshot, 1 to %d; large rows make smaller pages", snapshotChunkMax),
		},
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
	values, err := options.Values(Options())
	if err != nil {
		return s, err
	}
	s.previous = values[OptionPrevious] == "true"
	s.resnapshot = values[OptionOnGap] == gapResnapshot
	var errChunk error
	s.snapshotRate, err = strconv.Atoi(values[OptionSnapshotRate])
	s.snapshotChunk, errChunk = strconv.Atoi(values[OptionSnapshotChunk])
	return s, errors.Join(err, errChunk)
}
