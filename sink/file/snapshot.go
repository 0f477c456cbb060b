package file

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/sink"
)

// liveKeysBytesMax bounds the keys that are held at once while a snapshot is compared with what was written before.
// Beyond it the keys are taken in several passes.
const liveKeysBytesMax = 16 << 20

// liveKeyOverheadBytes is the memory of a key beside its bytes.
const liveKeyOverheadBytes = 64

// page writes a page of a snapshot: everything that the source holds in its span. Keys that the sink holds there from
// before are gone, and their deletes are appended, at the page's position. The page is cut where the keys that are held
// in memory end; each part is a batch that moves the border, so that a crash between two is as one between two pages.
func (w *Writer) page(ctx context.Context, page sink.Batch) error {
	for {
		if !w.earlier.overlaps(page.Span) && !w.wrote.overlaps(page.Span) {
			return w.batch(ctx, page)
		}
		if w.keys == nil || !w.keys.span.Contains(page.Span.Start) {
			keys, err := w.scan(ctx, changefeed.Span{Start: page.Span.Start, End: w.span.End})
			if err != nil {
				return err
			}
			w.keys = keys
		}
		now, rest, whole := cutPage(page, w.keys.span)
		if err := w.batch(ctx, w.keys.withDeletes(now)); err != nil {
			return err
		}
		w.keys.apply(now)
		w.keys.forget(now)
		if whole {
			return nil
		}
		page = rest
	}
}

// cutPage returns the part of the page in the span, and what comes after it, and whether the first is all.
func cutPage(page sink.Batch, span changefeed.Span) (now, rest sink.Batch, whole bool) {
	if span.Encloses(page.Span) {
		return page, sink.Batch{}, true
	}
	now, rest = page, page
	now.Span.End, rest.Span.Start = span.End, span.End
	now.Changes, rest.Changes = nil, nil
	for _, c := range page.Changes {
		if now.Span.Contains(c.Key) {
			now.Changes = append(now.Changes, c)
		} else {
			rest.Changes = append(rest.Changes, c)
		}
	}
	return now, rest, false
}

// liveKeys are the keys of a span that exist, by what was written.
type liveKeys struct {
	span  changefeed.Span
	keys  map[string]liveKey
	bytes int
	max   int
}

// liveKey is what it takes to write the delete of a key: its columns, where it is one of a table.
type liveKey struct {
	table string
	key   codec.Row
}

// isBare reports that the table has no key: the rows of such a table are told apart by nothing.
func (k liveKey) isBare() bool { return k.table != "" && len(k.key) == 0 }

func (k liveKey) bytes() int { return len(k.table) + k.key.Size() + liveKeyOverheadBytes }

// keyRow is what is known of a row that is gone: its key.
type keyRow struct{ codec.Row }

// KeyColumns implements [codec.Keyed].
func (r keyRow) KeyColumns(yield func(name string, value any) bool) { r.Columns(yield) }

// liveKeyOf returns what is kept of a change.
func liveKeyOf(c *change.Change) liveKey {
	out := liveKey{table: c.Table}
	if c.Table == "" {
		return out
	}
	for _, row := range []change.Row{c.After, c.Before} {
		if keyed, ok := row.(codec.Keyed); ok {
			keyed.KeyColumns(func(name string, value any) bool {
				out.key = append(out.key, codec.Column{Name: name, Value: value})
				return true
			})
			break
		}
	}
	return out
}

// scan reads what was written and returns the keys that live from the span's start on, as many as may be held.
func (w *Writer) scan(ctx context.Context, span changefeed.Span) (*liveKeys, error) {
	reader, err := openReader(w.sink.disk, ReaderConfig{Directory: w.sink.directory, UID: w.sink.identity.UID, Mode: ReadPresent, overlap: span})
	if err != nil {
		return nil, err
	}
	live := &liveKeys{span: span, keys: make(map[string]liveKey), max: w.keysBytesMax}
	for {
		item, err := reader.next(ctx)
		if errors.Is(err, io.EOF) {
			return live, reader.Close()
		}
		if err != nil {
			return nil, errors.Join(err, reader.Close())
		}
		record, err := codec.Decode(item.Line)
		if err != nil {
			return nil, errors.Join(err, reader.Close())
		}
		if key, ok := record.KeyBytes(); ok {
			c := change.Change{Op: record.Op, Table: record.Table, Key: key, After: keyRow{record.Key}}
			live.note(&c, reader.current.taken.Span.span())
			if from, moved := movedFrom(&record); moved {
				live.drop(string(from))
			}
		}
	}
}

