//go:build databases

package postgres_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/internal/dbtest"
	"fencerow/source"
	"fencerow/source/postgres"
)

var server *dbtest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = dbtest.StartPostgres("wal_level=logical", "max_replication_slots=100", "max_wal_senders=100"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Close()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const caseMax = 60 * time.Second

// world is a database of a test's own, and one changefeed of it.
type world struct {
	testing.TB
	ctx      context.Context
	server   *dbtest.Server
	database string
	admin    *pgx.Conn
	uid      string
	stopped  bool // the server
}

var worlds int

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, server)
}

func newWorldOn(t testing.TB, on *dbtest.Server) *world {
	t.Helper()
	return newWorldLike(t, on, "")
}

// newWorldLike makes a database with options of its own.
func newWorldLike(t testing.TB, on *dbtest.Server, options string) *world {
	t.Helper()
	worlds++
	ctx, cancel := context.WithTimeout(t.Context(), caseMax)
	t.Cleanup(cancel)
	w := &world{TB: t, ctx: ctx, server: on, database: "w" + strconv.Itoa(worlds), uid: fmt.Sprintf("UID-%d", worlds)}
	root, err := pgx.Connect(ctx, on.Postgres("postgres"))
	require.NoError(t, err)
	_, err = root.Exec(ctx, "CREATE DATABASE "+w.database+options)
	require.NoError(t, err)
	require.NoError(t, root.Close(ctx))
	w.admin, err = pgx.Connect(ctx, on.Postgres(w.database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.admin.Close(context.Background()) })
	t.Cleanup(func() {
		if !w.stopped {
			require.NoError(t, w.open(way{epoch: 1000}).Drop(context.Background()))
		}
	})
	return w
}

func (w *world) exec(text string, args ...any) {
	w.Helper()
	_, err := w.admin.Exec(w.ctx, text, args...)
	require.NoError(w, err, text)
}

// text returns one value.
func (w *world) text(text string, args ...any) string {
	w.Helper()
	var out *string
	require.NoError(w, w.admin.QueryRow(w.ctx, text, args...).Scan(&out), text)
	if out == nil {
		return "NULL"
	}
	return *out
}

// way is how a source is opened.
type way struct {
	options  changefeed.Options
	host     string
	user     string
	epoch    fence.Epoch
	identity string
	confirm  func(context.Context) error
	logger   *zap.Logger
	// What is kept on the disk: where, which is a folder of the test's own unless it is set, and how much.
	directory  string
	spoolBytes int64
}

func (w *world) open(how way) *postgres.Source {
	w.Helper()
	uri, err := endpoint.Parse(fmt.Sprintf("postgres://%s@%s/%s", cmp.Or(how.user, w.server.User), cmp.Or(how.host, w.server.Host), w.database),
		endpoint.Policy{Field: "source"})
	require.NoError(w, err)
	if how.confirm == nil {
		how.confirm = func(context.Context) error { return nil }
	}
	if how.logger == nil {
		how.logger = zaptest.NewLogger(w, zaptest.Level(zap.WarnLevel))
	}
	s, err := postgres.New(postgres.Config{
		URI: uri, Options: how.options, Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, Epoch: cmp.Or(how.epoch, 7),
		UID: w.uid, Identity: how.identity, Confirm: how.confirm, Logger: how.logger,
		Directory: cmp.Or(how.directory, w.TempDir()), SpoolBytes: how.spoolBytes,
	})
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, s.Close()) })
	return s
}

// follow prepares and follows from there.
func (w *world) follow(s *postgres.Source) source.Log {
	w.Helper()
	above, err := s.Prepare(w.ctx, false)
	require.NoError(w, err)
	return w.followFrom(s, above)
}

func (w *world) followFrom(s *postgres.Source, above change.Position) source.Log {
	w.Helper()
	log, err := s.Follow(w.ctx, above)
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, log.Close()) })
	return log
}

// take takes events until there are so many changes.
func (w *world) take(log source.Log, n int) []change.Change {
	w.Helper()
	var out []change.Change
	for len(out) < n {
		event, err := log.Next(w.ctx)
		require.NoError(w, err)
		out = append(out, event.Changes...)
	}
	require.Len(w, out, n)
	return out
}

// refused takes events until there is an error.
func (w *world) refused(log source.Log) error {
	w.Helper()
	for {
		if _, err := log.Next(w.ctx); err != nil {
			return err
		}
	}
}

// shown writes a change as a line: what it does to which key, and the rows.
func shown(c change.Change) string {
	out := fmt.Sprintf("%d %s %s", c.Index, c.Op, strings.ReplaceAll(string(c.Key), "\x00", "|"))
	if c.Before != nil {
		out += " before" + cells(c.Before)
	}
	if c.After != nil {
		out += " after" + cells(c.After)
	}
	return out
}

func cells(row change.Row) string {
	tuple := row.(*change.Tuple)
	var out []string
	for i, column := range tuple.Of.Columns {
		switch {
		case !tuple.Known(i):
		case tuple.Cells[i] == nil:
			out = append(out, column.Name+"=NULL")
		default:
			cell := string(tuple.Cells[i])
			if len(cell) > 60 {
				cell = fmt.Sprintf("%s…%d", cell[:8], len(cell))
			}
			out = append(out, column.Name+"="+cell)
		}
	}
	return "(" + strings.Join(out, " ") + ")"
}

func lines(changes []change.Change) []string {
	out := make([]string, len(changes))
	for i := range changes {
		out[i] = shown(changes[i])
	}
	return out
}

func hastened(s *postgres.Source) *postgres.Source {
	s.Hasten(0, time.Second)
	return s
}
