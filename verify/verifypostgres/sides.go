// Package verifypostgres reads tables of a PostgreSQL for a comparison. Where the other side is one too, the servers digest rows
// and chunks: what both have in common is the text form of cells under settings that are the same at both. Where it is none, rows are
// read and digested here ([Reading]).
package verifypostgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/internal/wait"
	"fencerow/verify"
	"fencerow/verify/verifysql"
)

// Bounds of what a source waits for.
const (
	// settleMax is how long transactions of the source are waited for that had begun when the target was looked at.
	settleMax   = 20 * time.Second
	settleEvery = 50 * time.Millisecond
)

// Side is some tables of a PostgreSQL, which digests them. It is used by one goroutine.
type Side struct {
	*Server
	Tables []Table
}

var (
	_ verify.Source = (*Side)(nil)
	_ verify.Keyed  = (*Side)(nil)
)

// table returns a table by its name. One that is absent is looked for: rows that it has by now would be taken for missing.
func (s *Side) table(ctx context.Context, name string) (*Table, error) {
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("verify postgres: there is no table %q", name)
	}
	table := &s.Tables[i]
	if !table.Absent {
		return table, nil
	}
	found, err := s.ask(ctx, "SELECT to_regclass($1) IS NULL", table.full())
	if err != nil {
		return nil, err
	}
	if string(found[0][0]) != "t" {
		return nil, verifysql.Altered()
	}
	return table, nil
}

func (s *Side) names() []string {
	out := make([]string, len(s.Tables))
	for i := range s.Tables {
		out[i] = s.Tables[i].Name
	}
	return out
}

// Next implements [verify.Source]. Borders are keys, as JSON; a chunk is what lies above one and not above the other, in the
// order of each side. Whatever these orders are, each row of each side is in a chunk.
func (s *Side) Next(ctx context.Context, after verify.Chunk, rows int) (verify.Page, error) {
	name, from, found := verifysql.After(s.names(), after)
	if !found {
		return verify.Page{}, verify.ErrEnd
	}
	page := verify.Page{Chunk: verify.Chunk{Table: name, From: from}, More: true}
	table, err := s.table(ctx, name)
	if err != nil {
		return page, err
	}
	page.Apart = table.Apart
	if table.whole() {
		row, err := s.wholeOf(ctx, table)
		page.Sum = row.sum
		return page, err
	}
	where, arguments, err := table.within(page.Chunk)
	if err != nil {
		return page, err
	}
	read, err := s.ask(ctx, "WITH page AS (SELECT "+table.keys("")+", "+table.digest()+" AS "+ofDigest+", "+table.key()+" AS "+ofKey+" FROM "+table.from()+where+
		" ORDER BY "+table.keys("")+" LIMIT "+strconv.Itoa(rows)+") SELECT "+sums+
		", (SELECT "+ofKey+" FROM page ORDER BY "+table.keys(" DESC")+" LIMIT 1) FROM page", arguments...)
	if err != nil {
		return page, unbrought(err)
	}
	if page.Sum, err = sumOf(read[0]); err != nil {
		return page, err
	}
	if page.Sum.Rows >= int64(rows) {
		page.Chunk.To = string(read[0][2])
	}
	return page, nil
}

// unbrought leaves a table of which a value is none of the type to which it has to be brought.
func unbrought(err error) error {
	if strings.HasPrefix(codeOf(err), classData) {
		return &verify.Leave{Why: "a value of the source is none of the type that the target has for it, code " + codeOf(err)}
	}
	return err
}

// sums are what a chunk is digested to: how many rows it has, and the digests of all of them in an order of their own.
const sums = `count(*), coalesce(md5(string_agg(` + ofDigest + `, '' ORDER BY ` + ofDigest + ` COLLATE "C")), '')`

// What is computed of a row, under names that no column of a table is likely to have.
const (
	ofDigest  = `"fencerow: digest"`
	ofKey     = `"fencerow: key"`
	ofVersion = `"fencerow: version"`
)

func sumOf(row [][]byte) (verify.Sum, error) {
	rows, err := strconv.ParseInt(string(row[0]), 10, 64)
	if err != nil {
		return verify.Sum{}, fmt.Errorf("verify postgres: count: %w", err)
	}
	return verify.Sum{Rows: rows, Digest: string(row[1])}, nil
}

// Sum implements [verify.Side].
func (s *Side) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	table, err := s.table(ctx, chunk.Table)
	switch {
	case err != nil || table.Absent:
		return verify.Sum{}, err
	case table.whole():
		row, err := s.wholeOf(ctx, table)
		return row.sum, err
	}
	where, arguments, err := table.within(chunk)
	if err != nil {
		return verify.Sum{}, err
	}
	read, err := s.ask(ctx, "SELECT "+sums+" FROM (SELECT "+table.digest()+" AS "+ofDigest+" FROM "+table.from()+where+") AS page", arguments...)
	if err != nil {
		return verify.Sum{}, unbrought(err)
	}
	return sumOf(read[0])
}

