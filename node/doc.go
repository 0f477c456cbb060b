// Package node puts a process together: the embedded etcd member, the session and the node's records, the watches, the
// election, the hosts of maintainers and dispatchers, the peers and the API, and their graceful stop. It decides
// nothing about changefeeds: it connects the small interfaces that coordinator, maintainer, dispatcher and api declare
// with epochstore, peer, sources and sinks.
package node

//go:generate go test -run TestEveryMetricIsDocumented . -metrics.write
