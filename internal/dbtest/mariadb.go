package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	_ "github.com/go-sql-driver/mysql" // registers itself
)

// StartMariaDB starts a MariaDB, or the MySQL that [MySQLProgram] names. It does not sync its files: tests do not survive the machine.
func StartMariaDB(settings ...string) (*Server, error) { return StartMariaDBAt(loopback, settings...) }

// StartMariaDBAt is [StartMariaDB] on another address of this machine's, at which root needs no password.
func StartMariaDBAt(ip string, settings ...string) (*Server, error) {
	programs, err := findMariaDB()
	if err != nil {
		return nil, err
	}
	s, err := start("mysql", ip, func(at place) (*exec.Cmd, error) {
		data := filepath.Join(at.dir, "data")
		small := append([]string{
			"--datadir=" + data, "--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0",
			"--innodb-flush-method=nosync", "--innodb-doublewrite=0",
			"--tmpdir=" + at.dir, // its files there are named by the process's number, which another namespace has too
		}, programs.always...)
		if err := run(at, programs.initialize, slices.Concat([]string{"--no-defaults"}, small, programs.initializeWith)...); err != nil {
			return nil, err
		}
		everybody := filepath.Join(at.dir, "init.sql")
		if err := os.WriteFile(everybody, []byte(anyRoot), 0o644); err != nil { //nolint:gosec // the server reads it as another user
			return nil, err
		}
		args := slices.Concat([]string{"--no-defaults"}, small, []string{
			"--init-file=" + everybody, "--bind-address=" + at.ip, "--port=" + at.port, "--socket=" + filepath.Join(at.dir, "s"),
			"--pid-file=" + filepath.Join(at.dir, "pid"), "--max-connections=600", "--skip-log-bin",
			"--ssl-ca=" + filepath.Join(at.dir, "ca.pem"), "--ssl-cert=" + serverFile(at.dir, "pem"), "--ssl-key=" + serverFile(at.dir, "key"),
		}, settings)
		return exec.Command(programs.server, args...), nil
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

// MySQLProgram is the variable of the environment that names a mysqld to use in place of this machine's MariaDB.
const MySQLProgram = "FENCEROW_MYSQLD"

// mariaDB are the programs of a MariaDB or a MySQL, and what each of the two alone is told.
type mariaDB struct {
	server, initialize     string
	initializeWith, always []string
}

// findMariaDB returns the server that tests are for.
func findMariaDB() (mariaDB, error) {
	if mysqld := os.Getenv(MySQLProgram); mysqld != "" {
		base := filepath.Dir(filepath.Dir(mysqld)) // where its own files are, beside sbin
		return mariaDB{
			server: mysqld, initialize: mysqld, initializeWith: []string{"--initialize-insecure"},
			always: []string{"--basedir=" + base, "--innodb-redo-log-capacity=64M", "--mysqlx=OFF", "--secure-file-priv=NULL", "--local-infile=ON"}, // the last as a MariaDB has it
		}, nil
	}
	out := mariaDB{
		initializeWith: []string{"--auth-root-authentication-method=normal", "--skip-test-db"},
		always:         []string{"--innodb-log-file-size=32M"},
	}
	var err error
	if out.server, err = find("mariadbd", "mariadb-server", "/usr/sbin/mariadbd"); err != nil {
		return mariaDB{}, err
	}
	out.initialize, err = find("mariadb-install-db", "mariadb-server", "/usr/bin/mariadb-install-db")
	return out, err
}

// anyRoot lets root in from every address.
const anyRoot = "CREATE USER IF NOT EXISTS root@'%';\nGRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;\n"

// MariaDB returns the name of a database as the driver takes it; several statements may go together.
func (s *Server) MariaDB(database string) string {
	return s.User + "@tcp(" + s.Host + ")/" + database + "?multiStatements=true"
}
