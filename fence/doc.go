// Package fence holds the one rule that stops two owners of the same changefeed from both having an effect: what an
// owner does carries its Token, and whoever applies it admits only the newest that it has seen.
//
// It has two verbs. Commands travel down from an owner: the receiver holds a [Gate] and admits nothing older than it
// has seen. Reports travel up to an owner: the owner holds its epoch or token and confirms them.
//
// The package is a leaf: no etcd, no gRPC, no clock, so that the rule can be read, tested and simulated alone.
package fence
