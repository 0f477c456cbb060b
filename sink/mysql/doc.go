// Package mysql is the sink that writes to a table of a MySQL or MariaDB database. What it keeps there and how it writes is
// package sqlsink's; here is how these servers are spoken to: their SQL, their connections and their errors.
//
// Our tables are in the database of the data, since names of databases are few and given; their names begin with fencerow_.
// DDL ends a transaction there, so none is in one. A connection is known to others by a lock of the server under a name that
// is drawn for it, which is free as soon as the connection is gone.
package mysql
