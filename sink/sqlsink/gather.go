package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"fencerow/change"
	"fencerow/fence"
	"fencerow/sink"
)

// gathering is a transaction that is open over several pages of one table, which go into one statement of bulk. A server that is
// given one at a time begins anew with the memory that it fills.
type gathering struct {
	text  string // of the statement
	pages chan io.Reader
	end   context.CancelFunc
	done  chan struct{}
	err   error    // of the statement, when done is closed
	after sink.Map // what is held with what was gathered
}

var _ sink.Gathering = (*writer)(nil)

// errEndedEarly ends a statement of bulk whose rows are not to come any more.
var errEndedEarly = errors.New("sink sql: given up")

// Bulk is implemented by [Tables] that write the rows of a new table by statements of [Statement.Data], which may take long, and take
// [Step.Lines].
type Bulk interface{ Bulk() }

// Gathers implements [sink.Gathering].
func (w *writer) Gathers() bool {
	if w.tables == nil {
		return false
	}
	_, bulk := w.sink.config.Tables.(Bulk)
	return bulk
}

// TakesLines implements [sink.Gathering].
func (w *writer) TakesLines() bool { return w.Gathers() }

// Gather implements [sink.Gathering].
func (w *writer) Gather(ctx context.Context, page sink.Batch) (open bool, err error) {
	if w.ended != nil {
		return false, w.ended
	}
	if !w.Gathers() || !page.Snapshot {
		if page, err = page.Apart(); err != nil {
			return false, err
		}
		return false, w.Write(ctx, page)
	}
	if err := w.tables.gatherOpen(ctx, page); err != nil {
		return false, w.end(err)
	}
	return w.tables.open != nil, nil
}

// Settle implements [sink.Gathering].
//
// Crash before the commit: nothing of what was gathered happened. Crash after it, or an answer that is lost: all of it is there, with
// the marks, which the next claim reads.
func (w *writer) Settle(ctx context.Context) error {
	if w.ended != nil {
		return w.ended
	}
	if w.tables == nil {
		return nil
	}
	if err := w.tables.settle(ctx); err != nil {
		return w.end(err)
	}
	return nil
}