// List implements [verify.Side].
func (s *Side) List(ctx context.Context, chunk verify.Chunk, rowsMax int) ([]verify.Row, error) {
	table, err := s.table(ctx, chunk.Table)
	switch {
	case err != nil:
		return nil, err
	case table.whole():
		return s.wholeRow(ctx, table)
	case table.Absent:
		return nil, nil
	}
	where, arguments, err := table.within(chunk)
	if err != nil {
		return nil, err
	}
	read, err := s.ask(ctx, "SELECT "+table.key()+", "+Version+", "+table.digest()+" FROM "+table.from()+where+
		" ORDER BY "+table.keys("")+" LIMIT "+strconv.Itoa(rowsMax), arguments...)
	return rowsOf(read, nil), unbrought(err)
}

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
	table, err := s.table(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case table.whole():
		return s.wholeRow(ctx, table)
	case table.Absent || len(keys) == 0:
		return nil, nil
	}
	return verifysql.Bisect(keys, s.NoValue, func(keys []string) ([]verify.Row, error) {
		where, arguments, err := table.among(keys)
		if err != nil {
			return nil, err
		}
		read, err := s.ask(ctx, "SELECT "+table.key()+", "+Version+", "+table.digest()+table.columnDigests()+" FROM "+table.from()+where, arguments...)
		if len(keys) == 1 && s.NoValue(err) { // the key is none, or it is a value of the row that can't be brought to its type
			if _, failed := s.ask(ctx, "SELECT 1 FROM "+table.from()+where, arguments...); failed == nil {
				return nil, unbrought(err)
			}
		}
		return rowsOf(read, table.Columns), err
	})
}

// Keys implements [verify.Keyed].
func (s *Side) Keys(ctx context.Context, name, after string, rowsMax int) ([]string, error) {
	table, err := s.table(ctx, name)
	if err != nil || table.Absent {
		return nil, err
	}
	where, arguments, err := table.within(verify.Chunk{From: after})
	if err != nil {
		return nil, err
	}
	read, err := s.ask(ctx, "SELECT "+table.key()+" FROM "+table.from()+where+" ORDER BY "+table.keys("")+" LIMIT "+strconv.Itoa(rowsMax), arguments...)
	out := make([]string, len(read))
	for i := range read {
		out[i] = string(read[i][0])
	}
	return out, err
}

// Total implements [verify.Source], by what the server estimates.
func (s *Side) Total(ctx context.Context) (int64, error) {
	total := 0.0
	for i := range s.Tables {
		read, err := s.ask(ctx, "SELECT greatest(coalesce(sum(reltuples), 0), 0) FROM pg_class WHERE oid = to_regclass($1)", s.Tables[i].full())
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

// Head implements [verify.Source]. What a read sees was committed before it: the records of that begin below the place where the
// next one will.
func (s *Side) Head(ctx context.Context) (change.Position, error) {
	read, err := s.ask(ctx, "SELECT greatest(pg_current_wal_insert_lsn() - '0/0'::pg_lsn - 1, 0)")
	if err != nil {
		return 0, err
	}
	return change.ParsePosition(string(read[0][0]))
}

// Settle implements [verify.Source]. A transaction is in the log, and so perhaps at a target, a moment before others see what it
// did; with synchronous replicas a long one. All that may be at a target have numbers below one that is given out now, so when none of
// these runs any more, everything is seen. A snapshot alone would not do: it ends with what has ended.
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

// whole is a table without a key: its rows as a multiset.
type whole struct {
	sum     verify.Sum
	version string
}

// wholeOf digests a table without a key.
func (s *Side) wholeOf(ctx context.Context, table *Table) (whole, error) {
	if table.Absent {
		return whole{}, nil
	}
	read, err := s.ask(ctx, "SELECT "+sums+", coalesce(md5(string_agg("+ofVersion+", '' ORDER BY "+ofVersion+` COLLATE "C")), '') FROM (SELECT `+table.digest()+
		" AS "+ofDigest+", "+Version+" AS "+ofVersion+" FROM "+table.from()+" LIMIT "+strconv.Itoa(verify.WholeRowsMax+1)+") AS page")
	switch {
	case s.TimedOut(err):
		return whole{}, verifysql.TooMuch("takes too long to read")
	case err != nil:
		return whole{}, unbrought(err)
	}
	out := whole{version: string(read[0][2])}
	if out.sum, err = sumOf(read[0]); err == nil && out.sum.Rows > verify.WholeRowsMax {
		err = verifysql.TooMuch(fmt.Sprintf("has more than %d rows", verify.WholeRowsMax))
	}
	return out, err
}

func (s *Side) wholeRow(ctx context.Context, table *Table) ([]verify.Row, error) {
	found, err := s.wholeOf(ctx, table)
	if err != nil {
		return nil, err
	}
	digest := strconv.FormatInt(found.sum.Rows, 10) + " " + found.sum.Digest
	return []verify.Row{{Whole: true, Version: found.version, Digest: digest}}, nil
}
