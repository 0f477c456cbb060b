package source

import (
	"errors"
	"fmt"
	"strconv"

	"fencerow/changefeed"
)

// Names of the options that every kind takes whose snapshots are read in pages, and whose history can be gone.
const (
	OptionOnGap         = "on_gap"
	OptionSnapshotRate  = "snapshot_rate"
	OptionSnapshotChunk = "snapshot_chunk"
)

// Values of on_gap.
const (
	GapFail       = "fail"
	GapResnapshot = "resnapshot"
)

// SnapshotOptions returns these options. onGap says, for people, what a gap is and what resnapshot does about it; chunk and
// chunkMax are how many rows a page has where nothing is said, and at most.
func SnapshotOptions(onGap string, chunk, chunkMax int) []changefeed.Option {
	return []changefeed.Option{
		{Name: OptionOnGap, Default: GapFail, Check: changefeed.OneOf(GapFail, GapResnapshot), Doc: onGap},
		{
			Name: OptionSnapshotRate, Default: "0", Check: changefeed.Between(0, 1<<31),
			Doc: "at most so many rows a second while a snapshot is read; 0 is as fast as possible",
		},
		{
			Name: OptionSnapshotChunk, Default: strconv.Itoa(chunk), Check: changefeed.Between(1, int64(chunkMax)),
			Doc: fmt.Sprintf("at most so many rows in one page of a snapshot, 1 to %d; large rows make smaller pages", chunkMax),
		},
	}
}

// SnapshotSettings are these options as values.
type SnapshotSettings struct {
	Resnapshot    bool
	SnapshotRate  int // rows a second; 0: as fast as possible
	SnapshotChunk int // rows of a page
}

// ParseSnapshotSettings reads the options from values that their checks took.
func ParseSnapshotSettings(values map[string]string) (SnapshotSettings, error) {
	rate, err := strconv.Atoi(values[OptionSnapshotRate])
	chunk, errChunk := strconv.Atoi(values[OptionSnapshotChunk])
	return SnapshotSettings{
		Resnapshot: values[OptionOnGap] == GapResnapshot, SnapshotRate: rate, SnapshotChunk: chunk,
	}, errors.Join(err, errChunk)
}
