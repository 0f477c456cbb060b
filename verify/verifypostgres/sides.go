// Package verifypostgres reads tables of a PostgreSQL for a comparison. The server digests rows and chunks; what both sides
// have in common is the text form of cells under settings that are the same at both.
package verifypostgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/change"
	"fencerow/internal/wait"
	"fencerow/verify"
)

// Bounds of a side.
const (
	statementMax = 60 * time.Second
	triesMax     = 5
	tryPause     = 500 * time.Millisecond
	// settleMax is how long transactions of the source are waited for that had begun when the target was looked at.
	settleMax   = 20 * time.Second
	settleEvery = 50 * time.Millisecond
)

// Relation is a table as one side has it. What stands at one place of Key and of Columns is compared.
type Relation struct {
	Schema, Name string
	Key          []string
	Columns      []string // with those of the key
}

// Table is a table of which both sides have a relation.
type Table struct {
	Name    string   // as people know it: the source's "schema.table"
	Columns []string // names for people
	Relation
}

// Config says what is read.
type Config struct {
	// Connect opens a connection with [Settings]; the side closes it.
	Connect func(ctx context.Context) (*pgconn.PgConn, error)
	Tables  []Table // each has a key
	// Fault says what an error of the server is to people.
	Fault func(error) error
}

// Settings are what a connection asks for: both sides write values in the same way, and nothing is written.
func Settings(name string) map[string]string {
	return map[string]string{
		"application_name": name, "client_encoding": "UTF8", "timezone": "UTC", "datestyle": "ISO, MDY", "intervalstyle": "postgres",
		"extra_float_digits": "3", "bytea_output": "hex", "xmloption": "content", "default_transaction_read_only": "on",
		"statement_timeout": strconv.FormatInt(statementMax.Milliseconds(), 10), "search_path": "pg_catalog",
	}
}

// Side is some tables of a PostgreSQL. It is used by one goroutine.
type Side struct {
	Config
	conn *pgconn.PgConn
}

var _ verify.Source = (*Side)(nil)

// New returns a side, which connects when it is first used.
func New(config Config) *Side { return &Side{Config: config} }

// Close ends the connection.
func (s *Side) Close(ctx context.Context) error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close(ctx)
	s.conn = nil
	return err
}

// ask asks, and asks again over another connection for a while when the server did not answer.
func (s *Side) ask(ctx context.Context, text string, arguments ...string) ([][][]byte, error) {
	for try := 1; ; try++ {
		rows, err := s.askOnce(ctx, text, arguments)
		if err == nil {
			return rows, nil
		}
		answer, refused := errors.AsType[*pgconn.PgError](err)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case refused && !strings.HasPrefix(answer.Code, "57P") && !strings.HasPrefix(answer.Code, "40"), try == triesMax:
			return nil, s.Fault(err)
		}
		if !wait.For(ctx, time.Duration(try)*tryPause) {
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Side) askOnce(ctx context.Context, text string, arguments []string) ([][][]byte, error) {
	if s.conn == nil || s.conn.IsClosed() {
		var err error
		if s.conn, err = s.Connect(ctx); err != nil {
			s.conn = nil
			return nil, err
		}
	}
	values := make([][]byte, len(arguments))
	for i, argument := range arguments {
		values[i] = []byte(argument)
	}
	result := s.conn.ExecParams(ctx, text, values, nil, nil, nil).Read()
	return result.Rows, result.Err
}

// table returns a table by its name.
func (s *Side) table(name string) (Table, error) {
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, fmt.Errorf("verify postgres: there is no table %q", name)
	}
	return s.Tables[i], nil
}

// after returns the table that follows, and whether there is one.
func (s *Side) after(chunk verify.Chunk) (table Table, from string, found bool) {
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == chunk.Table })
	if i >= 0 && chunk.To != "" {
		return s.Tables[i], chunk.To, true
	}
	if i+1 >= len(s.Tables) {
		return Table{}, "", false
	}
	return s.Tables[i+1], "", true
}

