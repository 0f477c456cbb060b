//go:build databases

package mysql

import (
	"context"
	"testing"

	"fencerow/sink/sqlsink"
)

// LoadFrom is from how many rows on they are loaded.
const LoadFrom = loadFrom

// LostMax is how many connections in a row may be lost in it.
const LostMax = lostMax

// Opener opens the connections of one sink.
func Opener(t testing.TB, config Config) func(context.Context, string) (sqlsink.Session, error) {
	t.Helper()
	inner, err := configure(config)
	if err != nil {
		t.Fatal(err)
	}
	return inner.Open
}

// Loads reports whether a server of this version, with these settings, takes rows by LOAD DATA.
func Loads(version string, settings [][]string) bool { return loads(version, settings) }

// Unicode is the charset and collation of texts that are kept apart by their bytes.
const Unicode = unicode

// Dialect is the SQL of MySQL and MariaDB.
func Dialect() sqlsink.Dialect { return dialect{user: "root", database: "t"} }

// Tables is how rows of tables are written.
func Tables() sqlsink.Tables { return tables{} }

// Open opens a connection.
func Open(ctx context.Context, config Config, name string) (sqlsink.Session, error) {
	return open(ctx, config, name, new(loading))
}

// NewWrapped is New with connections that a test gets in between of.
func NewWrapped(config Config, wrap func(sqlsink.Session) sqlsink.Session) (*sqlsink.Sink, error) {
	inner, err := configure(config)
	if err != nil {
		return nil, err
	}
	open := inner.Open
	inner.Open = func(ctx context.Context, name string) (sqlsink.Session, error) {
		session, err := open(ctx, name)
		if err != nil || wrap == nil {
			return session, err
		}
		return wrap(session), nil
	}
	return sqlsink.New(inner)
}
