// Package serial carries the one log of a serial source (see [source.Serial]) from its reader to the dispatchers of all
// nodes. A changefeed's owner has the reader, a [Hub]: it filters the log by spans and hands each subscription what it lacks.
// Each dispatcher has a [Source], which reads snapshots from the source itself and subscribes to the owner's hub for the
// rest, in memory on the same node and over a stream of bytes ([Pipe]) elsewhere.
//
// The log is the same whoever reads it, so what is delivered needs no fence. What matters is that nothing is missing: the
// messages of a subscription are numbered, each names the mark that it follows, and a reader takes only the next one of the
// subscription that it opened last. After any doubt it subscribes again, from what it has delivered.
//
// The package knows no kind of source, no record and no transport.
package serial
