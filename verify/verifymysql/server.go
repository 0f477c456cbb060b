// Package verifymysql reads a MySQL or MariaDB for a comparison: how these servers are asked. What is asked, and how rows are digested,
// is verifysql's.
package verifymysql

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	mysql "github.com/go-sql-driver/mysql"

	"fencerow/internal/mydial"
	"fencerow/internal/wait"
	"fencerow/verify"
	"fencerow/verify/verifysql"
)

// Bounds of a connection.
const (
	triesMax = 5
	tryPause = 500 * time.Millisecond
	// statementMax is below what the driver waits for an answer, so that the server is the one who ends it.
	statementMax = mydial.StatementMax - 5*time.Second
)

// The servers' numbers.
const (
	numberNoTable      = 1146
	numberNoColumn     = 1054
	numberTimeOut      = 1969 // MariaDB's
	numberTimeOutMySQL = 3024
)

// passing are those of faults that time heals: a shutdown, a connection that was ended.
var passing = []uint16{1053, 1077, 1317, 1927, 1040, 1203} //nolint:gochecknoglobals // read only

// Server is a connection to a MySQL or MariaDB, which is made when it is first used. It is used by one goroutine.
type Server struct {
	// Dial is where the server is; of several hosts the first that takes writes is read, which is the one that is written to.
	Dial mydial.Server
	Name string // of the connection
	// Fault says what an error of the server is to people.
	Fault func(error) error

	conn connection
}

// connection is what we use of the driver's.
type connection interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
}

var _ verifysql.PairServer = (*Server)(nil)

// Close ends the connection.
func (s *Server) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// Read implements [verifysql.Server]. A connection of which something went wrong is not used again.
func (s *Server) Read(ctx context.Context, text string, begin func(), row func(cells [][]byte) error) error {
	for try := 1; ; try++ {
		begin()
		err := s.readOnce(ctx, text, row)
		if err == nil {
			return nil
		}
		number := numberOf(err)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case number == numberNoTable, number == numberNoColumn:
			return verifysql.Altered()
		case number != 0 && !slices.Contains(passing, number), try == triesMax:
			return s.Fault(err)
		}
		if number == 0 {
			_ = s.Close() //nolint:errcheck // it is of no use any more
		}
		if !wait.For(ctx, time.Duration(try)*tryPause) {
			return context.Cause(ctx)
		}
	}
}

func numberOf(err error) uint16 {
	if answer, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return answer.Number
	}
	return 0
}

func (s *Server) readOnce(ctx context.Context, text string, row func([][]byte) error) (err error) {
	if s.conn == nil {
		if s.conn, err = s.connect(ctx); err != nil {
			s.conn = nil
			return err
		}
	}
	rows, err := s.conn.QueryContext(ctx, text, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	cells := make([][]byte, len(values))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		for i, value := range values {
			cells[i] = cellOf(value)
		}
		if err := row(cells); err != nil {
			return err
		}
	}
}

// cellOf is a value as text; nil is NULL.
func cellOf(value driver.Value) []byte {
	switch value := value.(type) {
	case nil:
		return nil
	case []byte:
		if value == nil {
			return []byte{}
		}
		return value
	case int64:
		return strconv.AppendInt(nil, value, 10)
	case uint64:
		return strconv.AppendUint(nil, value, 10)
	case float64:
		return strconv.AppendFloat(nil, value, 'g', -1, 64)
	case float32:
		return strconv.AppendFloat(nil, float64(value), 'g', -1, 32)
	default:
		return fmt.Append(nil, value)
	}
}

// connect connects to the first host that answers.
func (s *Server) connect(ctx context.Context) (connection, error) {
	var faults []error
	for _, host := range s.Dial.URI.Hosts {
		opened, err := s.connectTo(ctx, host)
		if err == nil {
			return opened, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func (s *Server) connectTo(ctx context.Context, host string) (connection, error) {
	ctx, cancel := context.WithTimeout(ctx, mydial.ConnectMax)
	defer cancel()
	config, err := s.Dial.Config(host, s.Name)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("verify mysql: %w", err)
	}
	opened, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(connection)
	if !ok {
		return nil, errors.Join(errors.New("verify mysql: the driver's connection is of another kind"), opened.Close())
	}
	if err := s.settle(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// settle has values written in one way, nothing be written, and statements end.
func (s *Server) settle(ctx context.Context, conn connection) error {
	isolation, bound := "transaction_isolation", "max_execution_time = "+strconv.FormatInt(statementMax.Milliseconds(), 10)
	rows, err := conn.QueryContext(ctx, "SELECT VERSION(), @@global.read_only", nil)
	if err != nil {
		return err
	}
	values := make([]driver.Value, 2)
	if err := errors.Join(rows.Next(values), rows.Close()); err != nil {
		return err
	}
	if len(s.Dial.URI.Hosts) > 1 && string(cellOf(values[1])) != "0" {
		return errors.New("verify mysql: read_only is on")
	}
	if strings.Contains(string(cellOf(values[0])), "MariaDB") {
		isolation, bound = "tx_isolation", "max_statement_time = "+strconv.Itoa(int(statementMax.Seconds()))
	}
	for _, text := range []string{
		"SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES', " + isolation + " = 'READ-COMMITTED', autocommit = 1, " + bound,
		"SET SESSION TRANSACTION READ ONLY",
	} {
		if _, err := conn.ExecContext(ctx, text, nil); err != nil {
			return err
		}
	}
	return nil
}

// TimedOut implements [verifysql.Server].
func (*Server) TimedOut(err error) bool {
	number := numberOf(err)
	return number == numberTimeOut || number == numberTimeOutMySQL
}

// NoValue implements [verifysql.Server]: these servers make some value of every literal, and literals are those that a sink writes.
func (*Server) NoValue(error) bool { return false }

// Compare implements [verifysql.Server]. For rows these servers use no index, so it is said column by column.
func (*Server) Compare(columns []string, than string, values []string) string {
	last := len(columns) - 1
	out := columns[last] + " " + than + " " + values[last]
	for i := last - 1; i >= 0; i-- {
		strict := than[:1]
		out = columns[i] + " " + strict + "= " + values[i] + " AND (" + columns[i] + " " + strict + " " + values[i] + " OR (" + out + "))"
	}
	return "(" + out + ")"
}

// Among implements [verifysql.Server], of a key of several columns said so that an index is used.
func (*Server) Among(columns []string, rows [][]string) string {
	if len(columns) == 1 {
		return verifysql.In(columns, rows)
	}
	either := make([]string, len(rows))
	for i, row := range rows {
		each := make([]string, len(row))
		for k := range row {
			each[k] = columns[k] + " = " + row[k]
		}
		either[i] = strings.Join(each, " AND ")
	}
	return "(" + strings.Join(either, " OR ") + ")"
}

// Quote writes a name for a statement.
func (*Server) Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Bytes writes bytes for a statement.
func (*Server) Bytes(value []byte) string { return "x'" + hex.EncodeToString(value) + "'" }

// Raw implements [verifysql.PairServer].
func (*Server) Raw(cell []byte) ([]byte, error) { return cell, nil }

// Absent asks whether a table, as statements have it, is not there.
func (s *Server) Absent(table string) func(ctx context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		err := s.Read(ctx, "SELECT 1 FROM "+table+" LIMIT 0", func() {}, func([][]byte) error { return nil })
		if _, gone := errors.AsType[*verify.Leave](err); gone {
			return true, nil
		}
		return false, err
	}
}
