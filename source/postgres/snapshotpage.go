package postgres

import (
	"fmt"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// pageBytesMax is what a page is meant to hold, and no more than a part of the reader's buffer.
	pageBytesMax = 4 << 20
	// keylessBytesMax bounds the one page that all rows of a table without identity must be in.
	keylessBytesMax = 256 << 20
)

// pages makes pages of the rows of a part. It is used by one goroutine.
type pages struct {
	part    *part
	at      change.Position
	index   uint32 // of the next row
	rowsMax int
	bytes   int // a page is meant to hold so many
	most    int // bytes of a page that can't be ended
	give    func(source.Event) error

	name    string
	start   []byte // of the part of it that was not given on yet
	prefix  []byte // what all keys begin with
	keyMax  int    // columns of the key, for its length
	changes []change.Change
	size    int
	arena   arena
}

func newPages(of *part, at change.Position, settings *snapshots, bytes int, give func(source.Event) error) *pages {
	p := &pages{part: of, at: at, rowsMax: settings.SnapshotChunk, bytes: bytes, most: settings.keylessMax, give: give, start: of.span.Start}
	p.name, p.prefix = of.table.relation.String(), of.table.span().Start
	p.keyMax = len(keyColumns(of.table.relation))
	return p
}

// add copies a row. A page that is full is given on before it, since only then its end is known.
func (p *pages) add(values [][]byte) error {
	if err := p.makeRoom(); err != nil {
		return err
	}
	cells := p.arena.values(values)
	one := change.Change{
		Position: p.at, Index: p.index, Op: change.OpRead, Table: p.name, Key: p.key(cells),
		After: p.arena.tuple(change.Tuple{Of: p.part.table.relation, Cells: cells}),
	}
	p.index++
	p.size += one.Size()
	p.changes = append(p.changes, one)
	return nil
}

// makeRoom ends a page that is full.
func (p *pages) makeRoom() error {
	if p.keyMax == 0 {
		if p.size > p.most {
			return p.tooLarge()
		}
		return nil
	}
	if len(p.changes) == 0 || len(p.changes) < p.rowsMax && p.size < p.bytes {
		return nil
	}
	last := p.changes[len(p.changes)-1].Key
	return p.end(append(slices.Clip(last), 0))
}

func (p *pages) tooLarge() error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "table", Value: p.name, Permanent: true,
		Detail: fmt.Sprintf("has no key and more rows than a snapshot takes of such a table, which is %d MiB", p.most>>20),
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
	key := change.AppendKey(append(p.arena.room(size), p.prefix...), of, cells)
	p.arena.keep(key)
	return key
}
