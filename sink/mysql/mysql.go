package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	driverpkg "github.com/go-sql-driver/mysql"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/mydial"
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
	loading := new(loading)
	return sqlsink.Config{
		Open: func(ctx context.Context, name string) (sqlsink.Session, error) {
			return open(ctx, config, name, loading)
		},
		Dialect: dialect{user: config.URI.User, database: string(config.URI.Path)}, Tables: tables{}, Layout: config.Layout,
		Settings: settings,
		Name:     config.URI.String(),
		Identity: config.Identity, Logger: config.Logger,
	}, nil
}

func check(config Config) (sqlsink.Settings, error) {
	if config.URI.Scheme != endpoint.MySQL || len(config.URI.Hosts) == 0 {
		return sqlsink.Settings{}, errors.New("sink mysql: the URI is not one of a MySQL")
	}
	refuse := func(field, value, detail, cure string) error {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: field, Value: value, Permanent: true, Detail: detail, Cure: cure,
		}
	}
	switch uri := config.URI; {
	case len(uri.Params) > 0:
		return sqlsink.Settings{}, refuse("sink", uri.String(), "has parameters, which this kind of sink doesn't take",
			"use options, as in --option tls_ca=/path/ca.pem")
	case uri.User == "":
		return sqlsink.Settings{}, refuse("sink", uri.String(), "names no user", "write mysql://user:${env:NAME}@host:port/database")
	}
	if own := string(config.URI.Path); namesDatabase(config.Options["rename"], own) {
		return sqlsink.Settings{}, refuse("options.rename", fmt.Sprintf("%.200q", config.Options["rename"]), "names the database of the URI",
			"leave it out: public.a:b is the table b of "+own)
	}
	settings, err := sqlsink.ParseSettings(config.Options, config.Layout)
	if err == nil && strings.Contains(settings.Table, ".") {
		return sqlsink.Settings{}, refuse("options.table", fmt.Sprintf("%.200q", settings.Table), "names a database of its own",
			"name the database in the URI, and the table alone here")
	}
	return settings, err
}

// namesDatabase reports whether tables go to a database by its name. With and without the name of the URI's own, one table would
// have two names.
func namesDatabase(rename, database string) bool {
	return strings.Contains(rename, ":"+database+".") || strings.Contains(rename, `:"`+database+`".`)
}

// open connects to the first host that takes writes.
func open(ctx context.Context, config Config, name string, loading *loading) (sqlsink.Session, error) {
	var faults []error
	for _, host := range config.URI.Hosts {
		where, err := target(config, host, name)
		if err != nil {
			return nil, err
		}
		limited, cancel := context.WithTimeout(ctx, mydial.ConnectMax)
		session, err := connect(limited, where, loading)
		cancel()
		if err == nil && len(config.URI.Hosts) > 1 {
			err = session.writable(ctx)
			if err != nil {
				err = errors.Join(err, session.Close())
			}
		}
		if err == nil {
			return session, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func target(config Config, host, name string) (*driverpkg.Config, error) {
	out, err := mydial.Server{URI: config.URI, Options: config.Options}.Config(host, name)
	if err != nil {
		return nil, err
	}
	out.ClientFoundRows = true   // a row that is touched counts, also if nothing in it changes
	out.InterpolateParams = true // one message, not three
	out.MultiStatements = true
	return out, nil
}

// writable refuses a server that takes no writes, where another one may.
func (s *session) writable(ctx context.Context) error {
	results, err := s.Do(ctx, sqlsink.Statement{Text: "SELECT @@global.read_only", Rows: true})
	if err != nil {
		return err
	}
	if rows := results[0].Rows; len(rows) == 1 && rows[0][0] != "0" {
		return &sqlsink.Refused{Reason: sqlsink.RefusedReadOnly, Err: errors.New("mysql: read_only is on")}
	}
	return nil
}
