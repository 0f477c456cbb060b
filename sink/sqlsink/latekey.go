package sqlsink

import (
	"context"
	"maps"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// A table that is made for a snapshot gets its primary key after its rows, where the server builds an index faster than it keeps
// one: in the transaction of the page with which the table is whole, or before anything else is done to it. That the key is owed
// is not noted anywhere: a table that was empty when it became the changefeed's, and has no such key, owes it.

// LateKeys is implemented by [Tables] of servers that build a key faster over rows that are there than row by row.
type LateKeys interface {
	// MakeKey returns the statements that make columns the primary key of a table with rows, inside a transaction, as long as it
	// takes. That the table has one by now is a [*Refused] like that of a row: it is looked at anew.
	MakeKey(name TableName, key []change.Column) []Statement
}

// owes reports whether a table that was looked at still lacks the key that it is to get.
func (w *tableWriter) owes(at *place) bool {
	_, late := w.sink.config.Tables.(LateKeys)
	return late && at.fresh && at.known() != nil && len(w.keyless(at)) > 0
}

// keyless returns what the place lacks of the key of its source's table.
func (w *tableWriter) keyless(at *place) []difference {
	return comparison{naming: w.sink.config.Settings.Naming, target: at.table, next: at.of}.keyed()
}

// mayOwe reports whether a table can do without its key while a batch is written: it is only filled, by nobody else, and is not
// whole yet.
func (w *tableWriter) mayOwe(work *batchWork, source TableName, way way) bool {
	if _, late := w.sink.config.Tables.(LateKeys); !late || !work.batch.Snapshot || way != wayBulk {
		return false
	}
	table := pageFor(source, nil).span
	if inside, overlaps := table.Intersect(work.batch.Span); overlaps && !untouched(w.held, inside) {
		return false
	}
	return w.span().Encloses(table) && !whole(w.held, table)
}

// whole reports whether every part of a table was written to.
func whole(held sink.Map, table changefeed.Span) bool {
	return !slices.ContainsFunc(held.Overlapping(table), func(piece sink.Held) bool { return piece.Mark == (change.Mark{}) })
}

// withoutKey leaves of a key that its columns are never NULL.
func withoutKey(columns []change.Column) []change.Column {
	out := slices.Clone(columns)
	for i := range out {
		if out[i].Key > 0 {
			out[i].Key, out[i].Null = 0, false
		}
	}
	return out
}

// payKey makes the key that a table owes, under the head's lock.
func (w *tableWriter) payKey(ctx context.Context, at *place) (*place, error) {
	if err := w.ddl(ctx, at.table.Name, w.makeKey(at)); err != nil {
		return nil, err
	}
	out := *at
	out.owed = false
	var err error
	out.table, err = w.describe(ctx, at.table.Name)
	return &out, err
}

func (w *tableWriter) makeKey(at *place) []Statement {
	late, ok := w.sink.config.Tables.(LateKeys)
	if lacks := w.keyless(at); ok && len(lacks) > 0 {
		return late.MakeKey(at.table.Name, lacks[0].Columns)
	}
	return nil
}

// payWhole returns the statements that make the keys of the tables that are whole with a batch, and the places without them: they
// are looked at anew when they are written next.
func (w *tableWriter) payWhole(after sink.Map, places map[TableName]*place) ([]Statement, map[TableName]*place) {
	var out []Statement
	kept := maps.Clone(places)
	for _, source := range slices.SortedFunc(maps.Keys(places), func(a, b TableName) int { return strings.Compare(sourceText(a), sourceText(b)) }) {
		if at := places[source]; at != nil && at.owed && whole(after, pageFor(source, nil).span) {
			out = append(out, w.makeKey(at)...)
			delete(kept, source)
		}
	}
	return out, kept
}
