package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

const (
	// tableChangesMax is how many changes of tables one transaction takes: enough for the source's own transactions to stay whole, and
	// for rows to go in bulk.
	tableChangesMax = 50_000
	// tableBytesMax is how many bytes of such changes one transaction takes.
	tableBytesMax = 32 << 20
	// singlesMax is how many statements of single rows go together.
	singlesMax = 500
)

// tableWriter writes rows of tables under one claim.
type tableWriter struct {
	*writer
	places map[TableName]*place
	open   *gathering // nil: no pages are gathered
}

// batchWork is a batch taken apart.
type batchWork struct {
	batch sink.Batch
	after sink.Map // what is held then
	move  Statement
	runs  []*tableRun
	pages []*tablePage
	wants []wanted
}

// write stores a batch, in the quickest way that the target allows.
func (w *tableWriter) write(ctx context.Context, batch sink.Batch) error {
	after, err := w.held.Advance(w.n, batch.Span, batch.To)
	if err != nil {
		return err
	}
	work := batchWork{batch: batch, after: after}
	if work.move, err = w.sink.statements.move(w.head, w.n, after.Pieces(w.n)); err != nil {
		return err
	}
	if batch.Snapshot {
		err = w.takePageApart(&work)
	} else {
		err = w.takeApart(&work)
	}
	ways := []way{wayBulk, wayUpserts, waySingle}
	if refusesRow(err) { // one that says too little: which, shows when they are done one by one
		ways, work.runs, work.wants = ways[2:], nil, nil
	} else if err != nil {
		return err
	}
	for _, way := range ways {
		if err = w.try(ctx, &work, way); !refusesRow(err) {
			break
		}
		w.doubt()
	}
	if err == nil {
		w.held = after
	}
	return err
}

// refusesRow reports whether it is a row that the target does not take, or not in this order.
func refusesRow(err error) bool {
	switch reasonOf(err) {
	case RefusedRow, RefusedDuplicate, RefusedGone:
		return !isFault(err, changefeed.CodeSinkRefused)
	default:
		return false
	}
}

func isFault(err error, code changefeed.Code) bool {
	fault, ok := errors.AsType[*changefeed.Fault](err)
	return ok && fault.Code == code
}

// doubt no longer takes the target to have the rows that the source has. That it does is the rule; else what is tried first would
// be in vain again and again.
func (w *tableWriter) doubt() {
	maps.DeleteFunc(w.places, func(_ TableName, at *place) bool { return at != nil && at.owed }) // looked at anew: somebody may have made the key
	for _, at := range w.places {
		if at != nil {
			at.same = false
		}
	}
}

// try writes a batch in one way, and again if somebody raced it, or a table is not as it was.
func (w *tableWriter) try(ctx context.Context, work *batchWork, way way) error {
	var row error // a refusal of a row is nothing that time heals
	err := w.sink.again(ctx, w.session, "write", func() error {
		err := w.attempt(ctx, work, way)
		if reasonOf(err) == RefusedMissing && len(w.places) > 0 {
			clear(w.places) // they are looked at anew
			if _, err := w.session.Do(ctx, rollback()); err != nil {
				return err
			}
			err = w.attempt(ctx, work, way)
		}
		if !refusesRow(err) {
			return err
		}
		row = err
		_, err = w.session.Do(ctx, rollback())
		return err
	})
	if err == nil && row != nil {
		return w.sink.failed("write", row)
	}
	return err
}

// attempt is one transaction.
func (w *tableWriter) attempt(ctx context.Context, work *batchWork, way way) error {
	if work.batch.Snapshot {
		if err := w.lookAround(ctx, work); err != nil {
			return err
		}
	}
	places, statements := w.places, []Statement{begin(), work.move}
	if wants := w.unsettled(work, way); len(wants) > 0 {
		brought, err := w.bring(ctx, work.move, wants)
		if err != nil {
			return w.compared(err)
		}
		for source, at := range w.places {
			if _, found := brought[source]; !found {
				brought[source] = at
			}
		}
		if places = brought; !w.sink.config.Tables.CommitsDDL() {
			statements = nil // they are done
		}
	}
	if way == waySingle {
		return w.singles(ctx, work, places, statements)
	}
	data, err := w.statements(work, places, way)
	if err != nil {
		if statements == nil {
			_, failed := w.session.Do(ctx, rollback())
			return errors.Join(err, failed)
		}
		return err
	}
	keys, places := w.payWhole(work.after, places)
	if err := w.commit(ctx, slices.Concat(statements, data, keys)); err != nil {
		return err
	}
	w.places = places
	return nil
}

