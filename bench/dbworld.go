package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	_ "github.com/jackc/pgx/v5/stdlib" // registers itself

	"fencerow/internal/dbtest"
)

// durable is how both PostgreSQLs run: what is committed survives the machine, and nothing but what is measured has them write.
var durable = []string{ //nolint:gochecknoglobals // read only
	"fsync=on", "synchronous_commit=on", "shared_buffers=1GB", "max_wal_size=32GB", "checkpoint_timeout=1h",
}

// logged is what the source has beside that: a log that can be followed by every copy of a row.
var logged = []string{"wal_level=logical", "max_replication_slots=64", "max_wal_senders=64"} //nolint:gochecknoglobals // read only

// prompt lets a subscription begin to work when it is enabled. By default that is up to 5 s later if another one did so shortly before,
// which would be counted against it.
const prompt = "wal_retrieve_retry_interval=100ms"

// durableMaria is the same of the MariaDB.
var durableMaria = []string{ //nolint:gochecknoglobals // read only
	"--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync", "--innodb-doublewrite=1", "--innodb-buffer-pool-size=1G",
	"--innodb-log-file-size=1G", "--innodb-log-buffer-size=32M",
}

// world is a PostgreSQL that is copied, the servers that it is copied to, and a node.
type world struct {
	b      *bench
	node   *node
	source *database
	target *server
	maria  *server // nil before it is started
	tables []contents
	end    int64 // where the last row of the backlog begins in the log of the source
	close  []func()
}

// server is a database server whose databases are made and dropped.
type server struct {
	*dbtest.Server
	driver string
	admin  *sql.DB
}

// database is one of a server's.
type database struct {
	*sql.DB
	server *server
	name   string
}

// world starts the servers and the node, lets them be used, and ends them.
func (b *bench) world(ctx context.Context, use func(*world) (result, error)) (result, error) {
	w := &world{b: b}
	defer func() {
		for _, end := range slices.Backward(w.close) {
			end()
		}
	}()
	source, err := w.startPostgres(logged...) //nolint:contextcheck // a server lives as long as its row
	if err != nil {
		return result{}, err
	}
	if w.source, err = source.open("postgres"); err != nil {
		return result{}, err
	}
	w.close = append(w.close, w.source.close)
	if w.target, err = w.startPostgres(prompt); err != nil { //nolint:contextcheck // a server lives as long as its row
		return result{}, err
	}
	if w.node, err = b.startNode(ctx); err != nil {
		return result{}, err
	}
	w.close = append(w.close, w.node.stop)
	return use(w)
}

func (w *world) startPostgres(more ...string) (*server, error) {
	started, err := dbtest.StartPostgres(slices.Concat(durable, more)...)
	if err != nil {
		return nil, err
	}
	w.close = append(w.close, started.Close)
	return w.administered(&server{Server: started, driver: "pgx"}, "postgres")
}

func (w *world) startMaria() error {
	started, err := dbtest.StartMariaDB(durableMaria...)
	if err != nil {
		return err
	}
	w.close = append(w.close, started.Close)
	w.maria, err = w.administered(&server{Server: started, driver: "mysql"}, "")
	return err
}

func (w *world) administered(s *server, database string) (*server, error) {
	admin, err := s.open(database)
	if err != nil {
		return nil, err
	}
	s.admin = admin.DB
	w.close = append(w.close, admin.close)
	return s, nil
}

func (s *server) open(name string) (*database, error) {
	where := s.Postgres(name)
	if s.driver == "mysql" {
		where = s.MariaDB(name)
	}
	db, err := sql.Open(s.driver, where)
	return &database{DB: db, server: s, name: name}, err
}

// create makes a database; a template is PostgreSQL's.
func (s *server) create(ctx context.Context, name, template string) (*database, error) {
	text := "CREATE DATABASE " + name
	if template != "" {
		text += " TEMPLATE " + template
	}
	if _, err := s.admin.ExecContext(ctx, text); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return s.open(name)
}

// drop drops a database, so that the next run has the memory and the disk.
func (s *server) drop(ctx context.Context, of *database) error {
	of.close()
	text := "DROP DATABASE " + of.name
	if s.driver == "pgx" {
		text += " WITH (FORCE)"
	}
	_, err := s.admin.ExecContext(ctx, text)
	return err
}

func (d *database) close() { _ = d.Close() } //nolint:errcheck // what was written is committed

// uri is how a changefeed names the database.
func (d *database) uri() string {
	scheme := "postgres"
	if d.server.driver == "mysql" {
		scheme = "mysql"
	}
	return scheme + "://" + d.server.User + "@" + d.server.Host + "/" + d.name
}

func (d *database) exec(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := d.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.200s: %w", statement, err)
		}
	}
	return nil
}

// one returns a query's only value.
func (d *database) one(ctx context.Context, query string) (string, error) {
	var out sql.NullString
	if err := d.QueryRowContext(ctx, query).Scan(&out); err != nil {
		return "", fmt.Errorf("%.200s: %w", query, err)
	}
	return out.String, nil
}

// program returns where one of PostgreSQL's own clients is.
func program(name string) string {
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	return name
}

// arguments name a database for one of those.
func (d *database) arguments() ([]string, error) {
	host, port, err := net.SplitHostPort(d.server.Host)
	return []string{"-h", host, "-p", port, "-U", d.server.User, "-d", d.name}, err
}

// tool runs one of them to its end.
func (d *database) tool(ctx context.Context, name string, args ...string) error {
	where, err := d.arguments()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program(name), append(where, args...)...) //nolint:gosec // a client of the server's
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c synchronous_commit=off")     // nobody waits for a load
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// restore pipes a dump of the table into a database.
func (w *world) restore(ctx context.Context, target *database) error {
	from, err := w.source.arguments()
	if err != nil {
		return err
	}
	to, err := target.arguments()
	if err != nil {
		return err
	}
	dump := exec.CommandContext(ctx, program("pg_dump"), append(from, "-Fc", "-Z0", "-t", "orders")...)
	restore := exec.CommandContext(ctx, program("pg_restore"), to...)
	dump.Stderr, restore.Stderr = os.Stderr, os.Stderr
	if restore.Stdin, err = dump.StdoutPipe(); err != nil {
		return err
	}
	if err := dump.Start(); err != nil {
		return err
	}
	return errors.Join(restore.Run(), dump.Wait())
}
