package verifysql

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fencerow/verify"
)

// Bounds of one request.
const (
	pageRowsFirst = 100     // before it is known how wide rows are
	pageBytes     = 4 << 20 // about what the rows of a page are to have
	// sumRowsMax bounds what is digested of a range at a target, which may have any number of rows that the source has not.
	sumRowsMax = 20 * verify.ChunkRows
)

var errCells = errors.New("verify sql: a row has not the cells that were asked for")

// Side is some tables of a server.
type Side struct {
	Server
	Tables   []Table
	pageRows int
}

var (
	_ verify.Side  = (*Side)(nil)
	_ verify.Keyed = (*Side)(nil)
)

// table returns a table by its name, and whether it is there. One that was not is looked for: rows that it has by now would be
// taken for missing.
func (s *Side) table(ctx context.Context, name string) (table *Table, there bool, err error) {
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return nil, false, fmt.Errorf("verify sql: there is no table %q", name)
	}
	if table = &s.Tables[i]; table.Absent == nil {
		return table, true, nil
	}
	if absent, err := table.Absent(ctx); err != nil || absent {
		return table, false, err
	}
	return nil, false, Altered()
}

// scan reads rows. begin is called before each try.
func (s *Side) scan(ctx context.Context, reader *rowReader, tail string, begin func(), each func(*row)) error {
	text := "SELECT " + reader.table.cells(reader.table.expressions()...) + " FROM " + reader.table.From + tail
	return s.Read(ctx, text, begin, func(cells [][]byte) error {
		one, err := reader.read(cells)
		if err == nil {
			each(&one)
		}
		return err
	})
}

func limit(rows int) string { return " LIMIT " + strconv.Itoa(rows) }

// Next returns the chunk that follows, as [verify.Source] does. Borders are keys, as JSON; a chunk is what lies above one and not above
// the other, in the order of each side.
func (s *Side) Next(ctx context.Context, after verify.Chunk, rows int) (verify.Page, error) {
	names := make([]string, len(s.Tables))
	for i := range s.Tables {
		names[i] = s.Tables[i].Name
	}
	name, from, found := After(names, after)
	if !found {
		return verify.Page{}, verify.ErrEnd
	}
	page := verify.Page{Chunk: verify.Chunk{Table: name, From: from}, More: true}
	table, _, err := s.table(ctx, name)
	if err != nil {
		return page, err
	}
	page.Apart = table.Apart
	if table.whole() {
		page.Sum, _, err = s.whole(ctx, table)
		return page, err
	}
	where, err := table.within(s, page.Chunk)
	if err != nil {
		return page, err
	}
	if s.pageRows == 0 {
		s.pageRows = pageRowsFirst
	}
	rows = min(rows, s.pageRows)
	var of set
	last, bytes := "", 0
	err = s.scan(ctx, &rowReader{table: table}, where+" ORDER BY "+table.order()+limit(rows), func() { of, last, bytes = set{}, "", 0 }, func(one *row) {
		of.add(one.keyed())
		last, bytes = one.key, bytes+one.bytes
	})
	if err != nil {
		return page, err
	}
	page.Sum = of.sum()
	if of.rows >= int64(rows) {
		page.Chunk.To = last
	}
	if of.rows > 0 {
		s.pageRows = min(max(pageBytes/(bytes/int(of.rows)+1), 1), verify.ChunkRows)
	}
	return page, nil
}

// Sum implements [verify.Side].
func (s *Side) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	table, there, err := s.table(ctx, chunk.Table)
	if err != nil {
		return verify.Sum{}, err
	}
	var of set
	switch {
	case !there:
		return of.sum(), nil
	case table.whole():
		sum, _, err := s.whole(ctx, table)
		return sum, err
	}
	where, err := table.within(s, chunk)
	if err != nil {
		return verify.Sum{}, err
	}
	err = s.scan(ctx, &rowReader{table: table}, where+limit(sumRowsMax), func() { of = set{} }, func(one *row) { of.add(one.keyed()) })
	return of.sum(), err
}

