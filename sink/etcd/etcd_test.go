package etcd_test

import (
	"fencerow/changefeed"
	"fencerow/sink"
)

var orders = sink.Identity{
	Cluster: "14841639068965178418", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1",
}
