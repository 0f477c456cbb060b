package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// pageBytesMax is what a page is meant to hold; the sizes of the rows before it decide how many it asks for.
	pageBytesMax = 2 << 20
	// pageRowsFirst is asked for while the size of the rows is not known.
	pageRowsFirst = 100
	// pageGrowth bounds how much larger the next page may be, since rows differ.
	pageGrowth = 8
	// pagesAhead is how many pages are read before they are asked for.
	pagesAhead = 1
	// pageMax bounds one request of a page, which may be a large one.
	pageMax = 30 * time.Second
)

// page is all rows of a span at one revision.
type page struct {
	span     changefeed.Span
	revision int64
	head     int64
	rows     []change.KV
	err      error
}

// snapshot reads the pages of the pieces that have none yet, in a goroutine of its own, a little ahead of the reader.
type snapshot struct {
	source   *Source
	todo     []changefeed.Span
	revision int64 // 0 until the first page drew it
	bytesMax int
	progress *progress

	pages  chan page
	cancel context.CancelFunc
	done   chan struct{}

	limit int // of the next page
}

// progress is read by any goroutine.
type progress struct{ reading, rows, total atomic.Int64 }

func (p *progress) load() (source.Progress, bool) {
	return source.Progress{RowsRead: p.rows.Load(), RowsTotal: p.total.Load()}, p.reading.Load() > 0
}

// startSnapshot begins with the pieces that are unread. After a failure it goes on at the revision that it had, as long
// as etcd has it.
func (r *reader) startSnapshot() {
	ctx, cancel := context.WithCancel(r.life)
	s := &snapshot{
		source: r.source, revision: r.snapshotAt, bytesMax: min(pageBytesMax, r.buffer/4), progress: &r.progress,
		pages: make(chan page, pagesAhead), cancel: cancel, done: make(chan struct{}),
		limit: min(pageRowsFirst, r.source.SnapshotChunk),
	}
	for _, piece := range r.pieces {
		if unread(piece) {
			s.todo = append(s.todo, piece.span)
		}
	}
	r.progress.total.Store(r.progress.rows.Load())
	r.progress.reading.Store(1)
	r.snapshot = s
	go s.run(ctx)
}

func (r *reader) stopSnapshot() {
	if r.snapshot == nil {
		return
	}
	r.snapshot.cancel()
	<-r.snapshot.done
	r.snapshot = nil
	r.progress.reading.Store(0)
}

// nextPage returns the next page, or false when there are no more.
func (r *reader) nextPage(ctx context.Context) (source.Event, bool, error) {
	var next page
	var more bool
	select {
	case next, more = <-r.snapshot.pages:
	case <-ctx.Done():
		return source.Event{}, false, ctx.Err()
	}
	if !more || next.err != nil {
		r.stopSnapshot()
		return source.Event{}, false, next.err
	}
	if next.revision != r.snapshotAt {
		r.snapshotAt, r.snapshotRows = next.revision, 0
	}
	position := change.Position(next.revision)
	event := source.Event{
		Span: next.span, To: change.At(position), Snapshot: true, Resolved: change.Position(next.head),
		Changes: make([]change.Change, len(next.rows)),
	}
	for i := range next.rows {
		row := &next.rows[i]
		event.Changes[i] = change.Change{
			Position: position, Index: r.snapshotRows, Op: change.OpRead, Key: row.Key, After: row,
		}
		r.snapshotRows++
	}
	r.progress.rows.Add(int64(len(next.rows)))
	r.pieces = readUpTo(r.pieces, next.span, change.At(position))
	return event, true, nil
}

