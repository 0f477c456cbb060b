package sqlsink

import (
	"bytes"
	"fmt"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
)

// A batch is one transaction, so nobody ever sees what its rows were in between: of each key only what remains is written. A
// key that moves, a table that is emptied and rows without a key keep their places among the others of their table. Different
// tables, and different keys, know nothing of one another.

// effect is what remains of the changes of one key.
type effect uint8

const (
	effectNew   effect = iota + 1 // the row was not there before
	effectSet                     // it was there, and is known whole
	effectPut                     // it may have been there, and is known whole
	effectPatch                   // it was there, and some columns keep what they have
	effectGone
)

// entry is what remains of one key.
type entry struct {
	effect effect
	row    StepRow
	same   []bool // of a patch: which columns keep what they have
}

// segmentKind says what the entries of a segment have in common.
type segmentKind uint8

const (
	segmentKeys     segmentKind = iota + 1 // one entry a key, in any order
	segmentMoves                           // updates that change keys, none of which appears twice
	segmentAppend                          // rows without a key
	segmentOnes                            // updates and deletes of rows without a key, in order
	segmentTruncate                        // the rows of a span are gone
)

// segment is a part of what is done to a table. Segments are done in order.
type segment struct {
	kind    segmentKind
	of      *change.Relation
	at      change.Mark // up to its first change
	entries []entry
	keys    map[string]int // where the entry of a key is; of moves the old and the new ones
	span    changefeed.Span
}

// tableRun is what a batch does to one table of the source.
type tableRun struct {
	source   TableName
	span     changefeed.Span // of the table
	segments []*segment
}

// folder gathers the changes of a batch.
type folder struct {
	claimed changefeed.Span
	runs    []*tableRun
	byTable map[string]*tableRun
	byOf    map[*change.Relation]*tableRun // the same, found without building a name
}

// fold returns what remains of changes inside a claimed span, by tables in the order in which they come first.
func fold(changes []change.Change, claimed changefeed.Span) ([]*tableRun, error) {
	f := &folder{claimed: claimed, byTable: make(map[string]*tableRun), byOf: make(map[*change.Relation]*tableRun)}
	for i := range changes {
		if err := f.add(&changes[i]); err != nil {
			return nil, err
		}
	}
	return f.runs, nil
}

// run returns what is gathered of a table.
func (f *folder) run(schema, name string) *tableRun {
	start, end := change.TableSpan(schema, name)
	run, found := f.byTable[string(start)]
	if !found {
		run = &tableRun{source: TableName{Schema: schema, Name: name}, span: changefeed.Span{Start: start, End: end}}
		f.byTable[string(start)] = run
		f.runs = append(f.runs, run)
	}
	return run
}

func (f *folder) add(c *change.Change) error {
	at := change.Mark{Position: c.Position, Index: c.Index + 1}
	if c.Op == change.OpTruncate {
		key, err := change.ParseTableKey(c.Key)
		if err != nil {
			return fmt.Errorf("sink sql: truncate at %d: %w", c.Position, err)
		}
		f.run(key.Schema, key.Table).truncate(f.claimed, at)
		return nil
	}
	row, err := rowOf(c)
	if err != nil {
		return err
	}
	run, found := f.byOf[row.of]
	if !found {
		run = f.run(row.of.Schema, row.of.Name)
		f.byOf[row.of] = run
	}
	return run.add(c, row, at)
}

// tableRow is a change of a row taken apart.
type tableRow struct {
	of            *change.Relation
	before, after *change.Tuple
}

func rowOf(c *change.Change) (tableRow, error) {
	var out tableRow
	var ok bool
	if c.After != nil {
		if out.after, ok = c.After.(*change.Tuple); !ok || out.after == nil {
			return out, notOfTable(c)
		}
		out.of = out.after.Of
	}
	if c.Before != nil {
		if out.before, ok = c.Before.(*change.Tuple); !ok || out.before == nil {
			return out, notOfTable(c)
		}
		if out.of == nil {
			out.of = out.before.Of
		}
	}
	if out.of == nil || c.Op == change.OpDelete && out.before == nil || c.Op != change.OpDelete && out.after == nil {
		return out, notOfTable(c)
	}
	return out, nil
}

func notOfTable(c *change.Change) error {
	return fmt.Errorf("sink sql: %v of key %.100q at %d, index %d, is not one of a table's row", c.Op, c.Key, c.Position, c.Index)
}

// truncate takes in that a claimed part of the table was emptied.
func (r *tableRun) truncate(claimed changefeed.Span, at change.Mark) {
	inside, overlaps := r.span.Intersect(claimed)
	if !overlaps {
		return
	}
	r.segments = nil // what came before it is gone as well
	r.begin(segmentTruncate, nil, at).span = inside
}

// add takes in one change of a row.
func (r *tableRun) add(c *change.Change, row tableRow, at change.Mark) error {
	switch {
	case !row.of.Keyed():
		return r.addKeyless(c, row, at)
	case row.before == nil || row.after == nil:
		r.addKeyed(c.Op, string(c.Key), row, at)
	case sameKey(row.before, row.after):
		r.addKeyed(c.Op, string(r.key(row.after)), row, at)
	default:
		r.addMove(row, at)
	}
	return nil
}

// key returns the key of a row.
func (r *tableRun) key(row *change.Tuple) []byte {
	return change.AppendKey(slices.Clip(r.span.Start), row.Of, row.Cells)
}

// last returns the newest segment, if it takes changes of this kind and relation, else a new one.
func (r *tableRun) last(kind segmentKind, of *change.Relation, at change.Mark) *segment {
	if n := len(r.segments); n > 0 {
		if s := r.segments[n-1]; s.kind == kind && sameRelation(s.of, of) {
			return s
		}
	}
	return r.begin(kind, of, at)
}

