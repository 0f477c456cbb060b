package postgres

import (
	"errors"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/source"
)

// Names of the options that only this kind takes.
const (
	OptionTables     = "tables"
	OptionRequireKey = "require_key"
	OptionStreaming  = "streaming"
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
func Resnapshots(options changefeed.Options) bool {
	return options[source.OptionOnGap] == source.GapResnapshot
}

func ownOptions() []changefeed.Option {
	return append([]changefeed.Option{
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
			Name: OptionStreaming, Default: "on", Check: changefeed.OneOf("on", "off"),
			Doc: "on has the server send a large transaction before it commits, and keeps it on the node's disk until then; off has the server " +
				"keep it on its own",
		},
	}, source.SnapshotOptions("what to do when the replication slot is lost and log that is needed with it: fail, or resnapshot, which makes a new "+
		"slot and reads everything again", snapshotChunkDefault, snapshotChunkMax)...)
}

// settings are the options as values.
type settings struct {
	source.SnapshotSettings

	patterns   patterns
	requireKey bool
	streaming  bool
}

func parseSettings(options changefeed.Options) (settings, error) {
	values, err := options.Values(Options())
	if err != nil {
		return settings{}, err
	}
	s := settings{requireKey: values[OptionRequireKey] == "true", streaming: values[OptionStreaming] == "on"}
	var errPatterns error
	s.patterns, errPatterns = parsePatterns(values[OptionTables])
	s.SnapshotSettings, err = source.ParseSnapshotSettings(values)
	return s, errors.Join(errPatterns, err)
}
