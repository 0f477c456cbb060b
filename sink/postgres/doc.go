// Package postgres is the sink that writes to a table of a PostgreSQL database. What it keeps there and how it writes is
// package sqlsink's; here is how PostgreSQL is spoken to: its SQL, its connections and its errors.
//
// Our tables are in a schema of their own, fencerow. A connection sends what belongs together in one message, and sets its
// own time-outs when it connects, so that the server itself ends a transaction that nobody goes on with.
package postgres
