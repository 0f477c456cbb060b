// Package proc starts the processes that suites and benchmarks look at, keeps what they write, and waits for what they do.
// It knows how a member of etcd is started, how a node's API is asked, and how a process that was built with failpoints is
// given orders. What is tested or measured, it does not know.
package proc
