package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// Bounds of one event. A transaction that is larger comes in several.
const (
	eventChangesMax = 4096
	eventBytesMax   = 1 << 20
)

// messagePrefix marks the messages in the log that are ours.
const messagePrefix = "fencerow"

// assembler makes events of the messages of one connection. It does no I/O: what it needs from the catalog it asks for. It is
// used by one goroutine.
type assembler struct {
	arena  arena
	tables map[uint32]*followed
	types  map[uint32]string

	done change.Mark // everything at or below it was given out

	open     bool // between Begin and Commit
	position change.Position
	at       time.Time
	xid      uint32
	index    uint32

	changes []change.Change // not given out yet
	bytes   int
	to      change.Mark // up to where everything is among them or was given out
}

// followed is a table of which the log told.
type followed struct {
	oid      uint32
	relation *change.Relation
	name     string // schema.table
	start    []byte // of its keys
	keyed    bool
}

func newAssembler(done change.Mark) *assembler {
	return &assembler{tables: make(map[uint32]*followed), types: make(map[uint32]string), done: done, to: done}
}

var (
	errNoTransaction = fmt.Errorf("%w: a change outside a transaction", errMalformed)
	errNoRelation    = fmt.Errorf("%w: a row of a table that was not described", errMalformed)
	errTooMany       = errors.New("postgres: a transaction has more changes than can be counted")
)

// take takes the next message in. Of a table that is described it returns the description: it is to be learnt before the
// next message is taken.
func (a *assembler) take(message []byte) (*relationMessage, error) {
	if len(message) == 0 {
		return nil, errMalformed
	}
	kind, body := message[0], message[1:]
	switch kind {
	case kindInsert, kindUpdate, kindDelete, kindTruncate:
		if !a.open {
			return nil, errNoTransaction
		}
		return nil, a.row(kind, body)
	case kindBegin:
		return nil, a.begin(body)
	case kindCommit:
		return nil, a.commit(body)
	case kindRelation:
		m, err := parseRelation(body)
		return &m, err
	case kindType:
		oid, name, err := parseType(body)
		a.types[oid] = name
		return nil, err
	case kindMessage, kindOrigin:
		return nil, nil // see joining; where somebody else's transaction came from first
	default:
		return nil, fmt.Errorf("%w of kind %q", errMalformed, kind)
	}
}

// learn takes in what a table looks like from here on, as [relationOf] says.
func (a *assembler) learn(oid uint32, relation *change.Relation) {
	if before := a.tables[oid]; before != nil && equalRelations(before.relation, relation) {
		return // rows of one shape share one relation
	}
	start, _ := change.TableSpan(relation.Schema, relation.Name)
	a.tables[oid] = &followed{oid: oid, relation: relation, name: relation.String(), start: start, keyed: relation.Keyed()}
}

func (a *assembler) begin(body []byte) error {
	c := cursor{data: body}
	position, at := change.Position(c.uint64()), c.time()
	xid := c.uint32()
	if err := c.end(kindBegin); err != nil {
		return err
	}
	if a.open || position == 0 {
		return fmt.Errorf("%w: a transaction in another", errMalformed)
	}
	a.open, a.position, a.at, a.xid, a.index = true, position, at, xid, 0
	return nil
}

func (a *assembler) commit(body []byte) error {
	c := cursor{data: body}
	c.byte() // flags, none of which there are
	position := change.Position(c.uint64())
	c.uint64() // where the record ends
	c.uint64() // the time, which Begin had
	if err := c.end(kindCommit); err != nil {
		return err
	}
	if !a.open || position != a.position {
		return fmt.Errorf("%w: the end of another transaction", errMalformed)
	}
	a.open = false
	a.reached(change.At(position))
	return nil
}

// reached notes that everything up to a mark is among the changes or was given out.
func (a *assembler) reached(mark change.Mark) { a.to = change.Later(a.to, mark) }

// progress notes how far the server has sent everything. Between the messages of a transaction it says nothing: that one
// is not sent yet.
func (a *assembler) progress(upTo change.Position) {
	if !a.open {
		a.reached(change.At(upTo))
	}
}

// full reports that the changes fill an event.
func (a *assembler) full() bool { return len(a.changes) >= eventChangesMax || a.bytes >= eventBytesMax }

// event returns what was not given out yet; false if that is nothing.
func (a *assembler) event() (source.Event, bool) {
	if a.open && a.index > 0 {
		a.reached(change.Mark{Position: a.position, Index: a.index})
	}
	if !a.done.Before(a.to) {
		return source.Event{}, false
	}
	out := source.Event{Changes: a.changes, Span: changefeed.Whole(), To: a.to}
	a.done = a.to
	a.changes, a.bytes = make([]change.Change, 0, min(len(out.Changes), eventChangesMax)), 0
	return out, true
}

// add adds a change of the open transaction, unless it was given out before.
func (a *assembler) add(one change.Change) error {
	if a.index == math.MaxUint32 {
		return errTooMany
	}
	one.Position, one.Index, one.CommitTime = a.position, a.index, a.at
	a.index++
	if a.done.Done(one.Position, one.Index) {
		return nil
	}
	a.changes = append(a.changes, one)
	a.bytes += one.Size()
	return nil
}

