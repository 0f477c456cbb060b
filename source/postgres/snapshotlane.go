package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/change"
	"fencerow/source"
)

const (
	// lanesMax is how many connections read one snapshot at most. On a node all readers of a changefeed together have so many,
	// and each at least one.
	lanesMax = 4
	// lockMax is how long a lane waits for a table that is being altered.
	lockMax = 30 * time.Second
)

// Codes of the server for what a snapshot is read into.
const (
	codeMissingColumn = "42703"
	codeMissingSchema = "3F000"
	codeNoSnapshot    = "22023" // its name says nothing to the server any more; from 16 on it is missing
)

var (
	// errChanged is for a table that is not any more what the snapshot shows: another snapshot will show it.
	errChanged = errors.New("a table was altered, emptied or dropped while its snapshot was read")
	// errSnapshotLost is for a snapshot whose connection has gone.
	errSnapshotLost = errors.New("the snapshot has gone")
)

// lane opens a connection that reads. Its transactions are as long as reading takes, and wait while the sink is slow. Rows that
// the user may not see are an error, where the server would leave them out.
func (s *snapshots) lane(ctx context.Context) (*connection, error) {
	return s.open(ctx, map[string]string{
		"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": milliseconds(lockMax),
		"row_security": "off",
	})
}

// first reads parts until there are none.
func (r *run) first(ctx context.Context, c *connection) error {
	for next, found := r.next(); found; next, found = r.next() {
		if err := r.part(ctx, c, next); err != nil {
			return err
		}
	}
	return nil
}

// further is a lane beside the first. It reads a part only while the node has room for one more lane: the first of each reader
// needs none, so none waits for another's.
func (r *run) further(ctx context.Context) error {
	var c *connection
	defer func() {
		if c != nil {
			c.goodbye(ctx)
		}
	}()
	for {
		if err := r.source.lanes.Acquire(ctx, 1); err != nil {
			return err
		}
		next, found := r.next()
		var err error
		if found && c == nil {
			c, err = r.source.lane(ctx)
		}
		if found && err == nil {
			err = r.part(ctx, c, next)
		}
		r.source.lanes.Release(1)
		if !found || err != nil {
			return err
		}
	}
}

