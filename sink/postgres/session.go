package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"fencerow/fence"
	"fencerow/sink/sqlsink"
)

const (
	// idleMax is how long a transaction waits for us before the server ends it: between its statements and its commit
	// we do nothing but send.
	idleMax = 5 * time.Second
	// lockMax is how long anything waits for a lock. A claim that waited so long ends who holds it.
	lockMax = 2 * time.Second
	// statementMax bounds one statement: the longest deletes what a snapshot does not have.
	statementMax = 60 * time.Second
	// makeKeyMax bounds the statement that makes the key of a table with all its rows.
	makeKeyMax = 24 * time.Hour
	// makeKeyMemory is how much memory that may take at the server, unless its own setting is more: the keys of some millions of rows are
	// sorted without a file.
	makeKeyMemory = 256 << 20
	// closeMax bounds the goodbye of a connection.
	closeMax = time.Second
	// nameMax is what PostgreSQL keeps of a connection's name.
	nameMax = 63
)

// settings are what a connection asks of the server when it connects. Those of how values are written are a source's too, so that
// the text of a value means the same to both.
func settings(name string) map[string]string {
	return map[string]string{
		"application_name":                    name[:min(len(name), nameMax)],
		"client_encoding":                     "UTF8",
		"timezone":                            "UTC",
		"datestyle":                           "ISO, MDY",
		"intervalstyle":                       "postgres",
		"bytea_output":                        "hex",
		"lc_monetary":                         "C",
		"xmloption":                           "content", // takes documents too
		"idle_in_transaction_session_timeout": milliseconds(idleMax),
		"lock_timeout":                        milliseconds(lockMax),
		"statement_timeout":                   milliseconds(statementMax),
		"default_transaction_isolation":       "read committed",
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// session is one connection.
type session struct {
	conn    *pgconn.PgConn
	backend string
}

var _ sqlsink.Session = (*session)(nil)

// connect makes a session of a configuration that says where to.
func connect(ctx context.Context, config *pgconn.Config, name string) (*session, error) {
	own := config.Copy()
	own.RuntimeParams = settings(name)
	conn, err := pgconn.ConnectConfig(ctx, own)
	if err != nil {
		return nil, refusal(err, 0)
	}
	s := &session{conn: conn}
	// Durable is what a commit says: where the server or the user's settings say otherwise, this connection does not.
	results, err := s.Do(ctx, sqlsink.Statement{Rows: true, Text: `SELECT pid::text || ' ' || backend_start::text,
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
		ELSE current_setting('synchronous_commit') END, false) FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()`})
	if err != nil {
		return nil, errors.Join(err, s.Close()) //nolint:contextcheck // a goodbye has its own time
	}
	if len(results[0].Rows) == 1 {
		s.backend = results[0].Rows[0][0]
	}
	return s, nil
}

// Backend implements [sqlsink.Session]: the process and when it started, since numbers of processes come again.
func (s *session) Backend() string { return s.backend }

// Do implements [sqlsink.Session], in one message, and in one more for each statement of bulk.
func (s *session) Do(ctx context.Context, statements ...sqlsink.Statement) ([]sqlsink.Result, error) {
	out := make([]sqlsink.Result, 0, len(statements))
	for len(statements) > 0 {
		n := slices.IndexFunc(statements, func(statement sqlsink.Statement) bool { return statement.Data != nil })
		var results []sqlsink.Result
		var err error
		switch n {
		case 0:
			n, results = 1, make([]sqlsink.Result, 1)
			err = s.bulk(ctx, statements[0])
		case -1:
			n = len(statements)
			fallthrough
		default:
			results, _, err = s.batch(ctx, statements[:n])
		}
		if refused, ok := errors.AsType[*sqlsink.Refused](err); ok {
			refused.Statement += len(out)
		}
		if err != nil {
			return nil, err
		}
		out, statements = append(out, results...), statements[n:]
	}
	return out, nil
}

// bulk copies rows.
func (s *session) bulk(ctx context.Context, statement sqlsink.Statement) error {
	if _, err := s.conn.CopyFrom(ctx, io.MultiReader(strings.NewReader(statement.Head), statement.Data()), statement.Text); err != nil {
		return refusal(err, 0)
	}
	return nil
}

// batch sends statements in one message, and returns how the last of them was answered.
func (s *session) batch(ctx context.Context, statements []sqlsink.Statement) ([]sqlsink.Result, pgconn.CommandTag, error) {
	var batch pgconn.Batch
	for _, statement := range statements {
		text := numbered(statement.Text)
		if statement.One { // fence:F23 postgres
			text = touches(text, 1)
		} else if statement.Touches > 0 {
			text = touches(text, statement.Touches)
		}
		values, formats := arguments(statement.Args)
		batch.ExecParams(text, values, nil, formats, nil)
	}
	reader := s.conn.ExecBatch(ctx, &batch)
	out := make([]sqlsink.Result, 0, len(statements))
	var last pgconn.CommandTag
	for reader.NextResult() {
		rows := reader.ResultReader()
		var result sqlsink.Result
		for rows.NextRow() {
			result.Rows = append(result.Rows, cells(rows.Values()))
		}
		tag, err := rows.Close()
		if err != nil {
			return nil, last, errors.Join(s.refused(err, statements, len(out)), ignored(reader.Close()))
		}
		out, last = append(out, result), tag
	}
	if err := reader.Close(); err != nil {
		return nil, last, s.refused(err, statements, len(out))
	}
	return out, last, nil
}

// ignored drops the error of a batch's end, which repeats that of its statement.
func ignored(error) error { return nil }

// touches makes a statement fail on the server, with all that is sent behind it, unless it touches exactly n rows.
func touches(text string, n int) string {
	return "WITH touched AS (" + text + " RETURNING 1) SELECT 1 / (CASE count(*) WHEN " + strconv.Itoa(n) + " THEN 1 ELSE 0 END) FROM touched"
}

const divisionByZero = "22012"

func (s *session) refused(err error, statements []sqlsink.Statement, at int) error {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if ok && at < len(statements) && answer.Code == divisionByZero {
		switch {
		case statements[at].One:
			return sqlsink.ErrNotOne
		case statements[at].Touches > 0:
			return &sqlsink.Refused{Statement: at, Reason: sqlsink.RefusedGone, Err: errors.New("postgres: a row that is updated is not there")}
		}
	}
	return refusal(err, at)
}

// arguments encodes the arguments of a statement: bytes as they are, all else as text.
func arguments(args []any) (values [][]byte, formats []int16) {
	values, formats = make([][]byte, len(args)), make([]int16, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case nil:
		case []byte:
			values[i], formats[i] = arg, asBytes
			if arg == nil {
				values[i] = []byte{}
			}
		case string:
			values[i] = []byte(arg)
		case int64:
			values[i] = strconv.AppendInt(nil, arg, 10)
		case sqlsink.Array:
			values[i], formats[i] = array(arg), asBytes
		case texts:
			values[i], formats[i] = textArray(arg), asBytes
		}
	}
	return values, formats
}

// asBytes is the format of what is not text.
const asBytes = 1

// array encodes an array of one dimension in the server's binary form: dimensions, whether there are NULLs, type of the
// elements, length, first index, and each element after its length.
func array(in sqlsink.Array) []byte {
	types := map[string]uint32{"bytea": pgtype.ByteaOID, "bigint": pgtype.Int8OID, "text": pgtype.TextOID}
	size := 20
	for _, cell := range in.Cells {
		size += 12 + len(bytesOf(cell))
	}
	out := make([]byte, 0, size)
	for _, word := range []uint32{1, 1, types[elements(in.Kind)], uint32(len(in.Cells)), 1} {
		out = binary32(out, word)
	}
	for _, cell := range in.Cells {
		if number, ok := cell.(int64); ok {
			out = binary.BigEndian.AppendUint64(binary32(out, 8), uint64(number))
			continue
		}
		if cell == nil {
			out = binary32(out, math.MaxUint32) // NULL
			continue
		}
		value := bytesOf(cell)
		out = append(binary32(out, uint32(len(value))), value...)
	}
	return out
}

func binary32(out []byte, word uint32) []byte { return binary.BigEndian.AppendUint32(out, word) }

func bytesOf(cell any) []byte {
	switch cell := cell.(type) {
	case []byte:
		return cell
	case string:
		return []byte(cell)
	default:
		return nil
	}
}

func cells(values [][]byte) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = string(value)
	}
	return out
}

