package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
)

// connectMax bounds one attempt to connect to one host.
const connectMax = 5 * time.Second

// Config of a sink.
type Config struct {
	URI      endpoint.URI
	Options  changefeed.Options
	Identity sink.Identity
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
	return sqlsink.Config{
		Open: func(ctx context.Context, name string) (sqlsink.Session, error) {
			where, err := target(config)
			if err != nil {
				return nil, err
			}
			return connect(ctx, where, name)
		},
		Dialect: dialect{user: config.URI.User}, Settings: settings, Name: config.URI.String(),
		Identity: config.Identity, Logger: config.Logger,
	}, nil
}

func check(config Config) (sqlsink.Settings, error) {
	if config.URI.Scheme != endpoint.Postgres || len(config.URI.Hosts) == 0 {
		return sqlsink.Settings{}, errors.New("sink postgres: the URI is not one of a PostgreSQL")
	}
	if len(config.URI.Params) > 0 {
		return sqlsink.Settings{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: config.URI.String(), Permanent: true,
			Detail: "has parameters, which this kind of sink doesn't take", Cure: "use options, as in --option tls_ca=/path/ca.pem",
		}
	}
	if config.URI.User == "" {
		return sqlsink.Settings{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: config.URI.String(), Permanent: true,
			Detail: "names no user", Cure: "write postgres://user:${env:NAME}@host:port/database",
		}
	}
	return sqlsink.ParseSettings(config.Options)
}

// target says where to connect to. Of several hosts the first that takes writes is used.
func target(config Config) (*pgconn.Config, error) {
	password, err := config.URI.Password.Resolve()
	if err != nil {
		return nil, err
	}
	secure, err := endpoint.TLS(config.Options)
	if err != nil {
		return nil, err
	}
	// Nothing of the node's environment or home may change where we connect to, or as whom.
	out, err := pgconn.ParseConfig("host=localhost port=5432 user=fencerow dbname=fencerow password='' passfile='' servicefile='' " +
		"sslmode=disable sslcert='' sslkey='' sslrootcert='' target_session_attrs=any connect_timeout=0")
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: config.URI.String(),
			Detail: "can't be reached, since the environment of this node has a setting for PostgreSQL's own clients that can't be put aside",
			Cure:   "start the node without PGSERVICE", Err: err,
		}
	}
	out.User, out.Password, out.Database = config.URI.User, password, string(config.URI.Path)
	out.ConnectTimeout = connectMax
	out.Fallbacks, out.SSLNegotiation, out.KerberosSrvName, out.KerberosSpn = nil, "", "", ""
	for i, host := range config.URI.Hosts {
		fallback, err := hostOf(host, secure)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			out.Host, out.Port, out.TLSConfig = fallback.Host, fallback.Port, fallback.TLSConfig
			continue
		}
		out.Fallbacks = append(out.Fallbacks, fallback)
	}
	if len(config.URI.Hosts) > 1 {
		out.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return out, nil
}

func hostOf(host string, secure *tls.Config) (*pgconn.FallbackConfig, error) {
	name, text, err := net.SplitHostPort(host)
	if err != nil {
		return nil, fmt.Errorf("sink postgres: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("sink postgres: %w", err)
	}
	out := &pgconn.FallbackConfig{Host: name, Port: uint16(port)}
	if secure != nil {
		out.TLSConfig = secure.Clone()
		out.TLSConfig.ServerName = name
	}
	return out, nil
}
