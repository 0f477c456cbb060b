package etcd

import (
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/source"
)

// OptionPrevious is the one option that only this kind takes.
const OptionPrevious = "previous"

const (
	snapshotChunkDefault = 4000
	// snapshotChunkMax bounds a page: etcd answers it in one message, under a lock that writers need.
	snapshotChunkMax = 50_000
)

// Options returns the options of this kind of source.
func Options() []changefeed.Option { return append(ownOptions(), endpoint.TLSOptions()...) }

func ownOptions() []changefeed.Option {
	return append([]changefeed.Option{{
		Name: OptionPrevious, Default: "false", Check: changefeed.OneOf("true", "false"),
		Doc: "true reads the value before each change too, for `before`; it costs etcd a read for every change",
	}}, source.SnapshotOptions("what to do when the history that is needed was compacted away: fail, or resnapshot, which reads "+
		"everything again and makes deletes of the keys that are gone", snapshotChunkDefault, snapshotChunkMax)...)
}

// settings are the options as values.
type settings struct {
	source.SnapshotSettings

	previous bool
}

func parseSettings(options changefeed.Options) (settings, error) {
	values, err := options.Values(Options())
	if err != nil {
		return settings{}, err
	}
	snapshots, err := source.ParseSnapshotSettings(values)
	return settings{SnapshotSettings: snapshots, previous: values[OptionPrevious] == "true"}, err
}
