package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"fencerow/change"
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
		b = append(b, byte(column.Kind), bits(column.Null, column.Generated, column.Added.Known))
		if column.Added.Known {
			b = appendText(b, column.Added.Text)
		}
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
