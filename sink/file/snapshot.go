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
		w.keys.apply(now.Changes)
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
	keys  map[string]struct{}
	bytes int
	max   int
}

// scan reads what was written and returns the keys that live from the span's start on, as many as may be held.
func (w *Writer) scan(ctx context.Context, span changefeed.Span) (*liveKeys, error) {
	reader, err := openReader(w.sink.disk, ReaderConfig{Directory: w.sink.directory, UID: w.sink.identity.UID, Mode: ReadPresent, overlap: span})
	if err != nil {
		return nil, err
	}
	live := &liveKeys{span: span, keys: make(map[string]struct{}), max: w.keysBytesMax}
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
			live.note(key, record.Op)
		}
	}
}

// note takes in that a change of the key happened.
func (l *liveKeys) note(key []byte, op change.Op) {
	if !l.span.Contains(key) {
		return
	}
	_, found := l.keys[string(key)]
	switch {
	case op == change.OpDelete && found:
		delete(l.keys, string(key))
		l.bytes -= len(key) + liveKeyOverheadBytes
	case op != change.OpDelete && !found:
		l.keys[string(key)] = struct{}{}
		l.bytes += len(key) + liveKeyOverheadBytes
		if l.bytes > l.max {
			l.shrink()
		}
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
		delete(l.keys, key)
		l.bytes -= len(key) + liveKeyOverheadBytes
	}
}

func (l *liveKeys) apply(changes []change.Change) {
	for i := range changes {
		l.note(changes[i].Key, changes[i].Op)
	}
}

// withDeletes returns the page with the deletes of keys that live here and are not in it, in order of keys.
func (l *liveKeys) withDeletes(page sink.Batch) sink.Batch {
	in := make(map[string]struct{}, len(page.Changes))
	for i := range page.Changes {
		in[string(page.Changes[i].Key)] = struct{}{}
	}
	var gone [][]byte
	for key := range l.keys {
		if _, found := in[key]; !found && page.Span.Contains([]byte(key)) {
			gone = append(gone, []byte(key))
		}
	}
	slices.SortFunc(gone, bytes.Compare)
	page.Changes = slices.Clone(page.Changes)
	index := indexAfter(page.Changes, page.To.Position)
	for _, key := range gone {
		page.Changes = append(page.Changes, change.Change{Position: page.To.Position, Index: index, Op: change.OpDelete, Key: key})
		index++
	}
	return page
}

// forget drops keys of the page that were deleted with it.
func (l *liveKeys) forget(page sink.Batch) {
	in := make(map[string]struct{}, len(page.Changes))
	for i := range page.Changes {
		in[string(page.Changes[i].Key)] = struct{}{}
	}
	for key := range l.keys {
		if _, found := in[key]; !found && page.Span.Contains([]byte(key)) {
			l.note([]byte(key), change.OpDelete)
		}
	}
}
