// Package epochstore is the only writer of the records in etcd: who owns which changefeed, at which epoch, and how far
// it is. Each write is one guarded transaction, built as a value in the files txn_*.go by functions without a client, so
// that the simulator executes the same values; the drivers around them only send, read back and classify.
//
// A write has four outcomes: nil (committed), an error that is [fence.ErrStale] (not committed, and what it was decided
// on is gone: stop or decide afresh), one that is [fence.ErrUnknown] (it may have been committed), anything else (not
// committed, may be tried again).
//
// The package refuses to know placement, timing of takeovers, peers, sources and sinks.
package epochstore
