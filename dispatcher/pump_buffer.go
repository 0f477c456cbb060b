package dispatcher

import (
	"bytes"
	"context"
	"sync"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// run is what was read and is to be written: changes of consecutive events that can go together.
type run struct {
	changes  []change.Change
	lines    *change.Lines // in place of changes
	bytes    int
	span     changefeed.Span
	to       change.Mark
	snapshot bool
	resolved change.Position
}

// joinedBytesMax bounds what is made of pages that are joined: a sink may name all keys of a page in one statement.
const joinedBytesMax = 16 << 20

// add takes the changes of an event in.
func (r *run) add(event *source.Event, size int) {
	if len(r.changes) == 0 {
		r.changes = event.Changes
	} else {
		r.changes = append(doubled(r.changes, len(event.Changes)), event.Changes...)
	}
	r.bytes += size
	r.resolved = max(r.resolved, event.Resolved)
}

// precedes reports whether a page of a snapshot goes on where the run ends: a sink that is slower than the source then writes several
// pages in one step, of as many bytes at most. Their changes have one order of places, as those of one page do.
func (r *run) precedes(page *source.Event, size, most int) bool {
	n := len(r.changes)
	return n > 0 && len(page.Changes) > 0 && r.to == page.To && len(r.span.End) > 0 && bytes.Equal(r.span.End, page.Span.Start) &&
		r.changes[n-1].Index < page.Changes[0].Index && r.bytes+size <= most
}

// content says what a buffer holds.
type content uint8

const (
	nothing  content = iota
	progress         // marks that moved, without a change
	data             // changes, or a page of a snapshot
	full             // as much as it takes: the reader waits
	failed           // nothing, and the reader has failed
)

// buffer holds what was read while the batch before is in the sink. It is bounded, so that a slow sink slows the
// source; one event always fits, since a transaction stays whole.
type buffer struct {
	changesMax int
	bytesMax   int
	joinedMax  int           // bytes of pages that are joined
	ready      chan struct{} // something came in
	room       chan struct{} // everything was taken

	mu      sync.Mutex // guards what follows
	runs    []run
	content content
	changes int
	bytes   int
	err     error
}

func newBuffer(l limits) *buffer {
	return &buffer{
		changesMax: l.changes, bytesMax: l.bytes, joinedMax: joinedBytesMax,
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// fill puts in what the reader delivers, until it fails or ctx ends.
func (b *buffer) fill(ctx context.Context, reader source.Reader) {
	for {
		event, err := reader.Next(ctx)
		if err != nil {
			b.fail(err)
			return
		}
		size := 0
		for i := range event.Changes {
			size += event.Changes[i].Size()
		}
		if event.Lines != nil {
			size = event.Lines.Size()
		}
		for !b.put(&event, size) {
			select {
			case <-b.room:
			case <-ctx.Done():
				b.fail(ctx.Err())
				return
			}
		}
	}
}

// put takes an event in; false if there is no room for it.
func (b *buffer) put(event *source.Event, size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := event.Rows()
	if b.changes > 0 && n > 0 && (b.changes+n > b.changesMax || b.bytes+size > b.bytesMax) {
		b.content = full
		notify(b.ready)
		return false
	}
	b.merge(event, size)
	b.changes += n
	b.bytes += size
	switch {
	case b.changes >= b.changesMax || b.bytes >= b.bytesMax:
		b.content = full
	case n > 0 || event.Snapshot:
		b.content = max(b.content, data)
	default:
		b.content = max(b.content, progress)
	}
	notify(b.ready)
	return true
}

// continued returns the run that an event goes on from: the last one, if both speak of the same span of the live stream, or the one
// that a page of a snapshot follows, among the pages of other parts, which come in turn with it. nil if there is none.
func (b *buffer) continued(event *source.Event, size int) *run {
	for i := len(b.runs) - 1; i >= 0; i-- {
		last := &b.runs[i]
		switch {
		case last.snapshot != event.Snapshot:
			return nil
		case event.Snapshot && !last.precedes(event, size, b.joinedMax):
			continue
		case !event.Snapshot && !last.span.Equal(event.Span):
			return nil
		}
		return last
	}
	return nil
}

// merge adds the event to the run that it goes on from.
func (b *buffer) merge(event *source.Event, size int) {
	if last := b.continued(event, size); last != nil {
		last.add(event, size)
		last.to = change.Later(last.to, event.To)
		if event.Snapshot {
			last.span.End = event.Span.End
		}
		return
	}
	b.runs = append(b.runs, run{
		changes: event.Changes, lines: event.Lines, bytes: size, span: event.Span, to: event.To, snapshot: event.Snapshot, resolved: event.Resolved,
	})
}

// doubled returns the same changes with room for n more. A run grows from one event to as many changes as a batch takes, and by
// steps of a quarter, as append has them, most of what is allocated would be what was outgrown.
func doubled(changes []change.Change, n int) []change.Change {
	if cap(changes)-len(changes) >= n {
		return changes
	}
	return append(make([]change.Change, 0, max(2*cap(changes), len(changes)+n)), changes...)
}

func (b *buffer) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	notify(b.ready)
}

// holds says what can be taken. The reader's failure shows only when everything before it was taken.
func (b *buffer) holds() (content, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.runs) == 0 && b.err != nil {
		return failed, b.err
	}
	if b.err != nil { // no more will come: don't wait for it
		return full, nil
	}
	return b.content, nil
}

// take takes everything, or of a snapshot the first run: so that its reading goes on evenly while the others are written, and not at once
// while nothing is.
func (b *buffer) take() []run {
	b.mu.Lock()
	defer b.mu.Unlock()
	runs := b.runs
	notify(b.room)
	if len(runs) > 1 && runs[0].snapshot {
		b.runs, b.content = runs[1:], full
		first := runs[0].batch()
		b.changes -= first.Rows()
		b.bytes -= runs[0].bytes
		return runs[:1:1]
	}
	b.runs, b.content, b.changes, b.bytes = nil, nothing, 0, 0
	return runs
}

func notify(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}
