package dbtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// StartPostgres starts a PostgreSQL. It does not sync its files: tests do not survive the machine. Its database is postgres.
func StartPostgres(settings ...string) (*Server, error) {
	return StartPostgresAt(loopback, settings...)
}

// StartPostgresAt is [StartPostgres] on another address of this machine's, for which everybody is trusted.
func StartPostgresAt(ip string, settings ...string) (*Server, error) {
	initdb, err := findInitdb()
	if err != nil {
		return nil, err
	}
	s, err := start("postgres", ip, func(at place) (*exec.Cmd, error) {
		data := filepath.Join(at.dir, "data")
		if err := run(at, initdb, "--pgdata="+data, "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"); err != nil {
			return nil, err
		}
		if err := letIn(data); err != nil {
			return nil, err
		}
		args := []string{"-D", data}
		for _, setting := range append([]string{
			"listen_addresses=" + at.ip, "port=" + at.port, "unix_socket_directories=", "max_connections=600", "fsync=off",
			"shared_buffers=64MB", "autovacuum=off", "deadlock_timeout=200ms",
			"ssl=on", "ssl_ca_file=" + filepath.Join(at.dir, "ca.pem"), "ssl_cert_file=" + serverFile(at.dir, "pem"), "ssl_key_file=" + serverFile(at.dir, "key"),
		}, settings...) {
			args = append(args, "-c", setting)
		}
		return exec.Command(filepath.Join(filepath.Dir(initdb), "postgres"), args...), nil
	})
	if err != nil {
		return nil, err
	}
	s.User, s.stop = "postgres", syscall.SIGQUIT // at once: nothing of it is needed any more
	return s, s.ready(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startMax)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.Postgres("postgres"))
		if err != nil {
			return fmt.Errorf("dbtest: %w", err)
		}
		return conn.Close(ctx)
	})
}

// PostgresPrograms is the variable of the environment that names the folder of the programs of a PostgreSQL to use in place of this
// machine's.
const PostgresPrograms = "FENCEROW_POSTGRES"

func findInitdb() (string, error) {
	if folder := os.Getenv(PostgresPrograms); folder != "" {
		return filepath.Join(folder, "initdb"), nil
	}
	return find("initdb", "postgresql", "/usr/lib/postgresql/*/bin/initdb")
}

// letIn lets one user in with a certificate only, and everybody else who reaches the server: its address is one of this
// machine's own.
func letIn(data string) error {
	const rules = "hostssl all " + Certified + " all cert\nhost all " + Certified + " all reject\n" +
		"host all all all trust\nhost replication all all trust\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	return nil
}

// Postgres returns the URL of a database as libpq takes it.
func (s *Server) Postgres(database string) string {
	return "postgres://" + s.User + "@" + s.Host + "/" + database + "?sslmode=disable"
}