// unsettled returns the tables that have to be looked at, or brought to another form, before rows can be written.
func (w *tableWriter) unsettled(work *batchWork, way way) []wanted {
	var out []wanted
	for _, want := range work.wants {
		want.mayOwe = w.mayOwe(work, want.source, way)
		want.leads = work.leads(want.at)
		at, known := w.places[want.source]
		if known && at == nil && want.of == nil || at.settled(want) {
			continue
		}
		out = append(out, want)
	}
	return out
}

// takeApart takes apart a run of changes.
func (w *tableWriter) takeApart(work *batchWork) (err error) {
	if work.runs, err = fold(work.batch.Changes, w.span()); err != nil {
		return err
	}
	for _, run := range work.runs {
		for _, s := range run.segments {
			work.wants = append(work.wants, wanted{source: run.source, of: s.of, at: s.at})
		}
	}
	return nil
}

// takePageApart takes apart a page of a snapshot.
func (w *tableWriter) takePageApart(work *batchWork) error {
	if lines := work.batch.Lines; lines != nil {
		page, err := work.pageOf(lines.Of, 0)
		if err == nil {
			page.lines = lines
		}
		return err
	}
	var page *tablePage
	for i := range work.batch.Changes {
		row, err := rowOf(&work.batch.Changes[i])
		if err != nil {
			return err
		}
		if page == nil || page.of != row.of {
			if page, err = work.pageOf(row.of, len(work.batch.Changes)-i); err != nil {
				return err
			}
		}
		if row.after == nil || unknown(row.after) != nil {
			return notOfTable(&work.batch.Changes[i])
		}
		page.rows = append(page.rows, StepRow{Cells: row.after.Cells, Old: row.after.Cells})
	}
	return nil
}

// pageOf returns what the page has of one table, with room for more rows.
func (work *batchWork) pageOf(of *change.Relation, more int) (*tablePage, error) {
	source := TableName{Schema: of.Schema, Name: of.Name}
	for _, page := range work.pages {
		if page.source == source && sameRelation(page.of, of) {
			return page, nil
		}
		if page.source == source {
			return nil, fmt.Errorf("sink sql: a page has rows of two forms of the table %s", source)
		}
	}
	page := pageFor(source, of)
	page.rows = make([]StepRow, 0, more)
	work.pages = append(work.pages, page)
	work.wants = append(work.wants, wanted{source: source, of: of, at: work.batch.To})
	return page, nil
}

func pageFor(source TableName, of *change.Relation) *tablePage {
	out := &tablePage{source: source, of: of}
	out.span.Start, out.span.End = change.TableSpan(source.Schema, source.Name)
	return out
}

// lookAround looks at the tables of which a page has no rows, and the target may.
func (w *tableWriter) lookAround(ctx context.Context, work *batchWork) error {
	results, err := w.session.Do(ctx, w.sink.statements.readTables(w.head))
	if err != nil {
		return err
	}
	rows, err := readTables(results[0].Rows)
	if err != nil {
		return err
	}
	for _, row := range rows {
		key, err := change.ParseTableKey([]byte(row.source + ":"))
		if err != nil {
			return broken(oursForTables, err)
		}
		source := TableName{Schema: key.Schema, Name: key.Table}
		wanted := slices.ContainsFunc(work.wants, func(want wanted) bool { return want.source == source })
		if _, overlaps := pageFor(source, nil).span.Intersect(work.batch.Span); wanted || !overlaps || w.places[source] != nil {
			continue
		}
		if w.places[source], err = w.look(ctx, source, rows); err != nil {
			return err
		}
	}
	return nil
}