// note takes in that a change happened, in a batch of the span.
func (l *liveKeys) note(c *change.Change, span changefeed.Span) {
	if c.Op == change.OpTruncate {
		l.truncate(c.Key, span)
		return
	}
	if !l.span.Contains(c.Key) {
		return
	}
	switch _, found := l.keys[string(c.Key)]; {
	case c.Op == change.OpDelete && liveKeyOf(c).isBare():
		// The table has other rows under this key.
	case c.Op == change.OpDelete:
		l.drop(string(c.Key))
	case !found:
		key := liveKeyOf(c)
		l.keys[string(c.Key)] = key
		l.bytes += len(c.Key) + key.bytes()
		if l.bytes > l.max {
			l.shrink()
		}
	}
}

// truncate takes in that the rows of a table are gone, from the key on and as far as the span goes.
func (l *liveKeys) truncate(from []byte, span changefeed.Span) {
	table, err := change.ParseTableKey(from)
	if err != nil {
		return
	}
	var gone changefeed.Span
	gone.Start, gone.End = change.TableSpan(table.Schema, table.Table)
	for key := range l.keys {
		if key >= string(from) && gone.Contains([]byte(key)) && span.Contains([]byte(key)) {
			l.drop(key)
		}
	}
}

func (l *liveKeys) drop(key string) {
	if live, found := l.keys[key]; found {
		delete(l.keys, key)
		l.bytes -= len(key) + live.bytes()
	}
}

// shrink gives up the upper half of the keys. They are read again when a page comes to them.
func (l *liveKeys) shrink() {
	sorted := slices.Sorted(maps.Keys(l.keys))
	if len(sorted) < 2 {
		return
	}
	l.span.End = []byte(sorted[len(sorted)/2])
	for _, key := range sorted[len(sorted)/2:] {
		l.drop(key)
	}
}

func (l *liveKeys) apply(batch sink.Batch) {
	for i := range batch.Changes {
		l.note(&batch.Changes[i], batch.Span)
		if from, moved := batch.Changes[i].Moved(); moved && string(from) != string(batch.Changes[i].Key) {
			l.drop(string(from))
		}
	}
}

// movedFrom returns the key that a row of a table had before the update of the line, if that gave it another one.
func movedFrom(record *codec.Record) ([]byte, bool) {
	if record.Op != change.OpUpdate || record.Table == "" || record.Before == nil {
		return nil, false
	}
	before, moved := make(codec.Row, 0, len(record.Key)), false
	for _, column := range record.Key {
		was, found := record.Before.Column(column.Name)
		if !found {
			return nil, false
		}
		before = append(before, was)
		wasBytes, _ := was.Bytes()
		isBytes, _ := column.Bytes()
		moved = moved || !bytes.Equal(wasBytes, isBytes) || wasBytes == nil && was.Value != column.Value
	}
	if !moved {
		return nil, false
	}
	return change.AppendKeyOf(nil, record.Table, before.Columns)
}

// withDeletes returns the page with the deletes of keys that live here and are not in it, in order of keys. A table whose
// rows have no keys is emptied before the page's come.
func (l *liveKeys) withDeletes(page sink.Batch) sink.Batch {
	in := keysOf(page)
	var gone, bare []string
	for key, live := range l.keys {
		switch {
		case !page.Span.Contains([]byte(key)):
		case live.isBare():
			bare = append(bare, key)
		case !in[key]:
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	slices.Sort(bare)
	var changes []change.Change
	for _, key := range bare {
		changes = append(changes, change.Change{Position: page.To.Position, Op: change.OpTruncate, Table: l.keys[key].table, Key: []byte(key)})
	}
	page.Changes = append(changes, page.Changes...)
	if len(bare) > 0 && len(page.Changes) > len(bare) {
		for i := range bare {
			page.Changes[i].Index = page.Changes[len(bare)].Index
		}
	}
	index := indexAfter(page.Changes, page.To.Position)
	for _, key := range gone {
		c := change.Change{Position: page.To.Position, Index: index, Op: change.OpDelete, Table: l.keys[key].table, Key: []byte(key)}
		if c.Table != "" {
			c.Before = keyRow{l.keys[key].key}
		}
		page.Changes = append(page.Changes, c)
		index++
	}
	return page
}

func keysOf(page sink.Batch) map[string]bool {
	in := make(map[string]bool, len(page.Changes))
	for i := range page.Changes {
		in[string(page.Changes[i].Key)] = true
	}
	return in
}

// forget drops keys that the page does not have: they were deleted with it.
func (l *liveKeys) forget(page sink.Batch) {
	in := keysOf(page)
	for key := range l.keys {
		if !in[key] && page.Span.Contains([]byte(key)) {
			l.drop(key)
		}
	}
}