// Commit implements [sqlsink.Session]. What is left to do goes in the same message as COMMIT: the first statement that fails
// has the server pass over all that stand behind it, COMMIT too.
func (s *session) Commit(ctx context.Context, statements ...sqlsink.Statement) error {
	var bulk []sqlsink.Statement
	for i := len(statements); i > 0; i-- {
		if statements[i-1].Data != nil {
			bulk, statements = statements[:i], statements[i:]
			break
		}
	}
	if _, err := s.Do(ctx, bulk...); err != nil {
		return err
	}
	_, tag, err := s.batch(ctx, append(slices.Clone(statements), sqlsink.Statement{Text: "COMMIT"}))
	if err != nil {
		answer, ok := errors.AsType[*pgconn.PgError](err)
		// A connection that is ended while it commits may have committed.
		if errors.Is(err, sqlsink.ErrNotOne) || ok && answer.Severity == "ERROR" && !strings.HasPrefix(answer.Code, "57") && !strings.HasPrefix(answer.Code, "08") {
			return err
		}
		return fmt.Errorf("postgres: commit: %w: %w", fence.ErrUnknown, err)
	}
	if tag.String() != "COMMIT" {
		return &sqlsink.Refused{Err: errors.New("postgres: the transaction had failed and was rolled back")}
	}
	return nil
}

