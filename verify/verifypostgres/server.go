package verifypostgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/internal/pgdial"
	"fencerow/internal/wait"
	"fencerow/verify/verifysql"
)

// Bounds of a connection.
const (
	statementMax = 60 * time.Second
	triesMax     = 5
	tryPause     = 500 * time.Millisecond
	// closeMax bounds the goodbye of a connection.
	closeMax = time.Second
)

// nameMax is what PostgreSQL keeps of a connection's name.
const nameMax = 63

// Server is a connection to a PostgreSQL, which is made when it is first used. It is used by one goroutine.
type Server struct {
	Dial pgdial.Server
	Name string // of the connection
	// Fault says what an error of the server is to people.
	Fault func(error) error

	conn *pgconn.PgConn
}

var _ verifysql.PairServer = (*Server)(nil)

// Close ends the connection.
func (s *Server) Close() error {
	if s.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeMax) //nolint:forbidigo // a goodbye, bounded; it needs nobody's leave
	defer cancel()
	err := s.conn.Close(ctx)
	s.conn = nil
	return err
}

// Read runs a statement, and once more over another connection for a while when the server did not answer. begin is called before
// each try, row with each row as text, of which nothing may be kept; a cell that is nil is NULL.
func (s *Server) Read(ctx context.Context, text string, begin func(), row func(cells [][]byte) error) error {
	return s.read(ctx, text, nil, begin, row)
}

func (s *Server) read(ctx context.Context, text string, arguments []string, begin func(), row func(cells [][]byte) error) error {
	for try := 1; ; try++ {
		begin()
		err := s.readOnce(ctx, text, row, arguments)
		if err == nil {
			return nil
		}
		code := codeOf(err)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case code == codeNoTable, code == codeNoColumn:
			return verifysql.Altered()
		case code != "" && !strings.HasPrefix(code, "57P") && !strings.HasPrefix(code, "40"), try == triesMax:
			return s.Fault(err)
		}
		if !wait.For(ctx, time.Duration(try)*tryPause) {
			return context.Cause(ctx)
		}
	}
}

// The server's codes that are about a table.
const (
	codeNoTable  = "42P01"
	codeNoColumn = "42703"
	codeTimeOut  = "57014"
	classData    = "22" // a value that is none of the type
)

// TimedOut implements [verifysql.Server].
func (*Server) TimedOut(err error) bool { return codeOf(err) == codeTimeOut }

// NoValue implements [verifysql.Server].
func (*Server) NoValue(err error) bool { return strings.HasPrefix(codeOf(err), classData) }

// Compare implements [verifysql.Server].
func (*Server) Compare(columns []string, than string, values []string) string {
	return "(" + strings.Join(columns, ", ") + ") " + than + " (" + strings.Join(values, ", ") + ")"
}

// Among implements [verifysql.Server].
func (*Server) Among(columns []string, rows [][]string) string { return verifysql.In(columns, rows) }

// codeOf returns the server's code for an error, "" if it is none of the server's.
func codeOf(err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return answer.Code
	}
	return ""
}

// settings are what a connection asks for: both sides write values in the same way, which is that of sources and sinks. Rows that a
// policy would hide are an error.
func settings(name string) map[string]string {
	return map[string]string{
		"application_name": name[:min(len(name), nameMax)], "client_encoding": "UTF8", "timezone": "UTC", "datestyle": "ISO, MDY",
		"intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "xmloption": "content", "lc_monetary": "C",
		"statement_timeout": strconv.FormatInt(statementMax.Milliseconds(), 10), "search_path": "pg_catalog", "row_security": "off",
		"standard_conforming_strings": "on",
	}
}

// readOnly is said once connected: of several hosts the one is looked for that takes writes.
const readOnly = "SET default_transaction_read_only = on"

func (s *Server) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := s.Dial.Config()
	if err != nil {
		return nil, err
	}
	config.RuntimeParams = settings(s.Name)
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return conn.Exec(ctx, readOnly).Close() }
	return pgconn.ConnectConfig(ctx, config)
}

func (s *Server) readOnce(ctx context.Context, text string, row func([][]byte) error, arguments []string) error {
	if s.conn == nil || s.conn.IsClosed() {
		var err error
		if s.conn, err = s.connect(ctx); err != nil {
			s.conn = nil
			return err
		}
	}
	values := make([][]byte, len(arguments))
	for i, argument := range arguments {
		values[i] = []byte(argument)
	}
	result := s.conn.ExecParams(ctx, text, values, nil, nil, nil)
	var failed error
	for failed == nil && result.NextRow() {
		failed = row(result.Values())
	}
	_, err := result.Close()
	return errors.Join(failed, err)
}

// ask returns all rows of an answer.
func (s *Server) ask(ctx context.Context, text string, arguments ...string) ([][][]byte, error) {
	var rows [][][]byte
	err := s.read(ctx, text, arguments, func() { rows = nil }, func(cells [][]byte) error {
		kept := make([][]byte, len(cells))
		for i, cell := range cells {
			if cell != nil {
				kept[i] = append([]byte{}, cell...)
			}
		}
		rows = append(rows, kept)
		return nil
	})
	return rows, err
}

// Quote writes a name for a statement.
func (*Server) Quote(name string) string { return quote(name) }

// Bytes writes bytes for a statement.
func (*Server) Bytes(value []byte) string { return `'\x` + hex.EncodeToString(value) + "'::bytea" }

// Raw implements [verifysql.PairServer].
func (*Server) Raw(cell []byte) ([]byte, error) {
	digits, found := bytes.CutPrefix(cell, []byte(`\x`))
	if !found {
		return cell, nil
	}
	out, err := hex.AppendDecode([]byte{}, digits)
	if err != nil {
		return nil, fmt.Errorf("verify postgres: %w", err)
	}
	return out, nil
}
