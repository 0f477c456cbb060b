package serial

import (
	"encoding/binary"
	"fmt"
	"time"

	"fencerow/change"
	"fencerow/source"
)

// decoder reads records. What it returns shares memory with the record, which is not to be used again.
type decoder struct {
	relations []*change.Relation
	names     []string
}

// record reads one record; ok is false where it only brought something to remember.
func (d *decoder) record(record []byte) (m Message, ok bool, err error) {
	r := &cursor{left: record}
	switch kind := r.byte(); kind {
	case recordRelation:
		d.relation(r)
	case recordMessage:
		m = d.message(r)
		ok = true
	default:
		r.fail("a record of kind %q", kind)
	}
	if r.err == nil && len(r.left) > 0 {
		r.fail("%d bytes after the end", len(r.left))
	}
	return m, ok && r.err == nil, r.err
}

func (d *decoder) relation(r *cursor) {
	if len(d.relations) == relationsMax {
		r.fail("more than %d relations", relationsMax)
		return
	}
	relation := &change.Relation{Schema: r.text(), Name: r.text()}
	n := r.count(columnsMax, 6) //nolint:mnd // a column takes six bytes at least
	relation.Columns = make([]change.Column, n)
	for i := range relation.Columns {
		column := &relation.Columns[i]
		column.Name, column.Type = r.text(), r.text()
		column.Number, column.Key = int(r.varint()), int(r.varint())
		column.Kind = change.Kind(r.byte())
		flags := r.byte()
		column.Null, column.Generated, column.Added.Known = flags&1 != 0, flags&2 != 0, flags&4 != 0
		if column.Added.Known {
			column.Added.Text = r.text()
		}
	}
	if r.err == nil {
		d.relations, d.names = append(d.relations, relation), append(d.names, relation.String())
	}
}

func (d *decoder) message(r *cursor) Message {
	m := Message{Number: r.uvarint(), Follows: r.mark()}
	m.Event = source.Event{To: r.mark(), Resolved: change.Position(r.uvarint())}
	m.Cost = int(r.uvarint() & recordBytesMaxMask) //nolint:gosec // bounded by the mask
	n := r.count(recordBytesMax, 7)                //nolint:mnd // a change takes seven bytes at least
	if n == 0 {
		return m
	}
	m.Event.Changes = make([]change.Change, n)
	var last change.Change
	for i := range m.Event.Changes {
		d.change(r, &m.Event.Changes[i], &last)
		if r.err != nil {
			return Message{}
		}
	}
	return m
}

// recordBytesMaxMask keeps a cost from a broken peer within what can be added up.
const recordBytesMaxMask = 1<<40 - 1

func (d *decoder) change(r *cursor, c, last *change.Change) {
	c.Op = change.Op(r.byte())
	flags := r.byte()
	c.Position = last.Position + change.Position(r.uvarint())
	c.Index = r.index()
	if flags&changeTimed != 0 {
		c.CommitTime = time.Unix(0, nanos(last.CommitTime)+r.varint()).UTC()
		last.CommitTime = c.CommitTime
	}
	if flags&changeTabled != 0 {
		c.Table = r.text()
	}
	c.Key = r.bytes()
	last.Position = c.Position
	before, of := d.row(r)
	after, to := d.row(r)
	if before != nil {
		c.Before = before
	}
	if after != nil {
		c.After, of = after, to
	}
	if flags&changeOfRow != 0 && r.err == nil {
		if before == nil && after == nil {
			r.fail("a table of no row")
			return
		}
		c.Table = d.names[of]
	}
}

// row returns a row and the number of its relation; nil if there is none.
func (d *decoder) row(r *cursor) (*change.Tuple, int) {
	flags := r.byte()
	if r.err != nil || flags == 0 {
		return nil, 0
	}
	number := r.uvarint()
	if number >= uint64(len(d.relations)) {
		r.fail("relation %d, which was not told", number)
		return nil, 0
	}
	tuple := &change.Tuple{Of: d.relations[number], KeyOnly: flags&rowKeyOnly != 0}
	n := r.count(columnsMax, 1)
	if r.err == nil && n != len(tuple.Of.Columns) {
		r.fail("a row of %d cells in a relation of %d columns", n, len(tuple.Of.Columns))
	}
	if r.err != nil {
		return nil, 0
	}
	tuple.Cells = make([][]byte, n)
	for i := range tuple.Cells {
		if size := r.uvarint(); size > 0 {
			tuple.Cells[i] = r.take(size - 1)
		}
	}
	if flags&rowUnchanged != 0 {
		tuple.Unchanged = make([]bool, n)
		for i := range tuple.Unchanged {
			tuple.Unchanged[i] = r.byte() != 0
		}
	}
	return tuple, int(number) //nolint:gosec // below the number of relations
}

// cursor reads a record from the front. After the first fault everything reads as zero.
type cursor struct {
	left []byte
	err  error
}

func (r *cursor) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errWire, fmt.Sprintf(format, args...))
	}
	r.left = nil
}

func (r *cursor) byte() byte {
	if len(r.left) == 0 {
		r.fail("it ends too early")
		return 0
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b
}

func (r *cursor) uvarint() uint64 { return number(r, binary.Uvarint) }
func (r *cursor) varint() int64   { return number(r, binary.Varint) }

// number takes a number that is written in as many bytes as it needs.
func number[N int64 | uint64](r *cursor, decode func([]byte) (N, int)) N {
	n, size := decode(r.left)
	if size <= 0 {
		r.fail("a number is cut")
		return 0
	}
	r.left = r.left[size:]
	return n
}

// count reads how many of something follow, each of which takes at least so many bytes.
func (r *cursor) count(most, each int) int {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.left)/each) { //nolint:gosec // both positive
		r.fail("a count of %d", n)
		return 0
	}
	return int(n) //nolint:gosec // bounded above
}

func (r *cursor) index() uint32 {
	n := r.uvarint()
	if n > uint64(^uint32(0)) {
		r.fail("an index of %d", n)
		return 0
	}
	return uint32(n)
}

func (r *cursor) mark() change.Mark {
	return change.Mark{Position: change.Position(r.uvarint()), Index: r.index()}
}

// take returns the next bytes; never nil.
func (r *cursor) take(size uint64) []byte {
	if size > uint64(len(r.left)) {
		r.fail("%d bytes where %d are left", size, len(r.left))
		return []byte{}
	}
	out := r.left[:size:size]
	r.left = r.left[size:]
	return out
}

func (r *cursor) bytes() []byte { return r.take(r.uvarint()) }
func (r *cursor) text() string  { return string(r.bytes()) }
