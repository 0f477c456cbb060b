// Package sqltest holds what the suites of SQL sinks share beside package sinktest: nodes that die at one of their
// commits, writers that stand still with a transaction open, connections that are cut at every byte of a commit, and
// targets that are not as they should be. Each kind of server runs it against a real one.
package sqltest
