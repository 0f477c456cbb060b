// Package dispatcher is a node's host of dispatchers: it admits what maintainers ask by the changefeed's gate, runs one
// pump per admitted span, and tells the owner what is, not what was asked.
//
// It has three parts. [Core] decides: one instance per changefeed name, pure, in the files core*.go. [Host] does: it
// gives every changefeed a mailbox that one goroutine reads, executes what its core decided, and forgets the mailbox
// when nothing is left to remember. The pump moves the data of one span from the source to the sink.
//
// The package refuses to know who should own a changefeed (that is the records), how messages travel (peer), and what
// a source or a sink is beyond its contract. It declares what it needs of them as small interfaces.
package dispatcher
