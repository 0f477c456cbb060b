// Package sim runs a whole cluster in one goroutine, from one seed: the real cores of coordinator, maintainer and
// dispatcher host, the real admission, and the real transactions of epochstore and of the etcd sink, on simulated
// clocks, network, etcd, sources and processes that fail in every way that a seed picks. A checker that knows nothing of
// the cores looks at every record, message, claim and write. A seed that fails prints itself and replays exactly.
//
// The package has no decision of its own: it only does what the drivers around the cores do. Code of ours that waits for
// answers runs as a task, which is resumed when the simulated answer is there; only one task runs at any moment.
package sim