// gatherOpen puts a page into the open statement, or opens one. A page that goes into none is written by itself.
func (w *tableWriter) gatherOpen(ctx context.Context, page sink.Batch) error {
	if !w.takes(page.Lines) {
		var err error
		if page, err = page.Apart(); err != nil {
			return err
		}
	}
	data, after, err := w.gatherable(page)
	if err != nil {
		return err
	}
	if data != nil && w.open != nil && w.open.text == data.Text {
		w.open.after = after
		return w.feed(ctx, data.Data())
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if data == nil {
		if page, err = page.Apart(); err != nil {
			return err
		}
		return w.write(ctx, page)
	}
	move, err := w.sink.statements.move(w.head, w.n, after.Pieces(w.n))
	if err != nil {
		return err
	}
	w.begin(ctx, move, data, after)
	return nil
}

// takes reports whether lines can go to the table as they are: it has all of their columns, and computes none of them. In binary form
// they are of the very same types.
func (w *tableWriter) takes(lines *change.Lines) bool {
	if lines == nil {
		return true
	}
	at := w.places[TableName{Schema: lines.Of.Schema, Name: lines.Of.Name}]
	if at == nil || at.of == nil {
		return false // the first page finds out
	}
	columns := at.bind(lines.Of, w.sink.config.Settings.Naming).columns
	for i := range columns {
		if columns[i].At != i || lines.Form == change.LinesBinary && !(columns[i].To.Domain == "" && columns[i].From.SameBinary(columns[i].To.Base)) {
			return false
		}
	}
	return len(columns) == len(lines.Of.Columns)
}

// gatherable returns the one statement of bulk that a page is, and what is held after it; nil if it is more than that.
func (w *tableWriter) gatherable(page sink.Batch) (*Statement, sink.Map, error) {
	held := w.held
	if w.open != nil {
		held = w.open.after
	}
	after, err := held.Advance(w.n, page.Span, page.To)
	if err != nil {
		return nil, after, err
	}
	if !untouched(held, page.Span) { // its rows may be there
		return nil, after, nil
	}
	work := batchWork{batch: page, after: after}
	if err := w.takePageApart(&work); err != nil || len(work.pages) != 1 || !work.pages[0].span.Encloses(page.Span) {
		return nil, after, nil //nolint:nilerr // the page by itself shows what is wrong with it
	}
	if len(w.unsettled(&work, wayBulk)) > 0 {
		return nil, after, nil
	}
	statements, err := w.statements(&work, w.places, wayBulk)
	if err != nil || len(statements) != 1 || statements[0].Data == nil {
		return nil, after, nil //nolint:nilerr // likewise
	}
	return &statements[0], after, nil
}

// begin opens the transaction and the statement, the claim's row first.
func (w *tableWriter) begin(ctx context.Context, move Statement, data *Statement, after sink.Map) {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // it goes on over the calls
	open := &gathering{text: data.Text, pages: make(chan io.Reader), end: end, done: make(chan struct{}), after: after}
	w.open = open
	rows := &pagesReader{ctx: life, now: data.Data(), more: open.pages}
	go func() {
		defer close(open.done)
		_, open.err = w.session.Do(life, begin(), move, Statement{Text: data.Text, Head: data.Head, Data: func() io.Reader { return rows }})
	}()
}

// feed hands over a page, when the one before it was sent.
func (w *tableWriter) feed(ctx context.Context, rows io.Reader) error {
	select {
	case w.open.pages <- rows:
		return nil
	case <-w.open.done:
		return w.gatheredApart(w.open.err)
	case <-ctx.Done():
		return w.sink.failed("write", ctx.Err())
	}
}

// settle ends the statement and commits, with the marks of all pages.
func (w *tableWriter) settle(ctx context.Context) error {
	open := w.open
	if open == nil {
		return nil
	}
	close(open.pages)
	open.pages = nil
	select {
	case <-open.done:
	case <-ctx.Done():
		return w.sink.failed("write", ctx.Err())
	}
	open.end()
	w.open = nil
	if open.err != nil {
		return w.gatheredApart(open.err)
	}
	move, err := w.sink.statements.move(w.head, w.n, open.after.Pieces(w.n))
	if err != nil {
		return err
	}
	keys, places := w.payWhole(open.after, w.places)
	if err := w.commit(ctx, append([]Statement{move}, keys...)); err != nil {
		return w.gatheredApart(err)
	}
	w.held, w.places = open.after, places
	return nil
}

// gatheredApart says why pages can't be written together. What the server refuses is no fault of the changefeed's yet: page by page it
// shows which row it was, or it passes.
func (w *tableWriter) gatheredApart(err error) error {
	if err = w.compared(err); errors.Is(err, fence.ErrStale) || errors.Is(err, fence.ErrUnknown) {
		return err
	}
	if refused := (*Refused)(nil); errors.As(err, &refused) && (refusesRow(err) || passes(refused.Reason) || refused.Reason == RefusedMissing) {
		return fmt.Errorf("%w: %s", sink.ErrTogether, refused.Error())
	}
	return w.sink.shown("write", err)
}

// abandon ends a statement that nobody will settle, and waits until nothing uses the connection.
func (w *tableWriter) abandon() {
	if w.open == nil {
		return
	}
	w.open.end()
	<-w.open.done
	w.open = nil
}

// pagesReader reads the rows of one page after another, until there is no other.
type pagesReader struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to be ended
	now  io.Reader
	more <-chan io.Reader
}

// Read implements [io.Reader].
func (r *pagesReader) Read(p []byte) (int, error) {
	for {
		n, err := r.now.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err //nolint:wrapcheck // a reader's own
		}
		select {
		case next, more := <-r.more:
			if !more {
				return 0, io.EOF
			}
			r.now = next
		case <-r.ctx.Done():
			return 0, errEndedEarly
		}
	}
}
