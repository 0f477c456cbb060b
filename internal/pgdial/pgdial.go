// Package pgdial says how a PostgreSQL that a URI names is connected to: the hosts, the user and its secret as this node has
// them, and TLS as the options ask for. It opens no connection, and obeys nothing of the node's environment or home, which
// must not change where we connect to, or as whom.
package pgdial

import (
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

// connectMax bounds one attempt to connect to one host.
const connectMax = 5 * time.Second

// keepAlive finds a link that was lost without a word within half a minute, where a connection waits for an answer that may take long.
var keepAlive = net.KeepAliveConfig{ //nolint:gochecknoglobals // read only
	Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4,
}

// Server is a PostgreSQL as a spec names it.
type Server struct {
	URI     endpoint.URI
	Options changefeed.Options // those for TLS are read
	Field   string             // of the spec, for faults: source or sink
}

// Check returns what is wrong with the URI itself.
func (s Server) Check() error {
	switch {
	case s.URI.Scheme != endpoint.Postgres || len(s.URI.Hosts) == 0:
		return s.fault("is not a PostgreSQL", "write postgres://user:${env:NAME}@host:port/database")
	case len(s.URI.Params) > 0:
		return s.fault("has parameters, which this kind of "+s.Field+" doesn't take", "use options, as in --option tls_ca=/path/ca.pem")
	case s.URI.User == "":
		return s.fault("names no user", "write postgres://user:${env:NAME}@host:port/database")
	}
	return nil
}

func (s Server) fault(detail, cure string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: s.Field, Value: s.URI.String(), Permanent: true, Detail: detail, Cure: cure,
	}
}

// Config says where to connect to. Of several hosts the first that takes writes is used. The secrets are resolved now.
func (s Server) Config() (*pgconn.Config, error) {
	password, err := s.URI.Password.Resolve()
	if err != nil {
		return nil, err
	}
	secure, err := endpoint.TLS(s.Options)
	if err != nil {
		return nil, err
	}
	out, err := pgconn.ParseConfig("host=localhost port=5432 user=fencerow dbname=fencerow password='' passfile='' servicefile='' " +
		"sslmode=disable sslcert='' sslkey='' sslrootcert='' target_session_attrs=any connect_timeout=0")
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: s.Field, Value: s.URI.String(),
			Detail: "can't be reached, since the environment of this node has a setting for PostgreSQL's own clients that can't be put aside",
			Cure:   "start the node without PGSERVICE", Err: err,
		}
	}
	out.User, out.Password, out.Database = s.URI.User, password, string(s.URI.Path)
	out.ConnectTimeout = connectMax
	out.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	out.Fallbacks, out.SSLNegotiation, out.KerberosSrvName, out.KerberosSpn = nil, "", "", ""
	for i, host := range s.URI.Hosts {
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
	if len(s.URI.Hosts) > 1 {
		out.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return out, nil
}

func hostOf(host string, secure *tls.Config) (*pgconn.FallbackConfig, error) {
	name, text, err := net.SplitHostPort(host)
	if err != nil {
		return nil, fmt.Errorf("pgdial: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("pgdial: %w", err)
	}
	out := &pgconn.FallbackConfig{Host: name, Port: uint16(port)}
	if secure != nil {
		out.TLSConfig = secure.Clone()
		out.TLSConfig.ServerName = name
	}
	return out, nil
}
