// Package integration holds the suites on real processes: nodes, etcd members and writers that are killed, stopped and
// restarted, judged by integration/judge. Its code is in its tests.
package integration
