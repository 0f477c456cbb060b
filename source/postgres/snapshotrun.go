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

	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/source"
)

// run is one snapshot being read by lanes.
type run struct {
	source *snapshots
	export *export
	todo   []changefeed.Span
	bytes  int  // of a page
	lines  bool // pages may come as lines

	events chan source.Event // closed when the lanes have ended
	err    error             // then: why
	cancel context.CancelFunc
	total  atomic.Int64 // rows, estimated

	mu    sync.Mutex
	parts []part // that no lane has taken yet
}

// newRun reads what a reader has not delivered yet.
func newRun(of *snapshotReader, x *export) *run {
	return &run{
		source: of.source, export: x, todo: of.todo, lines: of.lines, events: make(chan source.Event),
		// Each lane fills a page or waits with it, and one is with whoever reads.
		bytes: max(1, min(pageBytesMax, of.buffer/(lanesMax+1))),
	}
}

// start begins to read.
func (r *run) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		r.err = r.read(ctx)
		close(r.events)
	}()
}

// stop ends the lanes and waits for them.
func (r *run) stop() {
	r.cancel()
	for range r.events { // until it is closed
	}
}

func (r *run) read(ctx context.Context) error {
	c, err := r.source.lane(ctx)
	if err != nil {
		return err
	}
	count, err := r.plan(ctx, c)
	if err != nil {
		c.goodbye(ctx)
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer c.goodbye(ctx)
		return r.first(ctx, c)
	})
	for range min(count, lanesMax) - 1 {
		group.Go(func() error { return r.further(ctx) })
	}
	return group.Wait()
}

// plan finds the tables as the snapshot shows them, and cuts what is to be read into parts. It returns how many have rows.
func (r *run) plan(ctx context.Context, c *connection) (count int, err error) {
	if err := r.begin(ctx, c); err != nil {
		return 0, err
	}
	tables, err := r.source.tables(ctx, c)
	if err != nil {
		return 0, err
	}
	for _, part := range plan(r.todo, tables) {
		if by, n := part.cutting(r.source.partRows); n > 1 {
			values, err := cuts(ctx, c, part.table, by.Name, n)
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
	return count, c.exec(ctx, "COMMIT")
}

// next takes a part.
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

// storedSQL tells what a table's rows are stored in. $1 is the tables' numbers, and %s what a relation's file is.
const storedSQL = `SELECT c.oid, c.relkind = 'p', s.files, s.rows FROM pg_class c, LATERAL (
		SELECT string_agg(l.oid || ':' || coalesce(%s, 0), ' ' ORDER BY l.oid) AS files,
			sum(CASE WHEN l.relkind = 'p' THEN 0 WHEN l.reltuples > 0 THEN l.reltuples ELSE pg_relation_size(l.oid) / 100 END)::bigint AS rows
		FROM (SELECT c.oid AS leaf UNION SELECT t.relid FROM pg_partition_tree(c.oid) t) p JOIN pg_class l ON l.oid = p.leaf) s
	WHERE c.oid = ANY ($1::oid[])`

// A catalog is read as the transaction's snapshot shows it, but functions tell what is there now.
var (
	storedThen = fmt.Sprintf(storedSQL, "l.relfilenode")               //nolint:gochecknoglobals // read only
	storedNow  = fmt.Sprintf(storedSQL, "pg_relation_filenode(l.oid)") //nolint:gochecknoglobals // read only
)

// tables returns the tables whose changes are published, as the transaction sees them. One that joins after it comes through the
// log with all its rows, so here it must not come too.
func (s *snapshots) tables(ctx context.Context, c *connection) ([]*table, error) {
	found, err := s.candidates(ctx, c)
	if err != nil {
		return nil, err
	}
	published, err := s.publications(ctx, c)
	if err != nil {
		return nil, err
	}
	var oids []uint32
	for _, one := range found {
		if published.members[one.oid] != nil {
			oids = append(oids, one.oid)
		}
	}
	described, err := describe(ctx, c, oids...)
	if err != nil {
		return nil, err
	}
	answer, err := c.query(ctx, storedThen, oidArray(oids))
	if err != nil {
		return nil, fmt.Errorf("find out where tables are stored: %w", err)
	}
	var out []*table
	for i := range answer {
		oid := uint32(answer.number(i, 0))
		if now := described[oid]; now != nil {
			out = append(out, &table{
				oid: oid, relation: now.relation(), whole: answer.bool(i, 1), files: answer.text(i, 2), rows: answer.number(i, 3),
			})
		}
	}
	return out, nil
}

func oidArray(oids []uint32) string {
	list := make([]string, len(oids))
	for i, oid := range oids {
		list[i] = strconv.FormatUint(uint64(oid), 10)
	}
	return "{" + strings.Join(list, ",") + "}"
}

// cuts returns values of a column that part a table's rows into about so many equal parts: from the server's statistics, else
// evenly from the least to the greatest.
func cuts(ctx context.Context, c *connection, of *table, column string, n int) ([]string, error) {
	answer, err := c.query(ctx, `SELECT btrim(histogram_bounds::text, '{}') FROM pg_stats
		WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND inherited = $4 AND histogram_bounds IS NOT NULL`,
		of.relation.Schema, of.relation.Name, column, strconv.FormatBool(of.whole))
	if err != nil {
		return nil, err
	}
	if len(answer) == 1 {
		if bounds := strings.Split(answer.text(0, 0), ","); len(bounds) > 2 {
			return quantiles(bounds, n), nil
		}
	}
	name, err := nameOf(ctx, c, of)
	if err != nil {
		return nil, err
	}
	column = quoteName(column)
	answer, err = c.query(ctx, "SELECT min("+column+"), max("+column+") FROM "+of.from(name))
	if err != nil || len(answer) == 0 || answer[0][0] == nil {
		return nil, err
	}
	least, err := strconv.ParseInt(answer.text(0, 0), 10, 64)
	greatest, errGreatest := strconv.ParseInt(answer.text(0, 1), 10, 64)
	return evenly(least, greatest, n), errors.Join(err, errGreatest)
}

// quantiles picks at most n-1 of the bounds between the first and the last.
func quantiles(bounds []string, n int) []string {
	var out []string
	for i := 1; i < n; i++ {
		out = append(out, bounds[i*(len(bounds)-1)/n])
	}
	return slices.Compact(out)
}

// evenly returns at most n-1 numbers that part what lies between two into n parts.
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
