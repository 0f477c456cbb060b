package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	_ "github.com/go-sql-driver/mysql" // registers itself
)

// StartMariaDB starts a MariaDB. It does not sync its files: tests do not survive the machine.
func StartMariaDB(settings ...string) (*Server, error) { return StartMariaDBAt(loopback, settings...) }

// StartMariaDBAt is [StartMariaDB] on another address of this machine's, at which root needs no password.
func StartMariaDBAt(ip string, settings ...string) (*Server, error) {
	server, err := find("mariadbd", "mariadb-server", "/usr/sbin/mariadbd")
	if err != nil {
		return nil, err
	}
	install, err := find("mariadb-install-db", "mariadb-server", "/usr/bin/mariadb-install-db")
	if err != nil {
		return nil, err
	}
	s, err := start("mysql", ip, func(at place) (*exec.Cmd, error) {
		data := filepath.Join(at.dir, "data")
		small := []string{
			"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M", "--innodb-flush-log-at-trx-commit=0",
			"--innodb-flush-method=nosync", "--innodb-doublewrite=0",
			"--tmpdir=" + at.dir, // its files there are named by the process's number, which another namespace has too
		}
		args := append([]string{
			"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		}, small...)
		if err := run(at, install, args...); err != nil {
			return nil, err
		}
		everybody := filepath.Join(at.dir, "init.sql")
		if err := os.WriteFile(everybody, []byte(anyRoot), 0o644); err != nil { //nolint:gosec // the server reads it as another user
			return nil, err
		}
		args = append([]string{
			"--no-defaults", "--datadir=" + data, "--init-file=" + everybody, "--bind-address=" + at.ip, "--port=" + at.port, "--socket=" + filepath.Join(at.dir, "s"),
			"--pid-file=" + filepath.Join(at.dir, "pid"), "--max-connections=600", "--skip-log-bin", "--skip-name-resolve",
			"--ssl-ca=" + filepath.Join(at.dir, "ca.pem"), "--ssl-cert=" + serverFile(at.dir, "pem"), "--ssl-key=" + serverFile(at.dir, "key"),
		}, append(small, settings...)...)
		return exec.Command(server, args...), nil
	})
	if err != nil {
		return nil, err
	}
	s.User, s.stop = "root", syscall.SIGKILL // nothing of it is needed any more
	db, err := sql.Open("mysql", s.MariaDB(""))
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	defer func() { _ = db.Close() }()
	if err := s.ready(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startMax)
		defer cancel()
		return db.PingContext(ctx)
	}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// anyRoot lets root in from every address.
const anyRoot = "CREATE USER IF NOT EXISTS root@'%';\nGRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;\n"

// MariaDB returns the name of a database as the driver takes it; several statements may go together.
func (s *Server) MariaDB(database string) string {
	return s.User + "@tcp(" + s.Host + ")/" + database + "?multiStatements=true"
}
