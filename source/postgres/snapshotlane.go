package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// lanesMax is how many connections of one node read a changefeed's snapshot beside the first of each reader.
	lanesMax = 4
	// laneLockMax is how long a lane waits for a table that is being altered.
	laneLockMax = 30 * time.Second
)

// laneSettings are those of connections that read a snapshot: their transactions are as long as reading takes, and wait while
// the sink is slow. Rows that the user may not see are an error, where the server would leave them out.
func (s *snapshots) laneSettings() map[string]string {
	return map[string]string{
		"application_name": s.application, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "row_security": "off",
		"lock_timeout": strconv.FormatInt(laneLockMax.Milliseconds(), 10), "default_transaction_read_only": "on",
	}
}

// errChanged is for a table that is not any more what the snapshot says: a newer snapshot will show it.
var errChanged = errors.New("a table was altered, emptied or dropped while its snapshot was read")

// run is one snapshot being read by lanes.
type run struct {
	source *snapshots
	export *export
	todo   []changefeed.Span
	bytes  int // of a page

	events chan source.Event // closed when the lanes have ended
	err    error             // then: why
	cancel context.CancelFunc
	total  atomic.Int64 // rows, estimated

	mu    sync.Mutex
	parts []part
}

// start begins to read a snapshot.
func (s *snapshots) start(ctx context.Context, x *export, todo []changefeed.Span, buffer int) *run {
	ctx, cancel := context.WithCancel(ctx)
	r := &run{
		source: s, export: x, todo: todo, cancel: cancel, events: make(chan source.Event),
		// Each lane fills a page or waits with it, and one is with whoever reads.
		bytes: max(1, min(pageBytesMax, buffer/(lanesMax+1))),
	}
	go func() {
		r.err = r.read(ctx)
		close(r.events)
	}()
	return r
}

// stop ends the lanes and waits for them.
func (r *run) stop() {
	r.cancel()
	for range r.events { //nolint:revive // until it is closed
	}
}

func (r *run) read(ctx context.Context) error {
	conn, err := r.source.dial(ctx, r.source.laneSettings())
	if err != nil {
		return fmt.Errorf("open a connection for a snapshot: %w", err)
	}
	count, err := r.plan(ctx, conn)
	if err != nil {
		goodbye(conn)
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer goodbye(conn)
		return r.lane(ctx, conn)
	})
	for range min(count, lanesMax) - 1 {
		group.Go(func() error { return r.further(ctx) })
	}
	return group.Wait()
}

// plan finds the tables as the snapshot shows them, and cuts what is to be read into parts. It returns how many there are with rows.
func (r *run) plan(ctx context.Context, conn *pgconn.PgConn) (int, error) {
	if err := r.begin(ctx, conn, ""); err != nil {
		return 0, err
	}
	tables, err := r.source.tables(ctx, conn)
	if err != nil {
		return 0, fmt.Errorf("find the tables: %w", err)
	}
	count := 0
	for _, part := range plan(r.todo, tables) {
		if by, n := part.cutting(); n > 1 {
			values, err := cuts(ctx, conn, part.table, by.Name, n)
			if err != nil {
				return 0, fmt.Errorf("cut %s: %w", part.table.relation, err)
			}
			r.parts = append(r.parts, part.cut(values)...)
			continue
		}
		r.parts = append(r.parts, part)
	}
	for _, part := range r.parts {
		r.total.Add(part.rows)
		if part.table != nil {
			count++
		}
	}
	_, err = ask(ctx, conn, "COMMIT")
	return count, err
}

// cuts returns values of a column that part a table's rows into about so many equal parts: from the server's statistics, else
// evenly from the least to the greatest.
func cuts(ctx context.Context, conn *pgconn.PgConn, of *table, column string, n int) ([]string, error) {
	rows, err := ask(ctx, conn, `SELECT btrim(histogram_bounds::text, '{}') FROM pg_stats
		WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND inherited = $4 AND histogram_bounds IS NOT NULL`,
		of.relation.Schema, of.relation.Name, column, strconv.FormatBool(of.whole))
	if err != nil {
		return nil, err
	}
	if len(rows) == 1 {
		if bounds := strings.Split(rows[0][0], ","); len(bounds) > 2 {
			return quantiles(bounds, n), nil
		}
	}
	name := quoted(column)
	rows, err = ask(ctx, conn, "SELECT min("+name+"), max("+name+") FROM "+of.from())
	if err != nil || len(rows) != 1 || rows[0][0] == "" {
		return nil, err
	}
	least, err := strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil {
		return nil, err
	}
	greatest, err := strconv.ParseInt(rows[0][1], 10, 64)
	if err != nil {
		return nil, err
	}
	return evenly(least, greatest, n), nil
}

// quantiles picks at most n-1 of the bounds between the first and the last.
func quantiles(bounds []string, n int) []string {
	var out []string
	for i := 1; i < n; i++ {
		out = append(out, bounds[i*(len(bounds)-1)/n])
	}
	return slices.Compact(out)
}

// evenly returns n-1 numbers that part what lies between two into n parts.
func evenly(least, greatest int64, n int) []string {
	step := (uint64(greatest)-uint64(least))/uint64(n) + 1
	var out []string
	for i := 1; i < n; i++ {
		next := least + int64(step*uint64(i))
		if next > greatest || next < least {
			break
		}
		out = append(out, strconv.FormatInt(next, 10))
	}
	return out
}

