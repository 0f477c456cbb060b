package node

import (
	"slices"

	"fencerow/api"
	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/endpoint"
	"fencerow/maintainer"
	"fencerow/redo"
	"fencerow/sink/file"
	"fencerow/sink/mysql"
	"fencerow/sink/postgres"
	etcdsource "fencerow/source/etcd"
	postgressource "fencerow/source/postgres"
)

// Kinds returns the kinds of sources and sinks that this version has, and the options that each takes.
func Kinds() api.Kinds {
	return api.Kinds{
		Sources: map[endpoint.Scheme][]changefeed.Option{
			endpoint.Etcd: etcdsource.Options(), endpoint.Postgres: postgressource.Options(),
		},
		Logs: []endpoint.Scheme{endpoint.Postgres},
		Sinks: map[endpoint.Scheme][]changefeed.Option{
			endpoint.Etcd:     slices.Concat(endpoint.TLSOptions(), maintainer.SyncOptions()),
			endpoint.File:     slices.Concat(file.Options(), maintainer.SyncOptions()),
			endpoint.Postgres: slices.Concat(postgres.Options(), maintainer.SyncOptions()),
			endpoint.MySQL:    slices.Concat(mysql.Options(), maintainer.SyncOptions()),
			endpoint.Stdout:   nil, endpoint.Blackhole: nil,
		},
		Common: slices.Concat(maintainer.Options(), dispatcher.Options(), redo.Options()),
	}
}