// List implements [verify.Side].
func (s *Side) List(ctx context.Context, chunk verify.Chunk, rowsMax int) ([]verify.Row, error) {
	table, there, err := s.table(ctx, chunk.Table)
	switch {
	case err != nil:
		return nil, err
	case table.whole() && there:
		return s.wholeRow(ctx, table)
	case table.whole():
		return lump(new(set).sum(), ""), nil
	case !there:
		return nil, nil
	}
	where, err := table.within(s, chunk)
	if err != nil {
		return nil, err
	}
	return s.rows(ctx, &rowReader{table: table}, where+" ORDER BY "+table.order()+limit(rowsMax))
}

func (s *Side) rows(ctx context.Context, reader *rowReader, tail string) (out []verify.Row, err error) {
	err = s.scan(ctx, reader, tail, func() { out = nil }, func(one *row) { out = append(out, one.verify()) })
	return out, err
}

// Look implements [verify.Side].
func (s *Side) Look(ctx context.Context, name string, keys []string) ([]verify.Row, error) {
	table, there, err := s.table(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case table.whole() && there:
		return s.wholeRow(ctx, table)
	case table.whole():
		return lump(new(set).sum(), ""), nil
	case !there || len(keys) == 0:
		return nil, nil
	}
	return Bisect(keys, s.NoValue, func(keys []string) ([]verify.Row, error) {
		where := table.among(s, keys)
		if where == "" {
			return nil, nil
		}
		return s.rows(ctx, &rowReader{table: table, columns: true}, where)
	})
}

// Keys implements [verify.Keyed].
func (s *Side) Keys(ctx context.Context, name, after string, rowsMax int) (out []string, err error) {
	table, there, err := s.table(ctx, name)
	if err != nil || !there {
		return nil, err
	}
	where, err := table.within(s, verify.Chunk{From: after})
	if err != nil {
		return nil, err
	}
	text := "SELECT " + table.cells() + " FROM " + table.From + where + " ORDER BY " + table.order() + limit(rowsMax)
	err = s.Read(ctx, text, func() { out = nil }, func(cells [][]byte) error {
		if len(cells) != 1+len(table.Key) {
			return errCells
		}
		key, err := keyOf(cells[1:])
		out = append(out, key)
		return err
	})
	return out, err
}

// whole digests a table without a key, as a multiset of rows, and what tells whether it was written to.
func (s *Side) whole(ctx context.Context, table *Table) (sum verify.Sum, version string, err error) {
	var of, versions set
	err = s.scan(ctx, &rowReader{table: table}, limit(verify.WholeRowsMax+1), func() { of, versions = set{}, set{} }, func(one *row) {
		of.add(one.digest)
		versions.add(sha256.Sum256([]byte(one.version)))
	})
	switch {
	case err != nil && s.TimedOut(err):
		return verify.Sum{}, "", TooMuch("takes too long to read")
	case err != nil:
		return verify.Sum{}, "", err
	case of.rows > verify.WholeRowsMax:
		return verify.Sum{}, "", TooMuch(fmt.Sprintf("has more than %d rows", verify.WholeRowsMax))
	}
	if table.Version != "" {
		version = versions.text()
	}
	return of.sum(), version, nil
}

func (s *Side) wholeRow(ctx context.Context, table *Table) ([]verify.Row, error) {
	sum, version, err := s.whole(ctx, table)
	if err != nil {
		return nil, err
	}
	return lump(sum, version), nil
}

// lump is a table without a key as one row.
func lump(sum verify.Sum, version string) []verify.Row {
	digest := strings.Join([]string{strconv.FormatInt(sum.Rows, 10), sum.Digest}, " ")
	return []verify.Row{{Whole: true, Version: version, Digest: digest}}
}
