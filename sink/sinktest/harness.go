// Package sinktest is the conformance suite of sinks that keep claims: every such sink runs it against its own targets,
// so that none can skip the fence. What a sink holds in the end is judged by a reader of the harness, which must be
// written without the sink's own code where that is possible, and never deduplicates.
package sinktest

import (
	"testing"

	"fencerow/sink"
)

// Harness makes targets of one kind of sink.
type Harness struct {
	// New returns an empty target. What it opened is closed by t.Cleanup.
	New func(t testing.TB) Target
	// Copies says that the target is a copy: a snapshot page deletes the keys of its span that the source does not
	// hold, also keys that were written by no changefeed (see Target.Plant). A log appends deletes of what it holds
	// itself, or leaves that to its readers; the suite then doesn't judge stale keys.
	Copies bool
	// Syncs says that the sink is a [sink.Syncing]; its targets are then a [CutTarget].
	Syncs bool
	// Folds says that of a key which changes several times in one batch a copy gets only what remains of it. Then the history
	// of a key may lack changes, but not the last, and has the others in order and once.
	Folds bool
	// LateInUse says that whose the target is shows when data is written, not when the floor is raised.
	LateInUse bool
	// Short makes the random tests small, for targets whose every step is slow.
	Short bool
}

// Target is one place that changefeeds are written to.
type Target interface {
	// Open opens the target for a changefeed, with connections of its own, as another node would.
	Open(t testing.TB, as sink.Identity) sink.Sink
	// OpenFaulty is Open with a crash at one of the sink's effects. fired reports whether it came to that.
	OpenFaulty(t testing.TB, as sink.Identity, crash Crash) (opened sink.Sink, fired func() bool)
	// Read returns what a reader of the target is entitled to, of that changefeed, in an order in which the changes
	// of each key stand as they were made. A copy returns the history of its keys.
	Read(t testing.TB, as sink.Identity) []Entry
	// Plant puts a key into a copy without a changefeed; Read returns it too. Logs need not do anything.
	Plant(t testing.TB, key, value string)
	// Lose makes the target forget what it knows of claims and heads, as if it had been replaced by an empty one.
	Lose(t testing.TB)
}

// Crash is a fault of one sink on one node: at its effect number At, counted from 1 since it was opened, the sink ends.
// An effect is what changes the target in one step: a transaction, a write of a file, an fsync, a rename. From then on
// every effect of that sink fails without being done.
type Crash struct {
	At   int
	When Moment
}

// Moment says which side of the effect the crash is on.
type Moment uint8

// The moments. A lost answer and a crash right after the effect are the same thing to everybody else.
const (
	BeforeEffect Moment = iota + 1
	AfterEffect
	// HalfWay is for effects that are not atomic, such as a write of many bytes. Targets whose effects are atomic
	// take it as BeforeEffect.
	HalfWay
)

// Entry is one change as a reader of the target sees it.
type Entry struct {
	Key     string
	Value   string // of a delete it is empty
	Deleted bool
}
