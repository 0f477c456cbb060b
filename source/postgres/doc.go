// Package postgres is the source that follows tables of a PostgreSQL database: positions are where commit records begin in
// the write-ahead log, rows are tuples of text.
//
// It is a serial log (see source.Serial): one replication slot a changefeed, read by one [Log] next to the maintainer. The
// slot and two publications are named after the changefeed's uid. The one publishes everything of the tables whose rows have an
// identity; the other, of the tables without, only inserts and truncates, since a table in the first without an identity
// would refuse its application's own updates and deletes.
//
// The package speaks the replication protocol and reads pgoutput's messages itself. It knows no sink and stores nothing: the
// server forgets its log only up to what was acknowledged, and that is the caller's stored checkpoint.
//
// Sources: PostgreSQL's manual, "Streaming Replication Protocol", "Logical Streaming Replication Protocol" and "Logical
// Replication Message Formats".
package postgres