// row takes in what a message says of rows.
func (a *assembler) row(kind byte, body []byte) error {
	if kind == kindTruncate {
		return a.truncate(body)
	}
	c := cursor{data: body}
	table := a.tables[c.uint32()]
	if c.bad {
		return c.end(kind)
	}
	if table == nil {
		return errNoRelation
	}
	if a.done.Done(a.position, math.MaxUint32) {
		return nil // the whole transaction was given out before
	}
	c.data = a.arena.copy(c.data)
	var before, after *change.Tuple
	for len(c.data) > 0 && !c.bad {
		switch what := c.byte(); {
		case what == tupleNew && after == nil && kind != kindDelete:
			after = a.tuple(&c, table)
		case (what == tupleOld || what == tupleKey) && before == nil && after == nil && kind != kindInsert:
			before = a.tuple(&c, table)
			before.KeyOnly = what == tupleKey
		default:
			c.bad = true
		}
	}
	if err := c.end(kind); err != nil {
		return err
	}
	if (after == nil) != (kind == kindDelete) || before == nil && kind == kindDelete {
		return fmt.Errorf("%w of kind %q: rows are missing", errMalformed, kind)
	}
	return a.rows(kind, table, before, after)
}

func (a *assembler) tuple(c *cursor, table *followed) *change.Tuple {
	cells := a.arena.row(len(table.relation.Columns))
	unchanged := c.cells(cells, func() []bool { return make([]bool, len(cells)) })
	return a.arena.tuple(change.Tuple{Of: table.relation, Cells: cells, Unchanged: unchanged})
}

// rows makes the changes of one message.
func (a *assembler) rows(kind byte, table *followed, before, after *change.Tuple) error {
	if before != nil && after != nil {
		fill(after, before)
	}
	var oldKey, newKey []byte
	var err error
	if before != nil {
		if oldKey, err = a.key(table, before); err != nil {
			return err
		}
	}
	if after != nil {
		if newKey, err = a.key(table, after); err != nil {
			return err
		}
	}
	switch kind {
	case kindInsert:
		return a.add(change.Change{Op: change.OpCreate, Table: table.name, Key: newKey, After: after})
	case kindDelete:
		return a.add(change.Change{Op: change.OpDelete, Table: table.name, Key: oldKey, Before: before})
	}
	update := change.Change{Op: change.OpUpdate, Table: table.name, Key: newKey, After: after}
	switch {
	case before == nil:
		return a.add(update)
	case bytes.Equal(oldKey, newKey):
		if !before.KeyOnly { // else it tells nothing that is not in the row itself
			update.Before = before
		}
		return a.add(update)
	case after.Unchanged != nil:
		// The row moves to another key with values that only the target knows. See change.Change.Moved.
		update.Before = before
		return a.add(update)
	}
	return errors.Join(
		a.add(change.Change{Op: change.OpDelete, Table: table.name, Key: oldKey, Before: before}),
		a.add(change.Change{Op: change.OpCreate, Table: table.name, Key: newKey, After: after}),
	)
}

// fill takes what a change left alone from the row before, as far as that is known.
func fill(after, before *change.Tuple) {
	if after.Unchanged == nil {
		return
	}
	for i, unknown := range after.Unchanged {
		if unknown && before.Known(i) {
			after.Cells[i], after.Unchanged[i] = before.Cells[i], false
		}
	}
	if !slices.Contains(after.Unchanged, true) {
		after.Unchanged = nil
	}
}

// key returns the key of a row in the key space.
func (a *assembler) key(table *followed, row *change.Tuple) ([]byte, error) {
	if !table.keyed {
		return table.start, nil
	}
	size := len(table.start)
	for i := range row.Cells {
		if table.relation.Columns[i].Key == 0 {
			continue
		}
		if row.Cells[i] == nil {
			return nil, fmt.Errorf("%w: a row of %s without the value of %q, which is part of its key", errMalformed, table.name, table.relation.Columns[i].Name)
		}
		size += max(len(row.Cells[i]), keyNumberBytes) + 1
	}
	key := change.AppendKey(append(a.arena.room(size), table.start...), table.relation, row.Cells)
	a.arena.keep(key)
	return slices.Clip(key), nil
}

// keyNumberBytes is the most that a number takes in a key.
const keyNumberBytes = 20

func (a *assembler) truncate(body []byte) error {
	c := cursor{data: body}
	n := c.uint32()
	c.byte() // whether other tables or sequences are emptied too; of tables the log tells
	var tables []*followed
	for range n {
		if c.bad {
			break
		}
		table := a.tables[c.uint32()]
		if table == nil && !c.bad {
			return errNoRelation
		}
		tables = append(tables, table)
	}
	if err := c.end(kindTruncate); err != nil {
		return err
	}
	for _, table := range tables {
		if err := a.add(change.Change{Op: change.OpTruncate, Table: table.name, Key: table.start}); err != nil {
			return err
		}
	}
	return nil
}