// End implements [sqlsink.Session].
func (s *session) End(ctx context.Context, backend string) error {
	_, err := s.Do(ctx, sqlsink.Statement{
		Rows: true, Args: []any{backend},
		Text: `SELECT pg_terminate_backend(pid, 2000) FROM pg_catalog.pg_stat_activity
			WHERE pid::text || ' ' || backend_start::text = ? AND application_name LIKE 'fencerow %'`,
	})
	return err
}

// Close implements [sqlsink.Session].
func (s *session) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeMax) //nolint:forbidigo // a goodbye, bounded; it needs nobody's leave
	defer cancel()
	if err := s.conn.Close(ctx); err != nil {
		return fmt.Errorf("postgres: close: %w", err)
	}
	return nil
}

// refusal says why the server refused. What it did not answer is returned as it is.
func refusal(err error, at int) error {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("postgres: %w", err)
	}
	return &sqlsink.Refused{Statement: at, Reason: reason(answer.Code), Err: err}
}

// reason sorts the codes of the server.
func reason(code string) sqlsink.Reason {
	switch code {
	case "40001", "40P01":
		return sqlsink.RefusedRace
	case "55P03":
		return sqlsink.RefusedLocked
	case "23505", "42P06", "42P07", "42710": // a row, or a schema or table that somebody else made meanwhile
		return sqlsink.RefusedDuplicate
	case "42P01", "3F000", "42703":
		return sqlsink.RefusedMissing
	case "42501", "28000", "28P01":
		return sqlsink.RefusedDenied
	case "53100":
		return sqlsink.RefusedFull
	case "25006":
		return sqlsink.RefusedReadOnly
	}
	for _, class := range []string{"22", "23", "42", "54", "P0"} { // data, constraints, types, limits, triggers
		if strings.HasPrefix(code, class) {
			return sqlsink.RefusedRow
		}
	}
	return sqlsink.RefusedOther
}
