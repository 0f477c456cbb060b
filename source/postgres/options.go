package postgres

import (
	"errors"
	"fmt"
	"strconv"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

// Names of the options.
const (
	OptionTables        = "tables"
	OptionRequireKey    = "require_key"
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
	tablesDefault        = "*.*"
	snapshotChunkDefault = 10_000
	// snapshotChunkMax bounds what a page holds in memory at ordinary widths of rows.
	snapshotChunkMax = 200_000
)

// Options returns the options of this kind of source.
func Options() []changefeed.Option { return append(ownOptions(), endpoint.TLSOptions()...) }

// Resnapshots reports whether what the source has lost is read again.
func Resnapshots(options changefeed.Options) bool { return options[OptionOnGap] == gapResnapshot }

func ownOptions() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: OptionTables, Default: tablesDefault, Check: checkPatterns,
			Doc: "which tables, as schema.table with * and ?, several with commas between; ! leaves those out that match, as in " +
				"public.*,!public.tmp_*; a backslash takes the next character as it is",
		},
		{
			Name: OptionRequireKey, Default: "false", Check: changefeed.OneOf("true", "false"),
			Doc: "true refuses tables without a replica identity; else their inserts and truncates are copied, and no updates and deletes",
		},
		{
			Name: OptionOnGap, Default: gapFail, Check: changefeed.OneOf(gapFail, gapResnapshot),
			Doc: "what to do when the replication slot is lost and log that is needed with it: fail, or resnapshot, which makes a new " +
				"slot and reads everything again",
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
	patterns      patterns
	requireKey    bool
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
	s.requireKey = values[OptionRequireKey] == "true"
	s.resnapshot = values[OptionOnGap] == gapResnapshot
	var errPatterns, errChunk error
	s.patterns, errPatterns = parsePatterns(values[OptionTables])
	s.snapshotRate, err = strconv.Atoi(values[OptionSnapshotRate])
	s.snapshotChunk, errChunk = strconv.Atoi(values[OptionSnapshotChunk])
	return s, errors.Join(errPatterns, err, errChunk)
}
