package codec

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// LineBytesMax bounds a line that is decoded: base64 of the largest row that a source may hand over, twice, and room.
const LineBytesMax = 64 << 20

// Record is what a line says: a change, or, when IsResolved, that everything of Span at or below Position was seen.
type Record struct {
	Changefeed changefeed.ID
	UID        changefeed.UID
	Token      fence.Token
	Position   change.Position
	IsResolved bool
	Span       changefeed.Span // of a resolved line

	Index      uint32
	Op         change.Op
	CommitTime time.Time
	Table      string
	Key        Row    // the columns of the key; of a table without one, and of a truncate, none
	Place      []byte // where a table's change is in the key space, where Key does not say so
	Before     Row    // nil where the line has none
	After      Row    // nil where the line has none
}

// Column is one value of a row: string, []byte (where it was base64), int64, uint64, float64, bool or nil.
type Column struct {
	Name  string
	Value any
}

// Bytes returns the value as the bytes that were encoded, and whether it is text or bytes.
func (c Column) Bytes() ([]byte, bool) {
	switch v := c.Value.(type) {
	case string:
		return []byte(v), true
	case []byte:
		return v, true
	default:
		return nil, false
	}
}

// Row is a decoded row, in the line's order of columns. It is a [change.Row].
type Row []Column

// Columns yields the columns.
func (r Row) Columns(yield func(name string, value any) bool) {
	for _, column := range r {
		if !yield(column.Name, column.Value) {
			return
		}
	}
}

// Size returns about how many bytes the row holds.
func (r Row) Size() int {
	const columnOverheadBytes = 48
	size := 0
	for _, column := range r {
		raw, _ := column.Bytes()
		size += len(column.Name) + len(raw) + columnOverheadBytes
	}
	return size
}

// Column returns the column of that name.
func (r Row) Column(name string) (Column, bool) {
	for _, column := range r {
		if column.Name == name {
			return column, true
		}
	}
	return Column{}, false
}

// KeyBytes returns the change's key in the key space of its changefeed; false: the record does not say.
func (r *Record) KeyBytes() ([]byte, bool) {
	switch {
	case r.Place != nil:
		return r.Place, true
	case r.Table != "":
		return change.AppendKeyOf(nil, r.Table, r.Key.Columns)
	case len(r.Key) != 1 || r.Key[0].Name != "key":
		return nil, false
	default:
		return r.Key[0].Bytes()
	}
}

// Decode reads one line. It refuses what is not JSON, what lacks a field that every line has or has it twice, and
// values out of range; it ignores fields that it does not know.
func Decode(line []byte) (Record, error) {
	if len(line) > LineBytesMax {
		return Record{}, fmt.Errorf("codec: the line has %d bytes, more than %d", len(line), LineBytesMax)
	}
	p := parser{in: line}
	d := decoder{seen: make(map[string]bool, fieldsUsual)}
	err := p.object(func(name string) error { return d.field(&p, name) })
	if err == nil {
		p.space()
		if p.at < len(p.in) {
			err = p.fault("something follows the object")
		}
	}
	if err == nil {
		err = d.complete()
	}
	if err != nil {
		return Record{}, fmt.Errorf("codec: %w", err)
	}
	return d.record, nil
}

const fieldsUsual = 12

// decoder collects the fields of one line.
type decoder struct {
	record Record
	epoch  uint64
	seq    uint64
	seen   map[string]bool
}

func (d *decoder) field(p *parser, name string) error {
	if d.seen[name] {
		return p.fault("field " + strconv.Quote(name) + " is there twice")
	}
	d.seen[name] = true
	var err error
	switch r := &d.record; name {
	case "changefeed":
		r.Changefeed, err = parsed(p, func(text string) (changefeed.ID, error) { return changefeed.ParseID(text, "") })
	case "uid":
		r.UID, err = parsed(p, func(text string) (changefeed.UID, error) { return changefeed.UID(text), nil })
	case "epoch":
		d.epoch, err = p.unsigned(64)
	case "seq":
		d.seq, err = p.unsigned(64)
	case "position":
		r.Position, err = parsed(p, change.ParsePosition)
	case "resolved":
		r.IsResolved = true
		r.Position, err = parsed(p, change.ParsePosition)
	case "index":
		var index uint64
		index, err = p.unsigned(32)
		r.Index = uint32(index)
	case "op":
		r.Op, err = parsed(p, parseOp)
	case "commit_time":
		r.CommitTime, err = parsed(p, func(text string) (time.Time, error) { return time.Parse(time.RFC3339Nano, text) })
	case "table":
		r.Table, err = p.text()
	case "key":
		r.Key, err = p.row()
	case "place":
		r.Place, err = p.keyBytes()
	case "before":
		r.Before, err = p.row()
	case "after":
		r.After, err = p.row()
	case "span":
		r.Span, err = p.span()
	default:
		err = p.skip(0)
	}
	return err
}

