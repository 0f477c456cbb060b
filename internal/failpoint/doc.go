// Package failpoint lets tests of real processes meet them at a known place, and read afterwards what they did. Without
// the build tag failpoints, [On] is a constant false, and every use stands behind it, so that the compiler leaves out all
// of it; a test of integration/faults holds a build to that.
//
// With the tag a process connects to the Unix socket that is named by CDC_FAILPOINTS and takes orders from it: arm a
// point, let it go on; it tells when an armed point was hit. Into the file that is named by CDC_HISTORY it appends what it
// invoked, was answered, admitted, started and ended, one line each and each written before the process goes on, so that
// the lines of a process that was killed are all there. What a fault is, or a phase, it does not know.
package failpoint

// Points, by what is about to happen there.
const (
	// Txn is hit before a transaction is handed to etcd's client, or what is left of one to a database's, after everything was
	// checked that is checked before. Its detail names what it compares and puts; in a database, what it is for, and the changefeed.
	Txn = "txn"
	// Start is hit by the goroutine of a maintainer before its first step. Its detail is the changefeed.
	Start = "start"
	// Send is hit before a maintainer's message is sent. Its detail is the kind of the message, its changefeed, and who it
	// is for.
	Send = "send"
	// Commit is hit before a sink commits a transaction of which everything else is done. Its detail is what the
	// transaction is for, and the changefeed.
	Commit = "commit"
)