// Next implements [verify.Source]. Borders are keys, as JSON; a chunk is what lies above one and not above the other, in the
// order of each side. Whatever these orders are, each row of each side is in a chunk.
func (s *Side) Next(ctx context.Context, after verify.Chunk, rows int) (verify.Page, error) {
	table, from, found := s.after(after)
	if !found {
		return verify.Page{}, nil
	}
	page := verify.Page{Chunk: verify.Chunk{Table: table.Name, From: from}}
	where, arguments, err := table.within(page.Chunk)
	if err != nil {
		return verify.Page{}, err
	}
	read, err := s.ask(ctx, "WITH page AS (SELECT "+list(table.Key, "")+", "+table.digest()+" AS digest FROM "+table.from()+where+
		" ORDER BY "+list(table.Key, "")+" LIMIT "+strconv.Itoa(rows)+") SELECT "+sums+
		", (SELECT "+table.key()+" FROM page ORDER BY "+list(table.Key, " DESC")+" LIMIT 1) FROM page", arguments...)
	if err != nil {
		return verify.Page{}, err
	}
	if page.Sum, err = sumOf(read[0]); err != nil {
		return verify.Page{}, err
	}
	if page.Sum.Rows >= int64(rows) {
		page.Chunk.To = string(read[0][2])
	}
	_, _, page.More = s.after(page.Chunk)
	return page, nil
}

// sums are what a chunk is digested to: how many rows it has, and the digests of all of them in an order of their own.
const sums = `count(*), coalesce(md5(string_agg(digest, '' ORDER BY digest COLLATE "C")), '')`

func sumOf(row [][]byte) (verify.Sum, error) {
	rows, err := strconv.ParseInt(string(row[0]), 10, 64)
	if err != nil {
		return verify.Sum{}, fmt.Errorf("verify postgres: count: %w", err)
	}
	return verify.Sum{Rows: rows, Digest: string(row[1])}, nil
}

// Sum implements [verify.Side].
func (s *Side) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	table, err := s.table(chunk.Table)
	if err != nil {
		return verify.Sum{}, err
	}
	where, arguments, err := table.within(chunk)
	if err != nil {
		return verify.Sum{}, err
	}
	read, err := s.ask(ctx, "SELECT "+sums+" FROM (SELECT "+table.digest()+" AS digest FROM "+table.from()+where+") AS page", arguments...)
	if err != nil {
		return verify.Sum{}, err
	}
	return sumOf(read[0])
}

// List implements [verify.Side].
func (s *Side) List(ctx context.Context, chunk verify.Chunk, rowsMax int) ([]verify.Row, error) {
	table, err := s.table(chunk.Table)
	if err != nil {
		return nil, err
	}
	where, arguments, err := table.within(chunk)
	if err != nil {
		return nil, err
	}
	read, err := s.ask(ctx, "SELECT "+table.key()+", "+version+", "+table.digest()+" FROM "+table.from()+where+
		" ORDER BY "+list(table.Key, "")+" LIMIT "+strconv.Itoa(rowsMax), arguments...)
	return rowsOf(read, nil), err
}

// version is another one after each write: who wrote the row, and where it lies.
const version = "xmin::text || ctid::text"

func rowsOf(read [][][]byte, columns []string) []verify.Row {
	out := make([]verify.Row, len(read))
	for i, row := range read {
		out[i] = verify.Row{Key: string(row[0]), Version: string(row[1]), Digest: string(row[2])}
		if columns != nil {
			out[i].Columns = make(map[string]string, len(columns))
			for c, name := range columns {
				out[i].Columns[name] = string(row[3+c])
			}
		}
	}
	return out
}

// Look implements [verify.Side].
func (s *Side) Look(ctx context.Context, name string, keys []string) ([]verify.Row, error) {
	table, err := s.table(name)
	if err != nil {
		return nil, err
	}
	var among, arguments []string
	for _, key := range keys {
		cells, err := table.cells(key)
		if err != nil {
			return nil, err
		}
		among = append(among, numbered(len(arguments), len(cells)))
		arguments = append(arguments, cells...)
	}
	var columns strings.Builder
	for _, column := range table.Relation.Columns {
		columns.WriteString(", coalesce(md5(" + quote(column) + "::text), 'null')")
	}
	read, err := s.ask(ctx, "SELECT "+table.key()+", "+version+", "+table.digest()+columns.String()+" FROM "+table.from()+
		" WHERE ("+list(table.Key, "")+") IN ("+strings.Join(among, ", ")+")", arguments...)
	return rowsOf(read, table.Columns), err
}

