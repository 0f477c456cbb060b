package postgres

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/pgdial"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
)

// Config of a sink.
type Config struct {
	URI      endpoint.URI
	Options  changefeed.Options
	Identity sink.Identity
	Layout   sqlsink.Layout // what the source has
	Logger   *zap.Logger
}

func (c Config) server() pgdial.Server {
	return pgdial.Server{URI: c.URI, Options: c.Options, Field: "sink"}
}

// Options returns the options that the sink takes.
func Options() []changefeed.Option { return slices.Concat(sqlsink.Options(), endpoint.TLSOptions()) }

// New makes a sink. It connects on first use, with the secrets as this node has them then.
func New(config Config) (*sqlsink.Sink, error) {
	inner, err := configure(config)
	if err != nil {
		return nil, err
	}
	return sqlsink.New(inner)
}

func configure(config Config) (sqlsink.Config, error) {
	settings, err := check(config)
	if err != nil {
		return sqlsink.Config{}, err
	}
	return sqlsink.Config{
		Open: func(ctx context.Context, name string) (sqlsink.Session, error) {
			where, err := config.server().Config()
			if err != nil {
				return nil, err
			}
			return connect(ctx, where, name)
		},
		Dialect: dialect{user: config.URI.User}, Tables: tables{}, Layout: config.Layout, Settings: settings, Name: config.URI.String(),
		Identity: config.Identity, Logger: config.Logger,
	}, nil
}

func check(config Config) (sqlsink.Settings, error) {
	if err := config.server().Check(); err != nil {
		return sqlsink.Settings{}, err
	}
	return sqlsink.ParseSettings(config.Options, config.Layout)
}
