package mysql

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	driverpkg "github.com/go-sql-driver/mysql"

	"fencerow/fence"
	"fencerow/sink/sqlsink"
)

const (
	// idleMax is how long the server waits for us while a transaction is open, before it ends both: between its statements
	// and its commit we do nothing but send.
	idleMax = 5 * time.Second
	// restMax is how long it waits for us at other times. A writer whose source is quiet longer claims again.
	restMax = 7 * 24 * time.Hour
	// lockMax is how long anything waits for a lock. A claim that waited so long ends who holds it.
	lockMax = 2 * time.Second
	// messageMax is how many bytes of statements go in one message, if the server takes twice as many: its arguments are escaped.
	messageMax = 8 << 20
)

// strict keeps servers from storing another value than they are given: the nearest that fits, a number of their own for a zero,
// or a table of a kind that knows no transactions.
const strict = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"

// conn is what we use of a driver's connection. It is used without a pool, so that nothing is ever sent twice.
type conn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
}

// session is one connection.
type session struct {
	conn    conn
	backend string
	message int  // how many bytes of statements go in one message
	open    bool // a transaction is
	loads   bool // the server takes rows by LOAD DATA
	loading *loading
	unfit   map[string]bool // statements of LOAD DATA that did not store what they were given
}

var _ sqlsink.Session = (*session)(nil)