// begin opens a transaction that sees what the snapshot shows, and lets nobody alter the table until it ends.
func (r *run) begin(ctx context.Context, conn *pgconn.PgConn, table string) error {
	text := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '" + strings.ReplaceAll(r.export.name, "'", "''") + "'"
	if _, err := ask(ctx, conn, text); err != nil {
		if answer, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(answer.Message, "invalid snapshot") ||
			ok && answer.Code == codeObjectState {
			return fmt.Errorf("%w: %w", errSnapshotLost, err)
		}
		return fmt.Errorf("take part in a snapshot: %w", err)
	}
	if table == "" {
		return nil
	}
	if _, err := ask(ctx, conn, "LOCK TABLE "+table+" IN ACCESS SHARE MODE"); err != nil {
		return fmt.Errorf("lock %s: %w", table, err)
	}
	return nil
}

// errSnapshotLost is for a snapshot whose connection has gone.
var errSnapshotLost = errors.New("the snapshot has gone")

// further is a lane beside the first. It reads a part only while there is room for one more lane on this node, whoever's.
func (r *run) further(ctx context.Context) error {
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			goodbye(conn)
		}
	}()
	for {
		if err := r.source.lanes.Acquire(ctx, 1); err != nil {
			return err
		}
		next, found := r.next()
		var err error
		if found && conn == nil {
			conn, err = r.source.dial(ctx, r.source.laneSettings())
		}
		if found && err == nil {
			err = r.part(ctx, conn, next)
		}
		r.source.lanes.Release(1)
		if !found || err != nil {
			return err
		}
	}
}

func (r *run) lane(ctx context.Context, conn *pgconn.PgConn) error {
	for next, found := r.next(); found; next, found = r.next() {
		if err := r.part(ctx, conn, next); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) next() (part, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.parts) == 0 {
		return part{}, false
	}
	next := r.parts[0]
	r.parts = r.parts[1:]
	return next, true
}

func (r *run) give(ctx context.Context, event source.Event) error {
	if err := r.source.pace(ctx, len(event.Changes)); err != nil {
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
func (r *run) part(ctx context.Context, conn *pgconn.PgConn, of part) error {
	give := func(event source.Event) error { return r.give(ctx, event) }
	if of.table == nil {
		return give(source.Event{Span: of.span, To: atDone(r.export), Snapshot: true})
	}
	if !of.table.relation.Keyed() {
		// Its page may be large, so there is one at a time.
		if err := r.source.keyless.Acquire(ctx, 1); err != nil {
			return err
		}
		defer r.source.keyless.Release(1)
	}
	query, err := of.query()
	if err != nil {
		return err
	}
	if err := r.begin(ctx, conn, of.table.from()); err != nil {
		return r.judge(err, of.table)
	}
	if err := r.same(ctx, conn, of.table); err != nil {
		return r.judge(err, of.table)
	}
	if err := r.rows(ctx, conn, of, query, give); err != nil {
		return r.judge(err, of.table)
	}
	_, err = ask(ctx, conn, "COMMIT")
	return err
}

// same makes sure that the table that is locked now is the one that the snapshot shows, with its rows where they were: a table
// that was emptied or written anew looks empty to every earlier snapshot.
func (r *run) same(ctx context.Context, conn *pgconn.PgConn, of *table) error {
	rows, err := ask(ctx, conn, "SELECT c.oid, coalesce(pg_relation_filenode(c.oid), 0) FROM (SELECT to_regclass($1)::oid AS oid) c", of.name())
	if err != nil {
		return err
	}
	if len(rows) != 1 || rows[0][0] != strconv.FormatUint(uint64(of.oid), 10) || rows[0][1] != strconv.FormatUint(uint64(of.file), 10) {
		return fmt.Errorf("%w: %s", errChanged, of.relation)
	}
	return nil
}

// rows streams the rows of a part. While nobody takes its pages nothing is read, and so the server waits.
func (r *run) rows(ctx context.Context, conn *pgconn.PgConn, of part, query string, give func(source.Event) error) error {
	reader := conn.ExecParams(ctx, query, nil, nil, nil, nil)
	for i, field := range reader.FieldDescriptions() {
		if column := &of.table.relation.Columns[i]; int(field.TableAttributeNumber) != column.Number {
			goodbye(conn)
			return fmt.Errorf("%w: %s, column %s", errChanged, of.table.relation, column.Name)
		}
	}
	pages := newPages(&of, r.export.done, r.source.chunk, r.bytes, give)
	for reader.NextRow() {
		if err := pages.add(reader.Values()); err != nil {
			goodbye(conn) // or the rest would be read to its end
			return err
		}
	}
	if _, err := reader.Close(); err != nil {
		return err
	}
	return pages.finish()
}

// judge tells a table that was changed meanwhile from other faults.
func (r *run) judge(err error, of *table) error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch answer.Code {
		case codeNoTable, codeNoColumn, codeNoSchema, codeNotTable:
			return fmt.Errorf("%w: %s: %w", errChanged, of.relation, err)
		}
	}
	return err
}
