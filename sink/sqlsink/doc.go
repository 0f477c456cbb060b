// Package sqlsink is what the sinks of SQL databases share: the tables in which they keep head, claims and sync points,
// the transactions that read and write them, and how changes become rows. What differs between servers is behind two small
// interfaces: a [Dialect] says how things are written, a [Session] is one connection. The statements are values; nothing
// here knows a driver.
//
// Beside the data, in the same database, four tables are kept:
//
//	heads    whose it is, the floor, whether it was removed, the number of the next claim, and the pieces without writer
//	claims   span, token and marks of one claim each, and which connection writes under it
//	targets  which changefeed a table of data belongs to
//	syncs    the recorded sync points
//
// The incarnation of a claim is its number, which is never used again. Whoever takes a span deletes the claims that it
// supersedes, in a transaction that holds the head's row, and waits for the transactions that are open under them. A data
// transaction begins with an update of its own claim's row; it touches one row, or nothing of the rest happens.
//
// Every claim has a connection of its own, and no statement is sent twice by anybody but this package, which then compares
// again.
package sqlsink
