package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"fencerow/change"
	"fencerow/fence"
)

// textSettings have values written so that they mean the same to whoever reads them, and exactly: the log and the snapshot are
// read under the same.
func textSettings() map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"datestyle":          "ISO",
		"intervalstyle":      "postgres",
		"timezone":           "UTC",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		"xmlbinary":          "base64",
		"lc_monetary":        "C",
		"search_path":        "", // so that names of types and tables have their schemas
	}
}

const (
	// nameMax is what PostgreSQL keeps of a connection's name.
	nameMax = 63
	// namePrefix begins the names of our connections.
	namePrefix = "fencerow "
	// readBytes is what is read of a connection at once at most: rows of a snapshot come faster than by the driver's 8 KiB.
	readBytes = 128 << 10
	// closeMax bounds the goodbye of a connection.
	closeMax = time.Second
)

// connectionName names a connection after the changefeed and the epoch. Of a long name the end of the changefeed's is left out.
func connectionName(changefeed string, epoch fence.Epoch) string {
	if epoch == 0 {
		return namePrefix + changefeed[:min(len(changefeed), nameMax-len(namePrefix))]
	}
	end := " " + strconv.FormatUint(uint64(epoch), 10)
	return namePrefix + changefeed[:min(len(changefeed), nameMax-len(namePrefix)-len(end))] + end
}

// epochOf reads the epoch of a connection's name; false if it is none of ours.
func epochOf(name string) (uint64, bool) {
	rest, ours := strings.CutPrefix(name, namePrefix)
	at := strings.LastIndexByte(rest, ' ')
	if !ours || at < 0 {
		return 0, false
	}
	epoch, err := strconv.ParseUint(rest[at+1:], 10, 64)
	return epoch, err == nil
}

// connection is a connection for statements. It is used by one goroutine.
type connection struct {
	conn   *pgconn.PgConn
	within time.Duration // each statement is answered, or the connection is lost; 0: nobody knows how long one takes
}

// connect opens a connection for statements. The secrets are resolved now.
func (s *Source) connect(ctx context.Context) (*connection, error) {
	conn, err := s.dial(ctx, map[string]string{"statement_timeout": milliseconds(statementMax)})
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, within: s.patience.answer}, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (s *Source) dial(ctx context.Context, settings map[string]string) (*pgconn.PgConn, error) {
	config, err := s.server.Config()
	if err != nil {
		return nil, err
	}
	config.RuntimeParams = textSettings()
	config.RuntimeParams["application_name"] = connectionName(s.config.Changefeed.String(), s.config.Epoch)
	maps.Copy(config.RuntimeParams, settings)
	if settings["replication"] == "" { // the log's own reader takes over the connection, and must find there all that came
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBytes), w)
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

func (c *connection) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeMax) //nolint:forbidigo // a goodbye, bounded; it needs nobody's leave
	defer cancel()
	_ = c.conn.Close(ctx) //nolint:errcheck // it is gone either way, and nothing is open in it
}

// query runs one statement with its arguments as text, and returns the rows as text; nil is NULL.
func (c *connection) query(ctx context.Context, text string, args ...string) (rows, error) {
	values := make([][]byte, len(args))
	for i, arg := range args {
		values[i] = []byte(arg)
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	result := c.conn.ExecParams(ctx, text, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Rows, nil
}

// exec runs statements without arguments, as one transaction where they don't say otherwise.
func (c *connection) exec(ctx context.Context, text string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.conn.Exec(ctx, text).ReadAll()
	return err
}

// bound is for one statement. The server ends one that takes too long, but a link that is lost without a word tells nobody.
func (c *connection) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.within == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.within)
}

// rows are the answer to a statement, as text.
type rows [][][]byte

func (r rows) text(row, column int) string { return string(r[row][column]) }
func (r rows) bool(row, column int) bool   { return string(r[row][column]) == "t" }

// number returns 0 where there is no number.
func (r rows) number(row, column int) int64 {
	n, err := strconv.ParseInt(string(r[row][column]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// lsn reads a place in the log of the first row, 0 for NULL.
func (r rows) lsn(column int) (change.Position, error) {
	if r[0][column] == nil {
		return 0, nil
	}
	return parseLSN(string(r[0][column]))
}

var errNoAnswer = errors.New("postgres: the server answered with nothing")

// one returns an error unless there is a row.
func (r rows) one(err error) (rows, error) {
	if err == nil && len(r) == 0 {
		err = errNoAnswer
	}
	return r, err
}

// quoteName writes a name for a statement.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteTable writes the name of a table for a statement.
func quoteTable(schema, name string) string { return quoteName(schema) + "." + quoteName(name) }

// quoteText writes text for a statement.
func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