// Total implements [verify.Source], by what the server estimates.
func (s *Side) Total(ctx context.Context) (int64, error) {
	total := 0.0
	for _, table := range s.Tables {
		read, err := s.ask(ctx, "SELECT greatest(coalesce(sum(reltuples), 0), 0) FROM pg_class WHERE oid = to_regclass($1)", table.from())
		if err != nil {
			return 0, err
		}
		rows, err := strconv.ParseFloat(string(read[0][0]), 64)
		if err != nil {
			return 0, fmt.Errorf("verify postgres: estimate: %w", err)
		}
		total += rows
	}
	return int64(total), nil
}

// Head implements [verify.Source]. What a read sees was committed before it: the record of that lies below.
func (s *Side) Head(ctx context.Context) (change.Position, error) {
	read, err := s.ask(ctx, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
	if err != nil {
		return 0, err
	}
	return change.ParsePosition(string(read[0][0]))
}

// Settle implements [verify.Source]. A transaction is in the log, and so perhaps at a target, a moment before others see what
// it did; with synchronous replicas a long one. All that may be at a target have numbers below one that is given out now, so
// when none of these runs any more, everything is seen. A snapshot alone would not do: it ends with what has ended.
func (s *Side) Settle(ctx context.Context) error {
	read, err := s.ask(ctx, "SELECT pg_current_xact_id()::text")
	if err != nil {
		return err
	}
	next := string(read[0][0])
	for end := time.Now().Add(settleMax); ; {
		read, err := s.ask(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8", next)
		switch {
		case err != nil:
			return err
		case string(read[0][0]) == "t":
			return nil
		case time.Now().After(end):
			return verify.ErrBusy
		}
		if !wait.For(ctx, settleEvery) {
			return context.Cause(ctx)
		}
	}
}

func (t Table) from() string { return quote(t.Schema) + "." + quote(t.Relation.Name) }

// key writes the key of a row as JSON: the same bytes at both sides.
func (t Table) key() string {
	cells := make([]string, len(t.Key))
	for i, column := range t.Key {
		cells[i] = quote(column) + "::text"
	}
	return "json_build_array(" + strings.Join(cells, ", ") + ")::text"
}

// digest digests a row. The text of a record tells NULL from an empty text, and cells from one another.
func (t Table) digest() string {
	cells := make([]string, len(t.Relation.Columns))
	for i, column := range t.Relation.Columns {
		cells[i] = quote(column) + "::text"
	}
	return "md5(ROW(" + strings.Join(cells, ", ") + ")::text)"
}

func (t Table) cells(key string) ([]string, error) {
	var cells []string
	if err := json.Unmarshal([]byte(key), &cells); err != nil || len(cells) != len(t.Key) {
		return nil, fmt.Errorf("verify postgres: %.100q is no key of %s", key, t.Name)
	}
	return cells, nil
}

// within is the condition that a row lies in a chunk.
func (t Table) within(chunk verify.Chunk) (where string, arguments []string, err error) {
	var conditions []string
	for _, border := range []struct{ than, key string }{{">", chunk.From}, {"<=", chunk.To}} {
		if border.key == "" {
			continue
		}
		cells, err := t.cells(border.key)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, "("+list(t.Key, "")+") "+border.than+" "+numbered(len(arguments), len(cells)))
		arguments = append(arguments, cells...)
	}
	if len(conditions) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), arguments, nil
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func list(names []string, order string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = quote(name) + order
	}
	return strings.Join(out, ", ")
}

// numbered is a row of parameters, after so many.
func numbered(after, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = "$" + strconv.Itoa(after+i+1)
	}
	return "(" + strings.Join(out, ", ") + ")"
}
