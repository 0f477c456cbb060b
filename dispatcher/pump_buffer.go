package dispatcher

import (
	"context"
	"sync"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// run is what was read and is to be written: changes of consecutive events that can go together.
type run struct {
	changes  []change.Change
	span     changefeed.Span
	to       change.Mark
	snapshot bool
	resolved change.Position
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
		changesMax: l.changes, bytesMax: l.bytes,
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
	n := len(event.Changes)
	if b.changes > 0 && n > 0 && (b.changes+n > b.changesMax || b.bytes+size > b.bytesMax) {
		b.content = full
		notify(b.ready)
		return false
	}
	b.merge(event)
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

// last returns the newest run; nil if there is none.
func (b *buffer) last() *run {
	if len(b.runs) == 0 {
		return nil
	}
	return &b.runs[len(b.runs)-1]
}

// merge adds the event to the last run, if both speak of the same span of the live stream.
func (b *buffer) merge(event *source.Event) {
	if last := b.last(); last != nil && !event.Snapshot && !last.snapshot && last.span.Equal(event.Span) {
		if len(last.changes) == 0 {
			last.changes = event.Changes
		} else {
			last.changes = append(doubled(last.changes, len(event.Changes)), event.Changes...)
		}
		last.to = change.Later(last.to, event.To)
		last.resolved = max(last.resolved, event.Resolved)
		return
	}
	b.runs = append(b.runs, run{
		changes: event.Changes, span: event.Span, to: event.To, snapshot: event.Snapshot, resolved: event.Resolved,
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

// take takes everything.
func (b *buffer) take() []run {
	b.mu.Lock()
	defer b.mu.Unlock()
	runs := b.runs
	b.runs, b.content, b.changes, b.bytes = nil, nothing, 0, 0
	notify(b.room)
	return runs
}

func notify(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}
