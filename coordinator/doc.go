// Package coordinator decides which node owns which changefeed. It runs on the one node that was elected, for one term.
//
// The core is a pure state machine and level-triggered: it keeps what is wanted (specs, drains), what was last observed
// (epochs, statuses, nodes), and works on the difference. It writes nothing that it would have to restore: a new
// coordinator lists the records and goes on from there. Every write is guarded by its store; an answer is taken in
// like any other observation.
//
// The package refuses to know etcd, the transport between nodes, and how a changefeed is run. It declares the small
// interfaces that it needs; package node connects them.
package coordinator