// connect makes a session. Its name is a lock that it holds.
func connect(ctx context.Context, config *driverpkg.Config, loading *loading) (*session, error) {
	connector, err := driverpkg.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	opened, err := connector.Connect(ctx)
	if err != nil {
		return nil, refusal(err, 0)
	}
	connected, ok := opened.(conn)
	if !ok {
		return nil, errors.Join(errors.New("mysql: the driver's connection is of another kind"), opened.Close())
	}
	s := &session{conn: connected, loading: loading, unfit: make(map[string]bool)}
	if err := s.settle(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// settle sets the time-outs of the connection, and gives it its name.
func (s *session) settle(ctx context.Context) error {
	name := make([]byte, 16)
	if _, err := rand.Read(name); err != nil {
		return fmt.Errorf("mysql: %w", err)
	}
	s.backend = prefix + hex.EncodeToString(name)
	told, err := s.Do(ctx, sqlsink.Statement{
		Text: "SELECT VERSION(), @@max_allowed_packet, GET_LOCK(?, 0)", Args: []any{s.backend}, Rows: true,
	}, sqlsink.Statement{Text: "SHOW VARIABLES WHERE Variable_name IN (" + loadSettings + ")", Rows: true})
	if err != nil {
		return err
	}
	server := told[0].Rows[0]
	s.loads = loads(server[0], told[1].Rows)
	packet, err := strconv.Atoi(server[1])
	if err != nil {
		return fmt.Errorf("mysql: max_allowed_packet: %w", err)
	}
	s.message = min(packet/2, messageMax)
	settings := "SET SESSION innodb_lock_wait_timeout = " + seconds(lockMax) + ", lock_wait_timeout = " + seconds(lockMax) +
		", transaction_isolation = 'READ-COMMITTED', autocommit = 1, sql_notes = 1" + // notes tell of what is loaded as something else
		", time_zone = '+00:00', sql_mode = '" + strict + "'"
	if strings.Contains(server[0], "MariaDB") {
		settings = strings.Replace(settings, "transaction_isolation", "tx_isolation", 1)
	}
	_, err = s.Do(ctx, sqlsink.Statement{Text: settings})
	return err
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// Backend implements [sqlsink.Session].
func (s *session) Backend() string { return s.backend }

// Do implements [sqlsink.Session]. Statements that return nothing go together in one message, up to one on whose outcome
// the others depend.
func (s *session) Do(ctx context.Context, statements ...sqlsink.Statement) ([]sqlsink.Result, error) {
	out := make([]sqlsink.Result, 0, len(statements))
	for len(statements) > 0 {
		if first := statements[0]; first.Rows {
			result, err := s.query(ctx, first)
			if err != nil {
				return nil, refusal(err, len(out))
			}
			out, statements = append(out, result), statements[1:]
			continue
		} else if first.Data != nil {
			if err := s.load(ctx, first, len(out)); err != nil {
				return nil, err
			}
			out, statements = append(out, sqlsink.Result{}), statements[1:]
			continue
		}
		n := together(statements, s.message)
		affected, err := s.exec(ctx, statements[:n])
		if err != nil {
			return nil, s.locate(ctx, statements[:n], refusal(err, len(out)))
		}
		if statements[n-1].One && affected[len(affected)-1] != 1 { // fence:F23 mysql
			return nil, sqlsink.ErrNotOne
		}
		if err := touched(statements[:n], affected, len(out)); err != nil {
			return nil, err
		}
		out, statements = append(out, make([]sqlsink.Result, n)...), statements[n:]
	}
	return out, nil
}

// locate finds out which of the statements of a message is refused, by doing them anew one by one: the server does not say. Where it
// can't, because the server ended the transaction or did not answer, it is the first as far as anybody knows.
func (s *session) locate(ctx context.Context, statements []sqlsink.Statement, err error) error {
	refused, ok := errors.AsType[*sqlsink.Refused](err)
	if !ok || !s.open || len(statements) < 2 {
		return err
	}
	if _, failed := s.exec(ctx, []sqlsink.Statement{{Text: "ROLLBACK TO " + savepoint}}); failed != nil {
		return err
	}
	for i := range statements {
		if _, again := s.exec(ctx, statements[i:i+1]); again != nil {
			return refusal(again, refused.Statement+i)
		}
	}
	return err
}

// savepoint is where a message begins.
const savepoint = "fencerow"

// touched refuses a transaction in which a statement did not find the rows that it is about.
func touched(statements []sqlsink.Statement, affected []int64, before int) error {
	for i := range statements {
		if want := statements[i].Touches; want > 0 && affected[i] != int64(want) {
			return &sqlsink.Refused{
				Statement: before + i, Reason: sqlsink.RefusedGone,
				Err: fmt.Errorf("mysql: %d rows of %d were found", affected[i], want),
			}
		}
	}
	return nil
}

// together returns how many statements go in one message of so many bytes.
func together(statements []sqlsink.Statement, message int) int {
	size := 0
	for i, statement := range statements {
		size += len(statement.Text)
		for _, arg := range statement.Args {
			if bytes, ok := arg.([]byte); ok {
				size += len(bytes)
			}
		}
		switch {
		case statement.Rows, statement.Data != nil, i > 0 && size > message:
			return i
		case statement.One:
			return i + 1
		}
	}
	return len(statements)
}

func (s *session) exec(ctx context.Context, statements []sqlsink.Statement) ([]int64, error) {
	texts := make([]string, 0, len(statements)+1)
	var args []driver.NamedValue
	for _, statement := range statements {
		texts = append(texts, statement.Text)
		args = appendArgs(args, statement.Args)
	}
	// Neither server can be asked to watch over transactions alone, but both do for connections.
	switch {
	case texts[0] == "BEGIN":
		texts = append([]string{waits(idleMax)}, texts...)
		s.open = true
	case texts[0] == "ROLLBACK":
		texts = append([]string{waits(restMax)}, texts...)
		s.open = false
	case s.open && len(texts) > 1:
		texts = append([]string{"SAVEPOINT " + savepoint}, texts...)
	}
	result, err := s.conn.ExecContext(ctx, strings.Join(texts, "; "), args)
	if err != nil {
		return nil, err
	}
	all, ok := result.(driverpkg.Result)
	if !ok || len(all.AllRowsAffected()) != len(texts) {
		return nil, errors.New("mysql: the server did not answer each statement")
	}
	return all.AllRowsAffected()[len(texts)-len(statements):], nil
}

// waits sets how long the server waits for the next message.
func waits(d time.Duration) string { return "SET SESSION wait_timeout = " + seconds(d) }

func appendArgs(out []driver.NamedValue, args []any) []driver.NamedValue {
	for _, arg := range args {
		out = append(out, driver.NamedValue{Ordinal: len(out) + 1, Value: arg})
	}
	return out
}

func (s *session) query(ctx context.Context, statement sqlsink.Statement) (out sqlsink.Result, err error) {
	rows, err := s.conn.QueryContext(ctx, statement.Text, appendArgs(nil, statement.Args))
	if err != nil {
		return sqlsink.Result{}, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return sqlsink.Result{}, err
		}
		row := make([]string, len(values))
		for i, value := range values {
			row[i] = cell(value)
		}
		out.Rows = append(out.Rows, row)
	}
}

func cell(value driver.Value) string {
	switch value := value.(type) {
	case nil:
		return ""
	case []byte:
		return string(value)
	default:
		return fmt.Sprint(value)
	}
}

// Commit implements [sqlsink.Session]. How many rows a statement touched is looked at before the commit is sent.
func (s *session) Commit(ctx context.Context, statements ...sqlsink.Statement) error {
	if len(statements) > 0 {
		if _, err := s.Do(ctx, statements...); err != nil {
			return err
		}
	}
	s.open = false
	_, err := s.conn.ExecContext(ctx, "COMMIT; "+waits(restMax), nil)
	if err == nil {
		return nil
	}
	if refused := refusal(err, 0); reasonOf(refused) == sqlsink.RefusedRace || reasonOf(refused) == sqlsink.RefusedRow {
		return refused
	}
	return fmt.Errorf("mysql: commit: %w: %w", fence.ErrUnknown, err)
}

// End implements [sqlsink.Session]. A name that nobody holds is that of a connection that is gone.
func (s *session) End(ctx context.Context, backend string) error {
	if !strings.HasPrefix(backend, prefix) {
		return nil
	}
	results, err := s.Do(ctx, sqlsink.Statement{Text: "SELECT IS_USED_LOCK(?)", Args: []any{backend}, Rows: true})
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(results[0].Rows[0][0], 10, 64)
	if err != nil {
		return nil //nolint:nilerr // NULL: nobody
	}
	_, err = s.Do(ctx, sqlsink.Statement{Text: "KILL " + strconv.FormatUint(id, 10)})
	if reasonOf(err) == sqlsink.RefusedMissing { // gone meanwhile
		return nil
	}
	return err
}

// Close implements [sqlsink.Session].
func (s *session) Close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("mysql: close: %w", err)
	}
	return nil
}