// readUpTo moves the border between what is read and what is not to the end of the span.
func readUpTo(pieces []marked, span changefeed.Span, mark change.Mark) []marked {
	out := make([]marked, 0, len(pieces)+1)
	for _, piece := range pieces {
		inner, overlaps := piece.span.Intersect(span)
		if !overlaps {
			out = append(out, piece)
			continue
		}
		for _, rest := range piece.span.Subtract(span) {
			if rest.Compare(inner) < 0 {
				out = append(out, marked{span: rest, mark: piece.mark, fresh: piece.fresh})
			}
		}
		last := len(out) - 1
		if last >= 0 && out[last].fresh && out[last].mark == mark && string(out[last].span.End) == string(inner.Start) {
			out[last].span.End = inner.End
		} else {
			out = append(out, marked{span: inner, mark: mark, fresh: true})
		}
		for _, rest := range piece.span.Subtract(span) {
			if rest.Compare(inner) > 0 {
				out = append(out, marked{span: rest, mark: piece.mark, fresh: piece.fresh})
			}
		}
	}
	return out
}

func (s *snapshot) run(ctx context.Context) {
	defer close(s.done)
	defer close(s.pages)
	err := s.read(ctx)
	if err != nil {
		select {
		case s.pages <- page{err: err}:
		case <-ctx.Done():
		}
	}
}

func (s *snapshot) read(ctx context.Context) error {
	client, err := s.source.dial()
	if err != nil {
		return err
	}
	for _, span := range s.todo {
		for first, more := true, true; more; first = false {
			started := time.Now()
			var next page
			var total int64
			if next, total, err = s.page(ctx, client, span); err != nil {
				return err
			}
			if first {
				s.progress.total.Add(total)
			}
			more = !endsAt(next.span, span)
			span.Start = next.span.End
			if s.source.SnapshotRate > 0 {
				if err := pace(ctx, started, time.Duration(len(next.rows))*time.Second/time.Duration(s.source.SnapshotRate)); err != nil {
					return err
				}
			}
			select {
			case s.pages <- next:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func endsAt(page, span changefeed.Span) bool { return string(page.End) == string(span.End) }

// pace waits until so much time has gone by since started.
func pace(ctx context.Context, started time.Time, duration time.Duration) error {
	timer := time.NewTimer(duration - time.Since(started))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page reads the first page of what is left of a span. All pages are at one revision; if that was compacted away, the
// rest is read at a newer one.
func (s *snapshot) page(ctx context.Context, client *clientv3.Client, span changefeed.Span) (page, int64, error) {
	if s.revision == 0 {
		head, err := s.source.head(ctx)
		if err != nil {
			return page{}, 0, err
		}
		s.revision = head
	}
	key, end := bounds(span)
	ctx, cancel := context.WithTimeout(ctx, pageMax)
	defer cancel()
	response, err := client.Get(ctx, string(key), clientv3.WithRange(string(end)), clientv3.WithRev(s.revision),
		clientv3.WithLimit(int64(s.limit)))
	if errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted) {
		s.revision = 0
		return s.page(ctx, client, span)
	}
	if err != nil {
		return page{}, 0, fmt.Errorf("read a page: %w", err)
	}
	if err := s.source.sameCluster(response.Header.GetClusterId()); err != nil {
		return page{}, 0, err
	}
	next := page{span: span, revision: s.revision, head: response.Header.GetRevision(), rows: make([]change.KV, len(response.Kvs))}
	size := 0
	for i, pair := range response.Kvs {
		next.rows[i] = change.KV{
			Key: pair.GetKey(), Value: pair.GetValue(), CreateRevision: pair.GetCreateRevision(),
			ModRevision: pair.GetModRevision(), Version: pair.GetVersion(), Lease: pair.GetLease(),
		}
		size += next.rows[i].Size()
	}
	if response.More && len(next.rows) > 0 {
		last := next.rows[len(next.rows)-1].Key
		next.span.End = append(append(make([]byte, 0, len(last)+1), last...), 0)
	}
	if len(next.rows) > 0 {
		s.limit = max(1, min(s.bytesMax*len(next.rows)/size, s.limit*pageGrowth, s.source.SnapshotChunk))
	}
	return next, response.Count, nil
}
