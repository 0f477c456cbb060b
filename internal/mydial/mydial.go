// Package mydial says how a MySQL or MariaDB that a URI names is connected to: the hosts, the user and its secret as this node has
// them, and TLS as the options ask for. It opens no connection.
package mydial

import (
	"fmt"
	"net"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

const (
	// ConnectMax bounds one attempt to connect to one host.
	ConnectMax = 5 * time.Second
	// StatementMax bounds one statement.
	StatementMax = 60 * time.Second
)

// Server is a MySQL or MariaDB as a spec names it.
type Server struct {
	URI     endpoint.URI
	Options changefeed.Options // those for TLS are read
}

// Config says how to connect to one of the hosts, under a name that the server shows. The secrets are resolved now.
func (s Server) Config(host, name string) (*driver.Config, error) {
	password, err := s.URI.Password.Resolve()
	if err != nil {
		return nil, err
	}
	secure, err := endpoint.TLS(s.Options)
	if err != nil {
		return nil, err
	}
	out := driver.NewConfig()
	out.User, out.Passwd, out.DBName = s.URI.User, password, string(s.URI.Path)
	out.Net, out.Addr = "tcp", host
	out.Timeout, out.ReadTimeout, out.WriteTimeout = ConnectMax, StatementMax, StatementMax
	out.MaxAllowedPacket = 0 // as the server says
	out.Collation = "utf8mb4_bin"
	out.ConnectionAttributes = "program_name:" + strings.NewReplacer(",", "_", ":", "_").Replace(name)
	out.Logger = &driver.NopLogger{}
	if secure != nil {
		out.TLS = secure.Clone()
		if out.TLS.ServerName, _, err = net.SplitHostPort(host); err != nil {
			return nil, fmt.Errorf("mydial: %w", err)
		}
	}
	return out, nil
}
