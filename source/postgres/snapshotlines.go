package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// lines makes pages of the rows of a part as COPY sends them, one a message, for a sink that takes them so: nothing is made of a row
// but what tells where a page ends. It is used by one goroutine.
type lines struct {
	part    *part
	at      change.Position
	rowsMax int
	bytes   int // a page is meant to hold so many
	give    func(source.Event) error

	start  []byte // of the part of it that was not given on yet
	prefix []byte // what all keys begin with
	form   change.LinesForm
	begun  bool // what comes before the rows has come
	page   *change.Lines
	last   int    // where the last line begins
	first  uint32 // index of the next page's first row
}

func newLines(of *part, at change.Position, settings *snapshots, size int, give func(source.Event) error) *lines {
	l := &lines{part: of, at: at, rowsMax: settings.SnapshotChunk, bytes: size, give: give, start: of.span.Start}
	l.prefix = of.table.span().Start
	if change.BinaryRows(of.table.relation) {
		l.form = change.LinesBinary
	}
	l.begin(0)
	return l
}

// begin begins a page, with room for as much as the one before it had.
func (l *lines) begin(room int) {
	l.page, l.last = &change.Lines{Of: l.part.table.relation, Form: l.form, First: l.first, Text: make([]byte, 0, room+room/linesSpare)}, 0
}

// linesSpare is what part of a page's size the next one may be larger without growing.
const linesSpare = 16

// Write implements io.Writer for a line, which is copied. A page that is full is given on before it, since only then its end is known.
func (l *lines) Write(message []byte) (int, error) {
	line := message
	if l.form == change.LinesBinary {
		var err error
		if line, err = l.bare(message); err != nil || len(line) == 0 {
			return len(message), err
		}
	}
	if l.page.Count > 0 && (l.page.Count >= l.rowsMax || len(l.page.Text) >= l.bytes) {
		border, err := l.border()
		if err == nil {
			err = l.end(border)
		}
		if err != nil {
			return 0, err
		}
	}
	l.last = len(l.page.Text)
	l.page.Text = append(l.page.Text, line...)
	l.page.Count++
	return len(message), nil
}

// bare returns what a message has of a row in binary form, without what comes before the first and after the last.
func (l *lines) bare(message []byte) ([]byte, error) {
	if !l.begun {
		row, headed := bytes.CutPrefix(message, []byte(change.BinaryHead))
		if !headed {
			return nil, errHead
		}
		l.begun, message = true, row
	}
	if bytes.Equal(message, binaryEnd) {
		return nil, nil
	}
	return message, nil
}

// formSQL is what a statement of COPY says of the form.
func (l *lines) formSQL() string {
	if l.form == change.LinesBinary {
		return " (FORMAT binary)"
	}
	return ""
}

var errHead = errors.New("postgres: COPY in binary form begins with something unknown")

// binaryEnd is the count of columns that says that no row follows.
var binaryEnd = []byte{0xff, 0xff} //nolint:gochecknoglobals // read only

// border is right behind the key of the last line.
func (l *lines) border() ([]byte, error) {
	cells, _, err := l.page.Row(l.page.Text[l.last:])
	if err != nil {
		return nil, err
	}
	return append(change.AppendKey(slices.Clip(l.prefix), l.page.Of, cells), 0), nil
}

// finish gives on what is left: at least one page, so that the whole part is covered.
func (l *lines) finish() error { return l.end(l.part.span.End) }

func (l *lines) end(at []byte) error {
	page := source.Event{Span: changefeed.Span{Start: l.start, End: at}, To: change.At(l.at), Snapshot: true}
	if l.page.Count > 0 {
		page.Lines = l.page
	}
	l.start, l.first = at, l.first+uint32(l.page.Count) //nolint:gosec // rows of a part, as the index of each is
	l.begin(len(l.page.Text))
	return l.give(page)
}

// copy reads the rows of a part as lines.
func (r *run) copy(ctx context.Context, c *connection, of part, query string) error {
	described, err := c.conn.Prepare(ctx, "", query, nil)
	if err != nil {
		return err
	}
	if err := sameColumns(of.table, described.Fields); err != nil {
		return err
	}
	pages := newLines(&of, r.export.done, r.source, r.bytes, func(page source.Event) error { return r.give(ctx, page) })
	if _, err := c.conn.CopyTo(ctx, pages, "COPY ("+query+") TO STDOUT"+pages.formSQL()); err != nil {
		return err
	}
	return pages.finish()
}

// sameColumns makes sure that a statement's columns are those of the table's relation: the table may have been altered since.
func sameColumns(of *table, found []pgconn.FieldDescription) error {
	for i, field := range found {
		if column := &of.relation.Columns[i]; int(field.TableAttributeNumber) != column.Number {
			return fmt.Errorf("%w: column %s is another", errChanged, column.Name)
		}
	}
	return nil
}
