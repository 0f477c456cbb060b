package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

const (
	// bufferDefault is for a request that doesn't say, bufferMin below what rows of a usual size take.
	bufferDefault = 16 << 20
	bufferMin     = 256 << 10

	// failuresMax is how many times in a row a snapshot is begun again by itself, without a page between.
	failuresMax = 4
	// againDelay grows with each of them.
	againDelay = 200 * time.Millisecond
)

// snapshots are what the readers of one source share.
type snapshots struct {
	*exporter
	limiter    *rate.Limiter // nil: as fast as possible
	lanes      *semaphore.Weighted
	keyless    *semaphore.Weighted
	partRows   int64
	keylessMax int // bytes
}

func newSnapshots(of *Source) *snapshots {
	s := &snapshots{
		exporter: newExporter(of), lanes: semaphore.NewWeighted(lanesMax - 1), keyless: semaphore.NewWeighted(1),
		partRows: partRows, keylessMax: keylessBytesMax,
	}
	if of.SnapshotRate > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(of.SnapshotRate), max(of.SnapshotRate, of.SnapshotChunk))
	}
	return s
}

// pace waits until so many more rows may be given on.
func (s *snapshots) pace(ctx context.Context, rows int) error {
	for s.limiter != nil && rows > 0 {
		n := min(rows, s.limiter.Burst())
		if err := s.limiter.WaitN(ctx, n); err != nil {
			return err
		}
		rows -= n
	}
	return nil
}

// Read opens a reader of the snapshots of the pieces that have none yet. Each page is of one table, or of none and then empty; pages
// of different parts of the key space come in any order.
func (s *Source) Read(ctx context.Context, request source.Request) (source.Reader, error) {
	r := &snapshotReader{source: s.snapshots, buffer: request.BufferBytes, lines: request.Lines}
	if r.buffer <= 0 {
		r.buffer = bufferDefault
	}
	r.buffer = max(r.buffer, bufferMin)
	for _, piece := range request.Pieces {
		if !piece.Span.Valid() {
			return nil, fmt.Errorf("postgres: a request for the empty span %v", piece.Span)
		}
		if piece.Mark == (change.Mark{}) {
			r.todo = append(r.todo, piece.Span)
		}
	}
	r.life, r.cancel = context.WithCancel(ctx)
	return r, nil
}

// snapshotReader delivers the snapshots of one request, page by page, and then io.EOF. When one can't be read to its end, what
// is left is read from another, with another mark.
type snapshotReader struct {
	source *snapshots
	life   context.Context //nolint:containedctx // from Read until Close
	cancel context.CancelFunc
	buffer int
	lines  bool              // pages may come as lines
	todo   []changefeed.Span // not delivered yet

	export   *export
	run      *run
	before   int64 // rows read when the run began
	failures int   // since the last page
	failure  error

	waits       atomic.Pointer[string]
	reading     atomic.Bool
	read, total atomic.Int64
}

var (
	_ source.Reader      = (*snapshotReader)(nil)
	_ source.Progressing = (*snapshotReader)(nil)
	_ source.Waiting     = (*snapshotReader)(nil)
)

// Progress says how far the snapshot is.
func (r *snapshotReader) Progress() (source.Progress, bool) {
	read := r.read.Load()
	return source.Progress{RowsRead: read, RowsTotal: max(read, r.total.Load())}, r.reading.Load()
}

func (r *snapshotReader) says(what string) { r.waits.Store(&what) }

// Waits says what the snapshot waits for.
func (r *snapshotReader) Waits() string {
	if what := r.waits.Load(); what != nil {
		return *what
	}
	return ""
}

// Next waits for the next page.
func (r *snapshotReader) Next(ctx context.Context) (source.Event, error) {
	for r.failure == nil {
		if len(r.todo) == 0 {
			if r.export != nil {
				r.source.spoil(r.export) // whoever comes again after this wants what is newer
			}
			r.end()
			r.failure = io.EOF
			break
		}
		event, err := r.next(ctx)
		if err == nil {
			r.failures = 0
			r.read.Add(int64(event.Rows()))
			r.todo = without(r.todo, event.Span)
			return event, nil
		}
		r.failure = r.overcome(ctx, err)
	}
	return source.Event{}, r.failure
}

// without takes a span away from others.
func without(spans []changefeed.Span, span changefeed.Span) []changefeed.Span {
	out := make([]changefeed.Span, 0, len(spans)+1)
	for _, one := range spans {
		out = append(out, one.Subtract(span)...)
	}
	return out
}

func (r *snapshotReader) next(ctx context.Context) (source.Event, error) {
	r.reading.Store(true)
	if r.run == nil {
		export, err := r.source.acquire(ctx, r.says)
		if err != nil {
			return source.Event{}, err
		}
		r.export, r.before = export, r.read.Load()
		r.run = newRun(r, export)
		r.run.start(r.life) //nolint:contextcheck // lanes live as long as the reader
	}
	select {
	case event, more := <-r.run.events:
		if more {
			r.total.Store(r.before + r.run.total.Load())
			return event, nil
		}
		if r.run.err == nil {
			return source.Event{}, errIncomplete
		}
		return source.Event{}, r.run.err
	case <-ctx.Done():
		return source.Event{}, ctx.Err()
	}
}

// errIncomplete would be a fault of ours: parts that don't cover what they were made of.
var errIncomplete = errors.New("a snapshot has ended before everything was read")

// end gives up the run.
func (r *snapshotReader) end() {
	if r.run != nil {
		r.run.stop()
		r.source.release(r.export)
		r.run, r.export = nil, nil
	}
	r.reading.Store(false)
}

// overcome returns nil if another snapshot may be read, else what to fail with.
func (r *snapshotReader) overcome(ctx context.Context, err error) error {
	if errors.Is(err, errChanged) || errors.Is(err, errSnapshotLost) {
		r.source.spoil(r.export)
	}
	r.end()
	if cause := errors.Join(ctx.Err(), r.life.Err()); cause != nil {
		return cause
	}
	r.failures++
	if !worthAnother(err) || r.failures > failuresMax {
		return r.source.fault(err)
	}
	r.source.logger.Info("snapshot is begun again", zap.Error(err))
	timer := time.NewTimer(againDelay << (r.failures - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.life.Done():
		return r.life.Err()
	}
}

// worthAnother reports whether another snapshot may do what this one could not: the connection has gone, or what was read.
func worthAnother(err error) bool {
	if _, told := errors.AsType[*changefeed.Fault](err); told {
		return false
	}
	code := codeOf(err)
	return errors.Is(err, errChanged) || errors.Is(err, errSnapshotLost) || code == "" ||
		strings.HasPrefix(code, classConnection) || strings.HasPrefix(code, classShutdown)
}

// Classes of codes of the server that say that a connection has ended.
const (
	classConnection = "08"
	classShutdown   = "57P"
)

// Close ends the lanes.
func (r *snapshotReader) Close() error {
	r.cancel()
	r.end()
	if r.failure == nil {
		r.failure = errClosed
	}
	return nil
}