// statements returns what a batch does to tables that are in place.
func (w *tableWriter) statements(work *batchWork, places map[TableName]*place, way way) ([]Statement, error) {
	p := &planner{naming: w.sink.config.Settings.Naming, dialect: w.sink.config.Tables, way: way}
	for _, run := range work.runs {
		p.run(run, places[run.source])
	}
	if work.batch.Snapshot {
		w.planPage(p, work, places)
	}
	return w.written(p.steps)
}

func (w *tableWriter) written(steps []Step) ([]Statement, error) {
	var out []Statement
	for _, step := range steps {
		statements, err := w.sink.config.Tables.Write(step)
		if err != nil {
			return nil, err
		}
		out = append(out, statements...)
	}
	return out, nil
}

// planPage adds the steps of a page: of the tables that it has rows of, and of those that it has none of.
func (w *tableWriter) planPage(p *planner, work *batchWork, places map[TableName]*place) {
	seen := make(map[TableName]bool)
	add := func(page *tablePage) {
		at := places[page.source]
		inside, overlaps := page.span.Intersect(work.batch.Span)
		if at == nil || !overlaps {
			return
		}
		seen[page.source] = true
		page.empty = at.fresh && untouched(w.held, inside)
		p.page(page.span, inside, at, page)
	}
	for _, page := range work.pages {
		add(page)
	}
	for source, at := range places {
		if at == nil || seen[source] {
			continue
		}
		add(pageFor(source, at.of))
	}
}

// untouched reports whether nothing was ever written to a part of the key space by this changefeed.
func untouched(held sink.Map, span changefeed.Span) bool {
	return !slices.ContainsFunc(held.Overlapping(span), func(piece sink.Held) bool { return piece.Mark != (change.Mark{}) })
}

// singles writes the changes one by one, in the source's order, and names the one that the target refuses.
func (w *tableWriter) singles(ctx context.Context, work *batchWork, places map[TableName]*place, first []Statement) error {
	statements := first
	if work.batch.Snapshot {
		cleared := batchWork{batch: work.batch}
		cleared.batch.Changes = nil
		for _, page := range work.pages {
			cleared.pages = append(cleared.pages, &tablePage{source: page.source, span: page.span, of: page.of})
		}
		more, err := w.statements(&cleared, places, waySingle)
		if err != nil {
			return err
		}
		statements = append(statements, more...)
	}
	if len(statements) > 0 {
		if _, err := w.session.Do(ctx, statements...); err != nil {
			return w.compared(err)
		}
	}
	changes := work.batch.Changes
	for len(changes) > 0 {
		n := min(len(changes), singlesMax)
		if err := w.someSingles(ctx, changes[:n], places); err != nil {
			return err
		}
		changes = changes[n:]
	}
	if err := w.commit(ctx, nil); err != nil {
		return err
	}
	w.places = places
	return nil
}

// someSingles does some of the changes.
func (w *tableWriter) someSingles(ctx context.Context, changes []change.Change, places map[TableName]*place) error {
	var statements []Statement
	var of []int // which change each statement is of
	for i := range changes {
		runs, err := fold(changes[i:i+1], w.span())
		if err == nil {
			var one []Statement
			one, err = w.statements(&batchWork{runs: runs}, places, waySingle)
			for range one {
				of = append(of, i)
			}
			statements = append(statements, one...)
		}
		if err != nil {
			return w.refused(&changes[i], err)
		}
	}
	if len(statements) == 0 {
		return nil
	}
	_, err := w.session.Do(ctx, statements...)
	refused, ok := errors.AsType[*Refused](err)
	if !ok || !refusesRow(err) || refused.Statement >= len(of) {
		return err
	}
	return w.refused(&changes[of[refused.Statement]], err)
}

// refused is the fault of one change that the target does not take.
func (w *tableWriter) refused(c *change.Change, err error) error {
	if reasonOf(err) == RefusedOther {
		return err
	}
	key, failed := change.ParseTableKey(c.Key)
	if failed != nil {
		return errors.Join(failed, err)
	}
	return w.sink.refusedRow(c, w.target(TableName{Schema: key.Schema, Name: key.Table}), err)
}
