package etcd

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// bufferDefault is for a request that doesn't say, bufferMin below what one page takes.
	bufferDefault = 16 << 20
	bufferMin     = 256 << 10

	retryDelay   = 20 * time.Millisecond
	retryDelayMx = 500 * time.Millisecond
	// calmAfter is how long nothing must have failed for the next failure to be a first one.
	calmAfter = 15 * time.Second

	// resnapshotsMax bounds how often one reader begins a snapshot again because etcd compacts faster than it reads.
	resnapshotsMax = 5
)

// Read opens a reader.
func (s *Source) Read(ctx context.Context, request source.Request) (source.Reader, error) {
	pieces := make([]marked, 0, len(request.Pieces))
	spans := make([]changefeed.Span, 0, len(request.Pieces))
	for _, piece := range request.Pieces {
		pieces = append(pieces, marked{span: piece.Span, mark: piece.Mark})
		spans = append(spans, piece.Span)
	}
	if len(pieces) == 0 {
		return nil, errors.New("etcd: a request without pieces")
	}
	slices.SortFunc(pieces, func(a, b marked) int { return a.span.Compare(b.span) })
	if err := changefeed.CheckCover(whole(pieces), spans); err != nil {
		return nil, err
	}
	if !s.Span().Encloses(whole(pieces)) {
		return nil, errors.New("etcd: a request outside the source's prefix")
	}
	buffer := request.BufferBytes
	if buffer <= 0 {
		buffer = bufferDefault
	}
	buffer = max(buffer, bufferMin)
	life, cancel := context.WithCancelCause(ctx)
	// A stream that is waited for receives beyond the room, so some of the buffer is left for that.
	return &reader{
		source: s, life: life, cancel: cancel, span: whole(pieces), pieces: pieces,
		buffer: buffer, room: newRoom(buffer / 4 * 3),
		hurry: make(chan struct{}, 1),
	}, nil
}

// reader is one request being read: first the snapshots of pieces that have none, then all that changes.
type reader struct {
	source *Source
	life   context.Context //nolint:containedctx // from Read until Close; the streams live in it
	cancel context.CancelCauseFunc
	span   changefeed.Span
	pieces []marked
	buffer int
	room   *room

	snapshot     *snapshot // while one is read
	snapshotAt   int64     // the revision of all its pages; 0 until it is drawn
	snapshotRows uint32    // read at that revision, for the index
	resnapshots  int
	progress     progress

	tail     *tail // once no snapshot is missing
	hurry    chan struct{}
	failedAt time.Time
	lastFail time.Time
	delay    time.Duration
	failure  error // sticky
}

var (
	_ source.Reader      = (*reader)(nil)
	_ source.Progressing = (*reader)(nil)
	_ source.Hurrying    = (*reader)(nil)
)

// Next waits for the next event.
func (r *reader) Next(ctx context.Context) (source.Event, error) {
	for r.failure == nil {
		event, err := r.step(ctx)
		if err == nil {
			return event, nil
		}
		if r.failure = r.overcome(ctx, err); r.failure != nil {
			break
		}
	}
	return source.Event{}, r.failure
}

// Close ends the reader.
func (r *reader) Close() error {
	r.cancel(context.Canceled)
	r.stopSnapshot()
	if r.tail != nil {
		r.tail.close()
		r.tail = nil
	}
	if r.failure == nil {
		r.failure = errClosed
	}
	return nil
}

// Progress says how far the snapshot is.
func (r *reader) Progress() (source.Progress, bool) { return r.progress.load() }

// Hurry has the watch asked for its progress now.
func (r *reader) Hurry() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

func (r *reader) step(ctx context.Context) (source.Event, error) {
	for {
		if r.snapshot == nil && slices.ContainsFunc(r.pieces, unread) {
			r.startSnapshot() //nolint:contextcheck // its streams live as long as the reader
		}
		if r.snapshot == nil {
			return r.follow(ctx)
		}
		event, ok, err := r.nextPage(ctx)
		if ok || err != nil {
			return event, err
		}
	}
}

func unread(p marked) bool { return p.mark == change.Mark{} }

// follow returns what changed.
func (r *reader) follow(ctx context.Context) (source.Event, error) {
	if r.tail == nil {
		lowest := r.pieces[0].mark.Whole()
		for _, piece := range r.pieces[1:] {
			lowest = min(lowest, piece.mark.Whole())
		}
		r.tail = newTail(r.source, r.span, r.room, int64(lowest))
		r.tail.hurry = r.hurry
	}
	next, err := r.tail.read(lives{life: r.life, making: ctx}) //nolint:contextcheck // its streams live as long as the reader
	if err != nil {
		return source.Event{}, err
	}
	event := source.Event{Span: r.span, To: change.At(change.Position(next.to))}
	event.Resolved = max(event.To.Position, change.Position(r.tail.head))
	if len(next.events) > 0 {
		pieces := r.pieces
		if first := change.Position(next.events[0].kv.ModRevision); !slices.ContainsFunc(pieces, func(p marked) bool {
			return p.mark.Position >= first
		}) {
			pieces = nil // all marks are behind
		}
		event.Changes = changesOf(next.events, pieces)
	}
	return event, nil
}

// overcome returns nil if the reader can go on after the error, else what to fail with.
func (r *reader) overcome(ctx context.Context, err error) error {
	if cause := errors.Join(ctx.Err(), r.life.Err()); cause != nil {
		return cause
	}
	if gone, ok := errors.AsType[*compactedError](err); ok {
		return r.bridge(gone)
	}
	var fault *changefeed.Fault
	if errors.As(err, &fault) || errors.Is(err, errClosed) || denied(err) {
		return r.source.fault(err)
	}
	now := time.Now()
	if r.failedAt.IsZero() || now.Sub(r.lastFail) > calmAfter {
		r.failedAt, r.delay = now, retryDelay
		r.source.logger.Info("source lost, connecting again", zap.Stringer("source", r.source.uri), zap.Error(err))
	}
	r.lastFail = now
	if now.Sub(r.failedAt) > r.source.patience.retry {
		return r.source.fault(err)
	}
	timer := time.NewTimer(r.delay)
	defer timer.Stop()
	r.delay = min(2*r.delay, retryDelayMx)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.life.Done():
		return r.life.Err()
	}
}

// bridge goes on after history was compacted away: pieces that need it get a new snapshot, if that is allowed. A piece
// whose snapshot this reader has just read, and of which nothing was given on since, may always be read again: its
// history was never promised.
func (r *reader) bridge(gone *compactedError) error {
	var reached change.Position
	if r.tail != nil {
		reached = change.Position(r.tail.done)
		r.tail.close()
		r.tail = nil
	}
	for i := range r.pieces {
		piece := &r.pieces[i]
		if unread(*piece) {
			continue
		}
		if reached > piece.mark.Position {
			piece.mark, piece.fresh = change.At(reached), false
		}
		from := int64(piece.mark.Whole()) + 1
		if from >= gone.oldest {
			continue
		}
		if !piece.fresh && !r.source.Resnapshot || r.resnapshots >= resnapshotsMax {
			return r.source.compacted(gone, from)
		}
		piece.mark, piece.fresh = change.Mark{}, false
		r.source.logger.Warn("history is gone, reading a new snapshot",
			zap.Stringer("source", r.source.uri), zap.Int64("from", from), zap.Int64("oldest", gone.oldest))
	}
	r.resnapshots++
	r.snapshotAt = 0
	return nil
}
