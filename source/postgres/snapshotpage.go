package postgres

import (
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// pageBytesMax is what a page is meant to hold, and no more than a part of the reader's buffer.
	pageBytesMax = 4 << 20
	// keylessBytesMax bounds the one page that all rows of a table without identity must be in.
	keylessBytesMax = 256 << 20
	// blockRows and blockBytes are how much memory is taken at a time: a row of its own would cost five allocations.
	blockRows  = 128
	blockBytes = 64 << 10
)

// pages makes pages of the rows of a part. It is used by one goroutine.
type pages struct {
	part    *part
	at      change.Position
	index   uint32 // of the next row
	rowsMax int
	bytes   int // a page is meant to hold so many
	give    func(source.Event) error

	name    string
	start   []byte // of the part of it that was not given on yet
	prefix  []byte // what all keys begin with
	keyMax  int    // columns of the key, for its length
	changes []change.Change
	size    int
	rows    []change.Tuple
	cells   [][]byte
	arena   []byte
}

func newPages(of *part, at change.Position, rowsMax, bytes int, give func(source.Event) error) *pages {
	p := &pages{part: of, at: at, rowsMax: rowsMax, bytes: bytes, give: give, start: of.span.Start}
	p.name, p.prefix = of.table.relation.String(), of.table.span().Start
	p.keyMax = len(keyColumns(of.table.relation))
	return p
}

// add copies a row. A page that is full is given on before it, since only then its end is known.
func (p *pages) add(values [][]byte) error {
	if err := p.makeRoom(); err != nil {
		return err
	}
	cells := p.keep(values)
	row := p.row()
	*row = change.Tuple{Of: p.part.table.relation, Cells: cells}
	one := change.Change{
		Position: p.at, Index: p.index, Op: change.OpRead, Table: p.name, Key: p.key(cells), After: row,
	}
	p.index++
	p.size += one.Size()
	p.changes = append(p.changes, one)
	return nil
}

// makeRoom ends a page that is full.
func (p *pages) makeRoom() error {
	if p.keyMax == 0 {
		if p.size > keylessBytesMax {
			return p.tooLarge()
		}
		return nil
	}
	if len(p.changes) == 0 || len(p.changes) < p.rowsMax && p.size < p.bytes {
		return nil
	}
	last := p.changes[len(p.changes)-1].Key
	return p.end(append(last[:len(last):len(last)], 0))
}

func (p *pages) tooLarge() error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "table", Value: p.name, Permanent: true,
		Detail: fmt.Sprintf("has no key and more rows than a snapshot takes of such a table, which is %d MiB", keylessBytesMax>>20),
		Cure:   "add a primary key, or REPLICA IDENTITY USING INDEX of a unique index over columns that are NOT NULL; or leave the table out",
	}
}

// finish gives on what is left: at least one page, so that the whole part is covered.
func (p *pages) finish() error { return p.end(p.part.span.End) }

func (p *pages) end(at []byte) error {
	page := source.Event{
		Span: changefeed.Span{Start: p.start, End: at}, To: change.At(p.at), Snapshot: true, Changes: p.changes,
	}
	p.start = at
	p.changes, p.size = make([]change.Change, 0, len(p.changes)), 0
	return p.give(page)
}

// keep copies the values of a row into memory that many rows share.
func (p *pages) keep(values [][]byte) [][]byte {
	if len(p.cells)+len(values) > cap(p.cells) {
		p.cells = make([][]byte, 0, max(blockRows*len(values), len(values)))
	}
	first := len(p.cells)
	size := 0
	for _, value := range values {
		size += len(value)
	}
	p.need(size)
	for _, value := range values {
		if value == nil {
			p.cells = append(p.cells, nil)
			continue
		}
		from := len(p.arena)
		p.arena = append(p.arena, value...)
		p.cells = append(p.cells, p.arena[from:len(p.arena):len(p.arena)])
	}
	return p.cells[first:len(p.cells):len(p.cells)]
}

// need makes sure that so many bytes fit behind what is in the arena. A large row has its own.
func (p *pages) need(size int) {
	if cap(p.arena)-len(p.arena) < size {
		p.arena = make([]byte, 0, max(blockBytes, size))
	}
}

func (p *pages) row() *change.Tuple {
	if len(p.rows) == cap(p.rows) {
		p.rows = make([]change.Tuple, 0, blockRows)
	}
	p.rows = append(p.rows, change.Tuple{})
	return &p.rows[len(p.rows)-1]
}

// intKeyMax is how long a number is in a key, with its sign and what stands between.
const intKeyMax = 21

func (p *pages) key(cells [][]byte) []byte {
	if p.keyMax == 0 {
		return p.prefix
	}
	size := len(p.prefix)
	of := p.part.table.relation
	for i := range of.Columns {
		if of.Columns[i].Key > 0 {
			size += len(cells[i]) + intKeyMax
		}
	}
	p.need(size)
	from := len(p.arena)
	p.arena = append(p.arena, p.prefix...)
	p.arena = change.AppendKey(p.arena, of, cells)
	return p.arena[from:len(p.arena):len(p.arena)]
}
