package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"fencerow/change"
)

// Run compares. It ends with ctx, or when it has read everything and each row that differed was decided on, or given up.
func Run(ctx context.Context, config Config) (Report, error) {
	config.Limit = cmp.Or(config.Limit, LimitDefault)
	config.ReachMax, config.Poll = cmp.Or(config.ReachMax, ReachMax), cmp.Or(config.Poll, pollDefault)
	r := &run{Config: config, pending: map[string]map[string]suspect{}}
	if err := r.all(ctx); err != nil {
		return Report{}, err
	}
	return r.report, nil
}

// run is one comparison.
type run struct {
	Config
	report  Report
	total   int64
	pending map[string]map[string]suspect // by table and key
	at      change.Position               // at or above all looks at the source in pending
	cut     bool                          // a chunk had more rows than are looked at
}

func (r *run) all(ctx context.Context) error {
	var err error
	if r.report.From, err = r.Reached(ctx); err != nil {
		return err
	}
	if r.total, err = r.Source.Total(ctx); err != nil {
		return err
	}
	page := Page{More: true}
	for page.More && !r.report.Limited && !r.cut {
		if err := r.Pace(ctx, ChunkRows); err != nil {
			return err
		}
		if page, err = r.Source.Next(ctx, page.Chunk, ChunkRows); errors.Is(err, ErrEnd) {
			break
		}
		if err == nil {
			err = r.chunk(ctx, page)
		}
		if r.leaves(page.Chunk.Table, err) {
			page = Page{Chunk: Chunk{Table: page.Chunk.Table}, More: true}
		} else if err != nil {
			return err
		}
		if err := r.crowded(ctx); err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.report.Limited = r.report.Limited || r.cut
	r.report.To, err = r.Source.Head(ctx)
	return err
}

// crowded looks at what is pending before it gets too much.
func (r *run) crowded(ctx context.Context) error {
	if r.count() < pendingMax {
		return nil
	}
	return r.settle(ctx)
}

// leaves reports whether an error is about one table alone, of which then nothing more is told.
func (r *run) leaves(table string, err error) bool {
	leave, ok := errors.AsType[*Leave](err)
	if ok {
		delete(r.pending, table)
		r.report.Left = append(r.report.Left, Left{Table: table, Why: leave.Why})
	}
	return ok
}

func (r *run) count() int {
	n := 0
	for _, rows := range r.pending {
		n += len(rows)
	}
	return n
}

func (r *run) tell(found *Difference) {
	if r.Tell != nil {
		r.Tell(Progress{Rows: r.report.Rows, Total: r.total, Pending: r.count(), Found: found})
	}
}

// chunk compares one chunk. Equal digests are enough: the target has what the source had a moment ago, row by row.
func (r *run) chunk(ctx context.Context, page Page) error {
	r.report.Rows += page.Sum.Rows
	defer r.tell(nil)
	for rows := page.Sum.Rows - ChunkRows; rows > 0; rows -= ChunkRows { // a table without keys is read at once
		if err := r.Pace(ctx, int(min(rows, ChunkRows))); err != nil {
			return err
		}
	}
	if page.Apart {
		return r.apart(ctx, page.Chunk)
	}
	theirs, err := r.Target.Sum(ctx, page.Chunk)
	if err != nil || theirs == page.Sum {
		return err
	}
	return r.suspects(ctx, page.Chunk)
}

// suspects lists a chunk at both sides and keeps what differs. The source is listed first.
func (r *run) suspects(ctx context.Context, chunk Chunk) error {
	if err := r.Pace(ctx, ChunkRows); err != nil {
		return err
	}
	ours, err := r.Source.List(ctx, chunk, listMax)
	if err != nil {
		return err
	}
	at, err := r.Source.Head(ctx)
	if err != nil {
		return err
	}
	theirs, err := r.Target.List(ctx, chunk, listMax)
	if err != nil {
		return err
	}
	source, target := byKey(ours), byKey(theirs)
	for key := range union(source, target) {
		if !source[key].same(target[key]) {
			r.keep(chunk.Table, suspect{key: key, source: source[key]})
		}
	}
	r.at = max(r.at, at)
	r.cut = r.cut || len(ours) >= listMax || len(theirs) >= listMax
	return nil
}

func (r *run) keep(table string, one suspect) {
	if r.pending[table] == nil {
		r.pending[table] = map[string]suspect{}
	}
	r.pending[table][one.key] = one
}

func byKey(rows []Row) map[string]seen {
	out := make(map[string]seen, len(rows))
	for _, row := range rows {
		out[row.Key] = seen{there: true, row: row}
	}
	return out
}

func union(a, b map[string]seen) map[string]struct{} {
	out := make(map[string]struct{}, len(a))
	for key := range a {
		out[key] = struct{}{}
	}
	for key := range b {
		out[key] = struct{}{}
	}
	return out
}

// settle looks at what is pending until each row is decided on, or gives it up.
func (r *run) settle(ctx context.Context) error {
	for round := 0; r.count() > 0 && !r.report.Limited; round++ {
		if round == RoundsMax {
			r.giveUp("changed each time that it was looked at")
			return nil
		}
		reached, err := r.reach(ctx)
		if err != nil {
			return err
		}
		if !reached {
			r.giveUp(fmt.Sprintf("the target did not come to position %d within %v", r.at, r.ReachMax))
			return nil
		}
		if err := r.round(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

// round looks at everything that is pending once more: at all of it in the target, then at all of it in the source.
func (r *run) round(ctx context.Context, number int) error {
	before, since := r.pending, r.at
	targets, err := r.looks(ctx, r.Target, before)
	if err != nil {
		return err
	}
	if err := r.Source.Settle(ctx); errors.Is(err, ErrBusy) {
		r.giveUp("a transaction of the source has been running for too long to wait for it")
		return nil
	} else if err != nil {
		return err
	}
	sources, err := r.looks(ctx, r.Source, before)
	if err != nil {
		return err
	}
	if r.at, err = r.Source.Head(ctx); err != nil {
		return err
	}
	r.pending = map[string]map[string]suspect{}
	recalls := 0
	for _, table := range slices.Sorted(maps.Keys(before)) {
		for _, key := range slices.Sorted(maps.Keys(before[table])) {
			source, target := sources[table][key], targets[table][key]
			decided, next := judge(before[table][key], target, source)
			if decided == verdictAgain && number > 0 && recalls < recallsMax {
				recalls++
				if decided, err = r.recall(ctx, table, next, since); err != nil {
					return err
				}
			}
			switch decided {
			case verdictDiffers:
				r.found(differenceOf(table, key, source, target))
			case verdictAgain:
				r.keep(table, next)
			case verdictSame:
			}
		}
	}
	r.tell(nil)
	return nil
}

// recall asks a source that knows its history whether a row that keeps changing was, at any position since the target had
// everything, as the target has it.
func (r *run) recall(ctx context.Context, table string, one suspect, since change.Position) (verdict, error) {
	historian, ok := r.Source.(Historian)
	if !ok {
		return verdictAgain, nil
	}
	was := false
	err := historian.Was(ctx, RowKey{Table: table, Key: one.key}, since, r.at, func(row Row, there bool) {
		was = was || one.target.same(seen{there: there, row: row})
	})
	switch {
	case errors.Is(err, ErrForgotten):
		return verdictAgain, nil
	case err != nil:
		return 0, err
	case was:
		return verdictSame, nil
	default:
		return verdictDiffers, nil
	}
}

// looks looks at everything that is pending at one side. Tables that are left are taken out of it.
func (r *run) looks(ctx context.Context, side Side, at map[string]map[string]suspect) (map[string]map[string]seen, error) {
	out := make(map[string]map[string]seen, len(at))
	for _, table := range slices.Sorted(maps.Keys(at)) {
		found, err := r.look(ctx, side, table, slices.Sorted(maps.Keys(at[table])))
		if r.leaves(table, err) {
			delete(at, table)
		} else if err != nil {
			return nil, err
		}
		out[table] = found
	}
	return out, nil
}

// look looks at rows of a table at one side.
func (r *run) look(ctx context.Context, side Side, table string, keys []string) (map[string]seen, error) {
	out := make(map[string]seen, len(keys))
	for some := range slices.Chunk(keys, lookMax) {
		if err := r.Pace(ctx, len(some)); err != nil {
			return nil, err
		}
		found, err := side.Look(ctx, table, some)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, byKey(found))
	}
	return out, nil
}

func (r *run) found(one Difference) {
	if len(r.report.Differences) >= r.Limit {
		r.report.Limited = true
		return
	}
	r.report.Differences = append(r.report.Differences, one)
	r.tell(&one)
}

func (r *run) giveUp(why string) {
	for _, table := range slices.Sorted(maps.Keys(r.pending)) {
		for _, key := range slices.Sorted(maps.Keys(r.pending[table])) {
			r.report.UnsettledCount++
			if len(r.report.Unsettled) < unsettledMax {
				r.report.Unsettled = append(r.report.Unsettled, Unsettled{Table: table, Key: key, Why: why})
			}
		}
	}
	r.pending = map[string]map[string]suspect{}
}