func (r *tableRun) begin(kind segmentKind, of *change.Relation, at change.Mark) *segment {
	s := &segment{kind: kind, of: of, at: at}
	if kind == segmentKeys || kind == segmentMoves {
		s.keys = make(map[string]int)
	}
	r.segments = append(r.segments, s)
	return s
}

// add appends an entry. Of many most would be copied again and again in the steps of append, so it doubles.
func (s *segment) add(e entry) {
	if n := len(s.entries); n == cap(s.entries) {
		s.entries = append(make([]entry, 0, max(2*n, entriesLeast)), s.entries...)
	}
	s.entries = append(s.entries, e)
}

// entriesLeast is what a segment has room for at first.
const entriesLeast = 16

// addMove takes in an update that changes the key.
func (r *tableRun) addMove(row tableRow, at change.Mark) {
	from, to := string(r.key(row.before)), string(r.key(row.after))
	s := r.last(segmentMoves, row.of, at)
	_, knowsFrom := s.keys[from]
	if _, knowsTo := s.keys[to]; knowsFrom || knowsTo {
		s = r.begin(segmentMoves, row.of, at)
	}
	s.keys[from], s.keys[to] = len(s.entries), len(s.entries)
	s.entries = append(s.entries, entry{
		effect: effectPatch, row: StepRow{Cells: row.after.Cells, Old: row.before.Cells}, same: unknown(row.after),
	})
}

// addKeyed takes in a change of a row with a key that stays.
func (r *tableRun) addKeyed(op change.Op, key string, row tableRow, at change.Mark) {
	s := r.last(segmentKeys, row.of, at)
	i, found := s.keys[key]
	if found && s.entries[i].effect == effectGone && op == change.OpUpdate { // of a row that this batch deleted: it is refused
		s, found = r.begin(segmentKeys, row.of, at), false
	}
	if !found {
		s.keys[key] = len(s.entries)
		s.add(first(op, row))
		return
	}
	s.entries[i] = s.entries[i].then(op, row)
}

// first is what remains of one change.
func first(op change.Op, row tableRow) entry {
	if op == change.OpDelete {
		return entry{effect: effectGone, row: StepRow{Old: row.before.Cells}}
	}
	out := entry{effect: effectSet, row: StepRow{Cells: row.after.Cells, Old: row.after.Cells}, same: unknown(row.after)}
	switch {
	case out.same != nil:
		out.effect = effectPatch
	case op == change.OpCreate || op == change.OpRead:
		out.effect = effectNew
	}
	return out
}

// then is what remains of a key after one more change.
func (e entry) then(op change.Op, row tableRow) entry {
	next := first(op, row)
	switch {
	case next.effect == effectGone:
		return next
	case next.effect == effectNew: // whatever was here before
		next.effect = effectPut
		return next
	case next.same != nil:
		next.row.Cells, next.same = e.filled(next)
	}
	if next.effect = e.effect; next.same != nil {
		next.effect = effectPatch
	} else if e.effect == effectPatch {
		next.effect = effectSet
	}
	return next
}

// filled returns the cells of an update with what an earlier change of the row tells of those that it leaves alone, and which it
// leaves alone even so; nil if none.
func (e entry) filled(next entry) (cells [][]byte, same []bool) {
	cells = slices.Clone(next.row.Cells)
	for i, unchanged := range next.same {
		switch {
		case !unchanged:
		case e.same == nil || !e.same[i]:
			cells[i] = e.row.Cells[i]
		default:
			if same == nil {
				same = make([]bool, len(cells))
			}
			same[i] = true
		}
	}
	return cells, same
}

// addKeyless takes in a change of a row that nothing names but itself.
func (r *tableRun) addKeyless(c *change.Change, row tableRow, at change.Mark) error {
	if c.Op == change.OpCreate || c.Op == change.OpRead {
		s := r.last(segmentAppend, row.of, at)
		s.add(entry{effect: effectNew, row: StepRow{Cells: row.after.Cells}})
		return nil
	}
	if row.before == nil || row.before.KeyOnly || unknown(row.before) != nil {
		return &Refused{Reason: RefusedRow, Err: fmt.Errorf("sink sql: the %v doesn't tell the whole row, and the table has no key: "+
			"ALTER TABLE … REPLICA IDENTITY FULL, at the source", c.Op)}
	}
	e := entry{effect: effectGone, row: StepRow{Old: row.before.Cells}}
	if c.Op == change.OpUpdate {
		e.effect, e.row.Cells, e.same = effectPatch, row.after.Cells, unknown(row.after)
	}
	s := r.last(segmentOnes, row.of, at)
	s.entries = append(s.entries, e)
	return nil
}

// unknown returns which columns of a row keep what they have; nil if all are known. Those that the source computes don't count.
func unknown(t *change.Tuple) []bool {
	var out []bool
	for i := range t.Of.Columns {
		if t.Known(i) || t.Of.Columns[i].Generated {
			continue
		}
		if out == nil {
			out = make([]bool, len(t.Of.Columns))
		}
		out[i] = true
	}
	return out
}

// sameKey reports whether two rows have the same key.
func sameKey(a, b *change.Tuple) bool {
	for i := range b.Of.Columns {
		if b.Of.Columns[i].Key > 0 && (i >= len(a.Cells) || !bytes.Equal(a.Cells[i], b.Cells[i])) {
			return false
		}
	}
	return true
}

// sameRelation reports whether two relations say the same.
func sameRelation(a, b *change.Relation) bool {
	if a == b {
		return true
	}
	return a != nil && b != nil && a.Schema == b.Schema && a.Name == b.Name && slices.Equal(a.Columns, b.Columns)
}
