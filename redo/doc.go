// Package redo is the log that a changefeed keeps beside its target, so that the target can be brought to one consistent
// position when the source is lost. The log is a directory of a file sink. A [Sink] is both: it claims, writes and records
// in the log first and in the target second, each under a claim of its own, so that the log is at or ahead of the target in
// every part of the key space; and it has a batch wait until all other parts have come as far in the log, so that no part of
// the target is ahead of what the whole log holds. [Apply] writes to a target what it lacks, up to that position.
//
// The package knows no source and no kind of target. DESIGN.md has its crash stories.
package redo