// complete checks what only the whole line can tell.
func (d *decoder) complete() error {
	need := []string{"changefeed", "uid", "epoch", "seq"}
	if d.record.IsResolved {
		need = append(need, "span")
		if d.seen["position"] || d.seen["op"] {
			return fmt.Errorf("the line is a change and a resolved mark at once")
		}
	} else {
		need = append(need, "position", "index", "op", "key")
	}
	for _, name := range need {
		if !d.seen[name] {
			return fmt.Errorf("field %q is missing", name)
		}
	}
	d.record.Token = fence.Mint(fence.Epoch(d.epoch), fence.Seq(d.seq))
	switch r := &d.record; {
	case (r.Op == change.OpDelete || r.Op == change.OpTruncate) && r.After != nil:
		return fmt.Errorf("a %v has an after", r.Op)
	case r.Op == change.OpTruncate && (r.Before != nil || r.Table == "" || len(r.Key) > 0):
		return fmt.Errorf("a truncate has a table, and no rows")
	default:
		return nil
	}
}

func parseOp(text string) (change.Op, error) {
	for _, op := range []change.Op{change.OpRead, change.OpCreate, change.OpUpdate, change.OpDelete, change.OpTruncate} {
		if op.String() == text {
			return op, nil
		}
	}
	return 0, fmt.Errorf("op %.20q is unknown", text)
}

// parsed reads a string and what it stands for.
func parsed[T any](p *parser, parse func(string) (T, error)) (T, error) {
	text, err := p.text()
	if err != nil {
		var zero T
		return zero, err
	}
	return parse(text)
}

func (p *parser) row() (Row, error) {
	row := Row{}
	err := p.object(func(name string) error {
		value, err := p.value()
		row = append(row, Column{Name: name, Value: value})
		return err
	})
	return row, err
}

func (p *parser) span() (changefeed.Span, error) {
	var span changefeed.Span
	err := p.object(func(name string) error {
		key, err := p.keyBytes()
		switch {
		case err != nil:
			return err
		case name == "start":
			span.Start = key
		case name == "end":
			span.End = key
		}
		return nil
	})
	if err == nil && !span.Valid() {
		err = p.fault("the span is empty")
	}
	return span, err
}

// keyBytes reads a key: text, or bytes.
func (p *parser) keyBytes() ([]byte, error) {
	value, err := p.value()
	if err != nil {
		return nil, err
	}
	raw, ok := Column{Value: value}.Bytes()
	if !ok {
		return nil, p.fault("a key is text or bytes")
	}
	return raw, nil
}

// value reads a value of a row.
func (p *parser) value() (any, error) {
	p.space()
	switch p.peek() {
	case '"':
		return p.text()
	case '{':
		return p.bytes()
	case 't':
		return true, p.word("true")
	case 'f':
		return false, p.word("false")
	case 'n':
		return nil, p.word("null")
	default:
		return p.number()
	}
}

func (p *parser) bytes() ([]byte, error) {
	raw, fields := []byte(nil), 0
	err := p.object(func(name string) error {
		fields++
		if name != "base64" || fields > 1 {
			return p.fault(`only {"base64": …} may stand here`)
		}
		text, err := p.text()
		if err != nil {
			return err
		}
		raw, err = base64.StdEncoding.DecodeString(text)
		return err
	})
	if err == nil && fields == 0 {
		err = p.fault(`only {"base64": …} may stand here`)
	}
	return raw, err
}

func (p *parser) number() (any, error) {
	text, err := p.numeral()
	if err != nil {
		return nil, err
	}
	if !strings.ContainsAny(text, ".eE") {
		if signed, err := strconv.ParseInt(text, 10, 64); err == nil {
			return signed, nil
		}
		if unsigned, err := strconv.ParseUint(text, 10, 64); err == nil {
			return unsigned, nil
		}
	}
	return strconv.ParseFloat(text, 64)
}