// refusal says why the server refused. What it did not answer is returned as it is.
func refusal(err error, at int) error {
	if errors.Is(err, driverpkg.ErrPktTooLarge) {
		return &sqlsink.Refused{Statement: at, Reason: sqlsink.RefusedRow, Err: fmt.Errorf("%w: raise max_allowed_packet of the server", err)}
	}
	answer, ok := errors.AsType[*driverpkg.MySQLError](err)
	if !ok {
		return fmt.Errorf("mysql: %w", err)
	}
	if answer.Number == numberNull {
		err = fmt.Errorf("%w: or another row has its value of a unique index, if that is a column of the key", err)
	}
	return &sqlsink.Refused{Statement: at, Reason: reason(answer.Number), Err: err}
}

func reasonOf(err error) sqlsink.Reason {
	if refused, ok := errors.AsType[*sqlsink.Refused](err); ok {
		return refused.Reason
	}
	return sqlsink.RefusedOther
}

// numberNull is a NULL for a column that takes none. Where an upsert would write over another row, it is what we make of it.
const numberNull = 1048

// reason sorts the numbers of the server.
func reason(number uint16) sqlsink.Reason {
	switch number {
	case 1213, 1020:
		return sqlsink.RefusedRace
	case 1205, 3572:
		return sqlsink.RefusedLocked
	case 1062, 1050:
		return sqlsink.RefusedDuplicate
	case 1146, 1049, 1054, 1094: // table, database, column, connection
		return sqlsink.RefusedMissing
	case 1044, 1045, 1142, 1143, 1227, 1370, 1698:
		return sqlsink.RefusedDenied
	case 1021, 1114, 1041:
		return sqlsink.RefusedFull
	case 1290, 1792, 1836:
		return sqlsink.RefusedReadOnly
	case numberNull, 1118, 1153, 1264, 1292, 1364, 1366, 1406, 1451, 1452, 1644, 3819, 4025, 1690, 1265, 1071: // data, constraints, triggers
		return sqlsink.RefusedRow
	default:
		return sqlsink.RefusedOther
	}
}
