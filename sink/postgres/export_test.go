//go:build databases

package postgres

import (
	"context"

	"fencerow/sink/sqlsink"
)

// Dialect is PostgreSQL's SQL.
func Dialect() sqlsink.Dialect { return dialect{user: "postgres"} }

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