// give hands a page on. While nobody takes it nothing more is read, and so the server waits.
func (r *run) give(ctx context.Context, event source.Event) error {
	if err := r.source.pace(ctx, event.Rows()); err != nil {
		return err
	}
	select {
	case r.events <- event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part reads one part, and gives its pages on.
func (r *run) part(ctx context.Context, c *connection, of part) error {
	if of.table == nil {
		return r.give(ctx, source.Event{Span: of.span, To: change.At(r.export.done), Snapshot: true})
	}
	if !of.table.relation.Keyed() {
		// Its page may be large, so there is one at a time.
		if err := r.source.keyless.Acquire(ctx, 1); err != nil {
			return err
		}
		defer r.source.keyless.Release(1)
	}
	err := r.rows(ctx, c, of)
	switch codeOf(err) {
	case codeMissingTable, codeMissingColumn, codeMissingSchema:
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}

// begin opens a transaction that sees what the snapshot shows.
func (r *run) begin(ctx context.Context, c *connection) error {
	err := c.exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+quoteText(r.export.name))
	switch codeOf(err) {
	case codeNoSnapshot, codeMissing, codeNotReady:
		return fmt.Errorf("%w: %w", errSnapshotLost, err)
	}
	return err
}

// rows reads the rows of a part in a transaction of its own, so that no table is locked for longer than its rows are read.
func (r *run) rows(ctx context.Context, c *connection, of part) error {
	if err := r.begin(ctx, c); err != nil {
		return err
	}
	name, err := r.lock(ctx, c, of.table)
	if err != nil {
		return err
	}
	query, err := of.query(name)
	if err != nil {
		return err
	}
	if r.lines && of.table.relation.Keyed() {
		err = r.copy(ctx, c, of, query)
	} else {
		// A row comes as the length and the text of each value, which is what we keep: COPY would have to be parsed.
		reader := c.conn.ExecParams(ctx, query, nil, nil, nil, nil)
		err = r.stream(reader, of, func(page source.Event) error { return r.give(ctx, page) })
	}
	if err != nil {
		c.goodbye(ctx) // or the rest would be read to its end
		return r.hiddenFault(of.table, fmt.Errorf("read %s: %w", of.table.relation, err))
	}
	return c.exec(ctx, "COMMIT")
}

func (r *run) stream(reader *pgconn.ResultReader, of part, give func(source.Event) error) error {
	if err := sameColumns(of.table, reader.FieldDescriptions()); err != nil {
		return err
	}
	pages := newPages(&of, r.export.done, r.source, r.bytes, give)
	for reader.NextRow() {
		if err := pages.add(reader.Values()); err != nil {
			return err
		}
	}
	if _, err := reader.Close(); err != nil {
		return err
	}
	return pages.finish()
}

// lock lets nobody alter a table until the transaction ends, and returns what it is called now: one that was renamed has its rows
// still, and no other snapshot would show them where this one's plan has them. The table must have its rows where they were.
func (r *run) lock(ctx context.Context, c *connection, of *table) (string, error) {
	name, err := nameOf(ctx, c, of)
	if err != nil {
		return "", err
	}
	if err := c.exec(ctx, "LOCK TABLE "+of.from(name)+" IN ACCESS SHARE MODE"); err != nil {
		return "", r.lockFault(of, err)
	}
	locked, err := nameOf(ctx, c, of)
	if err != nil {
		return "", err
	}
	answer, err := c.query(ctx, storedNow, oidArray([]uint32{of.oid}))
	if err != nil {
		return "", fmt.Errorf("find out where %s is stored: %w", of.relation, err)
	}
	if locked != name || len(answer) != 1 || answer.text(0, 2) != of.files {
		return "", fmt.Errorf("%w: %s", errChanged, of.relation)
	}
	return name, nil
}

// nameOf returns what a table is called now, as SQL.
func nameOf(ctx context.Context, c *connection, of *table) (string, error) {
	answer, err := c.query(ctx, "SELECT $1::oid::regclass", strconv.FormatUint(uint64(of.oid), 10))
	if answer, err = answer.one(err); err != nil {
		return "", fmt.Errorf("find out what %s is called: %w", of.relation, err)
	}
	name := answer.text(0, 0)
	if !strings.Contains(name, ".") { // only its number is left
		return "", fmt.Errorf("%w: %s", errChanged, of.relation)
	}
	return name, nil
}

func (r *run) lockFault(of *table, err error) error {
	switch codeOf(err) {
	case codeLockTimeout:
		return r.source.hindrance("has a table that is being altered, or for which that waits: "+of.relation.String(),
			"end the transaction that SELECT pid, query FROM pg_stat_activity, unnest(pg_blocking_pids(pid)) AS by shows, or wait for it", err)
	case codeDenied:
		return r.source.hindrance("doesn't let us read "+of.relation.String(), fmt.Sprintf("GRANT SELECT ON %s TO %s, and USAGE ON SCHEMA %s",
			quoteTable(of.relation.Schema, of.relation.Name), quoteName(r.source.server.URI.User), quoteName(of.relation.Schema)), err)
	}
	return fmt.Errorf("lock %s: %w", of.relation, err)
}

// hiddenFault is for a table of which the user may see only some rows.
func (r *run) hiddenFault(of *table, err error) error {
	if codeOf(err) == codeDenied && strings.Contains(err.Error(), "row-level security") {
		return r.source.hindrance("hides rows of "+of.relation.String()+" from us",
			fmt.Sprintf("ALTER ROLE %s BYPASSRLS", quoteName(r.source.server.URI.User)), err)
	}
	return err
}
