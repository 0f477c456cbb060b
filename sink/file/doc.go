// Package file is the sink that keeps a changefeed's changes as lines of JSON in a directory. Any number of nodes may
// write into the directory, as long as they see one coherent file system; LAYOUT.md tells what lies where, and what can
// happen between any two steps.
//
// In short: claims are numbered files that only one node can create each, so they are in one order. A claim ends the
// data of the claims whose span it takes by a seal, which only one node can create either. A writer counts a batch only
// when it is on disk and no claim after its own takes its span. Whatever a stale writer appends lies behind a seal, and
// no reader takes it.
//
// The package knows no source, no protocol between nodes, and reads no clock but to rotate and to retain.
package file
