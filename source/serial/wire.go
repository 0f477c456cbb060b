package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"fencerow/change"
	"fencerow/source"
)

// A subscription of another node travels as a stream of records, each after its length as a varint: relations, once each
// and numbered in their order, and messages, whose rows name them by number. Integers are varints, text and bytes have
// their length before them. The stream is cut into frames wherever that suits, see remote.go.

const (
	recordRelation = 'R'
	recordMessage  = 'M'

	// recordBytesMax bounds one record: the largest row of a database may have a gigabyte.
	recordBytesMax = 1 << 30
	// columnsMax and relationsMax bound what one end remembers of the other's tables.
	columnsMax   = 1 << 16
	relationsMax = 1 << 17
)

var (
	errWire = errors.New("serial: a record does not parse")
	errRow  = errors.New("serial: a row of this kind does not travel")
)

// What a row or a change says of itself, in bits.
const (
	rowPresent   = 1 << iota
	rowKeyOnly   // rows
	rowUnchanged // rows: the columns follow, one byte each
)

const (
	changeTimed  = 1 << iota // has a commit time
	changeTabled             // has a table that is not its row's relation
	changeOfRow              // has the table of its row's relation
)

// encoder makes records.
type encoder struct {
	out       []byte
	scratch   []byte
	relations map[*change.Relation]int
	order     []*change.Relation
	names     []string // of the relations
	silent    bool     // the other end is this process: it is told no relations
}

func newEncoder() *encoder { return &encoder{relations: make(map[*change.Relation]int)} }

// message appends the records of a message to out.
func (e *encoder) message(m *Message) error {
	event := &m.Event
	for i := range event.Changes {
		for _, row := range [2]change.Row{event.Changes[i].Before, event.Changes[i].After} {
			if err := e.introduce(row); err != nil {
				return err
			}
		}
	}
	b := append(e.scratch[:0], recordMessage)
	b = binary.AppendUvarint(b, m.Number)
	b = appendMark(b, m.Follows)
	b = appendMark(b, event.To)
	b = binary.AppendUvarint(b, uint64(event.Resolved))
	b = binary.AppendUvarint(b, uint64(m.Cost)) //nolint:gosec // never negative
	b = binary.AppendUvarint(b, uint64(len(event.Changes)))
	var last change.Change
	for i := range event.Changes {
		b = e.change(b, &event.Changes[i], &last)
	}
	e.record(b)
	return nil
}

// record appends one record, and keeps its memory for the next.
func (e *encoder) record(b []byte) {
	e.out = binary.AppendUvarint(e.out, uint64(len(b)))
	e.out = append(e.out, b...)
	e.scratch = b
}

// introduce has the row's relation known at the other end.
func (e *encoder) introduce(row change.Row) error {
	if row == nil {
		return nil
	}
	tuple, ok := row.(*change.Tuple)
	if !ok {
		return fmt.Errorf("%w: %T", errRow, row)
	}
	if _, found := e.relations[tuple.Of]; found {
		return nil
	}
	if len(e.names) == relationsMax {
		return fmt.Errorf("%w: more than %d relations", errRow, relationsMax)
	}
	e.relations[tuple.Of] = len(e.names)
	e.order, e.names = append(e.order, tuple.Of), append(e.names, tuple.Of.String())
	if e.silent {
		return nil
	}
	b := append(e.scratch[:0], recordRelation)
	b = appendText(b, tuple.Of.Schema)
	b = appendText(b, tuple.Of.Name)
	b = binary.AppendUvarint(b, uint64(len(tuple.Of.Columns)))
	for i := range tuple.Of.Columns {
		column := &tuple.Of.Columns[i]
		b = appendText(b, column.Name)
		b = appendText(b, column.Type)
		b = binary.AppendVarint(b, int64(column.Number))
		b = binary.AppendVarint(b, int64(column.Key))
		b = append(b, byte(column.Kind), bits(column.Null, column.Generated))
	}
	e.record(b)
	return nil
}

// decoder returns what reads the records of a silent encoder.
func (e *encoder) decoder() *decoder { return &decoder{relations: e.order, names: e.names} }

// bits packs what is true or not into a byte, from the lowest bit on.
func bits(set ...bool) byte {
	packed := byte(0)
	for i, one := range set {
		if one {
			packed |= 1 << i
		}
	}
	return packed
}

// change appends a change, whose place and time are told by how they differ from the one before.
func (e *encoder) change(b []byte, c, last *change.Change) []byte {
	table, found := e.tableOf(c)
	flags := byte(0)
	if !c.CommitTime.IsZero() {
		flags |= changeTimed
	}
	switch {
	case found && table == c.Table:
		flags |= changeOfRow
	case c.Table != "":
		flags |= changeTabled
	}
	b = append(b, byte(c.Op), flags)
	b = binary.AppendUvarint(b, uint64(c.Position-last.Position))
	b = binary.AppendUvarint(b, uint64(c.Index))
	if flags&changeTimed != 0 {
		b = binary.AppendVarint(b, c.CommitTime.UnixNano()-nanos(last.CommitTime))
		last.CommitTime = c.CommitTime
	}
	if flags&changeTabled != 0 {
		b = appendText(b, c.Table)
	}
	b = appendBytes(b, c.Key)
	last.Position = c.Position
	return e.row(e.row(b, c.Before), c.After)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// tableOf returns the name of the table that the change's row is of.
func (e *encoder) tableOf(c *change.Change) (string, bool) {
	for _, row := range [2]change.Row{c.After, c.Before} {
		if tuple, ok := row.(*change.Tuple); ok {
			return e.names[e.relations[tuple.Of]], true
		}
	}
	return "", false
}

func (e *encoder) row(b []byte, row change.Row) []byte {
	tuple, ok := row.(*change.Tuple)
	if !ok {
		return append(b, 0)
	}
	flags := byte(rowPresent)
	if tuple.KeyOnly {
		flags |= rowKeyOnly
	}
	if tuple.Unchanged != nil {
		flags |= rowUnchanged
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(e.relations[tuple.Of])) //nolint:gosec // a count
	b = binary.AppendUvarint(b, uint64(len(tuple.Cells)))
	for _, cell := range tuple.Cells {
		if cell == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(cell))+1)
		b = append(b, cell...)
	}
	for _, unchanged := range tuple.Unchanged {
		b = append(b, bits(unchanged))
	}
	return b
}

func appendMark(b []byte, m change.Mark) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(m.Position)), uint64(m.Index))
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendBytes(b, bytes []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(bytes))), bytes...)
}

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
		column.Null, column.Generated = flags&1 != 0, flags&2 != 0
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

func (r *cursor) uvarint() uint64 {
	n, size := binary.Uvarint(r.left)
	if size <= 0 {
		r.fail("a number is cut")
		return 0
	}
	r.left = r.left[size:]
	return n
}

func (r *cursor) varint() int64 {
	n, size := binary.Varint(r.left)
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
