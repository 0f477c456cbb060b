package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/fence"
	"fencerow/sink"
)

// What one batch may hold: large enough that the sync is a small part, small enough that readers hold several.
const (
	batchChangesMax = 4096
	batchBytesMax   = 4 << 20
)

// Writer is one claim's right to append. It is used by one goroutine.
type Writer struct {
	sink        *Sink
	span        changefeed.Span
	token       fence.Token
	incarnation sink.Incarnation
	initial     []sink.Piece
	encoder     *codec.Encoder

	seen    uint64   // entries up to this one do not end this claim
	m       sink.Map // holds at least this claim's pieces
	wrote   spanSet  // where this claim wrote changes
	earlier spanSet  // where claims before it did
	batches uint64
	keys    *liveKeys // what earlier changes left, while pages of a snapshot come

	keysBytesMax int

	reached  overwriter // of a log: where others read how far this claim is; nil before the first batch
	file     handle     // the current segment; nil before the first batch
	segment  uint64
	size     int64 // of the current segment, up to its last commit mark
	counted  int64 // of the current segment, up to its last batch; 0: it has none yet
	previous int64 // size of the segment before
	began    time.Time
	lines    []byte // reused
	frame    []byte // reused
	ended    error  // set by the first failure: the writer is done with
	isClosed bool
}

func newWriter(s *Sink, claim sink.Claim, incarnation sink.Incarnation, st state) *Writer {
	return &Writer{
		sink: s, span: claim.Span, token: claim.Token, incarnation: incarnation,
		initial: st.m.Pieces(incarnation),
		encoder: codec.NewEncoder(s.identity.Changefeed, s.identity.UID, claim.Token),
		seen:    st.last, m: st.m, earlier: st.wrote, keysBytesMax: liveKeysBytesMax,
	}
}

// Pieces implements [sink.Writer].
func (w *Writer) Pieces() []sink.Piece { return w.initial }

// Limits implements [sink.Writer].
func (w *Writer) Limits() sink.Limits {
	return sink.Limits{Changes: batchChangesMax, Bytes: batchBytesMax}
}

// Close implements [sink.Writer].
func (w *Writer) Close() error {
	if w.isClosed {
		return nil
	}
	w.isClosed = true
	w.keys = nil
	var errs []error
	if w.file != nil {
		errs = append(errs, w.file.Close())
	}
	if w.reached != nil {
		errs = append(errs, w.reached.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("file: close: %w", err)
	}
	return nil
}

var errWriterEnded = errors.New("the writer has ended")

// Write implements [sink.Writer].
func (w *Writer) Write(ctx context.Context, batch sink.Batch) error {
	if w.isClosed || w.ended != nil {
		return fmt.Errorf("file: write: %w", errors.Join(errWriterEnded, w.ended))
	}
	err := w.write(ctx, batch)
	if err != nil {
		w.ended = err
	}
	return w.sink.wrap("write "+w.token.String(), err)
}

func (w *Writer) write(ctx context.Context, batch sink.Batch) error {
	if batch.Snapshot {
		return w.page(ctx, batch)
	}
	if err := w.batch(ctx, batch); err != nil {
		return err
	}
	if w.keys != nil {
		w.keys.apply(batch)
	}
	return nil
}

// batch appends one batch and counts it.
func (w *Writer) batch(ctx context.Context, batch sink.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	moved, err := w.m.Advance(w.incarnation, batch.Span, batch.To)
	if err != nil {
		return err
	}
	// Only spares a hopeless write; what decides is the look after the sync.
	if err := w.look(); err != nil {
		return err
	}
	w.sink.step(pointWriteBegin)
	if err := w.rotate(ctx); err != nil {
		return err
	}
	end, err := w.appendBatch(batch)
	if err != nil {
		return err
	}
	w.sink.step(pointWriteSynced)
	if err := w.look(); err != nil { // fence:F23 file
		return w.outcome(err, end)
	}
	w.sink.step(pointWriteLooked)
	w.m, w.size, w.counted = moved, end, end
	if len(batch.Changes) > 0 {
		w.wrote = w.wrote.with(batch.Span)
	}
	w.mark()
	w.sink.step(pointWriteCounted)
	return nil
}

// errSuperseded says that a later entry took the right to write.
var errSuperseded = fmt.Errorf("a later claim holds the span: %w", fence.ErrStale)

// look reads what was appended to the claims since the last look. errSuperseded: this claim has ended.
func (w *Writer) look() error {
	if _, err := w.sink.disk.Stat(claimName(w.sink.directory, uint64(w.incarnation))); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return damaged(claimName(w.sink.directory, uint64(w.incarnation)), errors.New("somebody has removed it"))
		}
		return err
	}
	for {
		later, err := readEntry(w.sink.disk, w.sink.directory, w.seen+1)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if later.ends(w.sink.identity.UID, w.span) {
			return errSuperseded
		}
		w.seen++
	}
}

// outcome says what became of a batch that is on disk, after the look found the claim ended: whether it lies before the
// seal. If there is none yet, this writer makes it, as everybody may.
func (w *Writer) outcome(cause error, end int64) error {
	if !errors.Is(cause, fence.ErrStale) {
		return fmt.Errorf("%w: %w", fence.ErrUnknown, cause)
	}
	made, err := w.sink.sealed(w.incarnation, w.token, w.initial)
	if err != nil {
		return fmt.Errorf("%w: %w", fence.ErrUnknown, err)
	}
	if made.covers(w.segment, end) {
		w.ended = cause
		return nil
	}
	return cause
}

// appendBatch writes and syncs the batch and returns where it ends in the segment.
func (w *Writer) appendBatch(batch sink.Batch) (int64, error) {
	if err := w.encode(batch); err != nil {
		return 0, err
	}
	fresh := w.file == nil
	if fresh {
		if err := w.begin(); err != nil {
			return 0, err
		}
	}
	n, err := w.file.Write(w.frame)
	if err != nil && n < len(w.frame) {
		// What is there of it is not whole, so nobody counts it, before or after this.
		_ = w.file.Truncate(w.size) //nolint:errcheck // what is there of it counts for nobody
		return 0, err
	}
	w.sink.step(pointWriteDone)
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil && fresh {
		err = w.sink.syncDirectories(dataDirectory)
	}
	if err != nil {
		return 0, w.giveUp(err)
	}
	return w.size + int64(len(w.frame)), nil
}

// giveUp decides about a batch that is whole in the file, but maybe not on disk: after a failed sync, another sync that
// succeeds means nothing. A seal before it keeps everybody from counting it.
func (w *Writer) giveUp(cause error) error {
	own := seal{Incarnation: w.incarnation, Pieces: toPiecesJSON(w.m.Pieces(w.incarnation)), Wrote: w.wrote.toJSON()}
	switch {
	case w.counted > 0:
		own.Segment, own.Bytes = w.segment, w.counted
	case w.segment > 1:
		own.Segment, own.Bytes = w.segment-1, w.previous
	}
	made, err := w.sink.createSeal(own)
	if err != nil || made.covers(w.segment, w.size+int64(len(w.frame))) {
		return fmt.Errorf("%w: %w", fence.ErrUnknown, errors.Join(cause, err))
	}
	return cause
}

// encode fills frame with the batch.
func (w *Writer) encode(batch sink.Batch) error {
	w.lines = w.lines[:0]
	for i := range batch.Changes {
		w.lines = append(w.encoder.AppendChange(w.lines, &batch.Changes[i]), '\n')
	}
	payload := w.lines
	compress := w.sink.settings.compress
	if compress == compressZstd {
		var err error
		if payload, err = compress.pack(nil, w.lines); err != nil {
			return err
		}
	}
	line, err := sign(batchHeader{
		Batch: w.batches + 1, Changes: len(batch.Changes), Bytes: int64(len(payload)),
		Span: toSpanJSON(batch.Span), To: batch.To.Position, Index: batch.To.Index, Snapshot: batch.Snapshot,
	}, payload)
	if err != nil {
		return err
	}
	w.batches++
	w.frame = append(appendLine(w.frame[:0], line, compress), payload...)
	return nil
}

// mark appends the commit mark. The batch counts with or without it: a live reader sees it only with the mark, so a
// writer that can't write it ends, and the next claim's seal takes its place.
func (w *Writer) mark() {
	line, err := sign(commitMark{Commit: w.batches}, nil)
	if err == nil {
		w.frame = appendLine(w.frame[:0], line, w.sink.settings.compress)
		_, err = w.file.Write(w.frame)
	}
	if err != nil {
		w.ended = fmt.Errorf("commit mark: %w", err)
		return
	}
	w.size += int64(len(w.frame))
	if err := w.tell(); err != nil {
		w.ended = fmt.Errorf("tell how far it is: %w", err)
	}
}

// rotate ends the current segment when it is large or old enough. Everything in it counts, which the existence of the
// next one tells readers.
func (w *Writer) rotate(ctx context.Context) error {
	settings := w.sink.settings
	old := settings.rotateInterval > 0 && w.sink.now().Sub(w.began) >= settings.rotateInterval
	if w.file == nil || w.size < settings.rotateBytes && !old {
		return nil
	}
	// The last commit mark was not synced yet. A segment that is not the last must be whole for ever.
	if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
		w.file = nil
		return err
	}
	w.file = nil
	w.sink.retire(ctx, w.incarnation, w.segment)
	return nil
}

// begin creates the next segment with its header.
func (w *Writer) begin() error {
	id := segmentID{incarnation: w.incarnation, number: w.segment + 1, compress: w.sink.settings.compress}
	header := segmentHeader{
		Segment: id.number, Format: formatVersion, Changefeed: w.sink.identity.Changefeed.String(), UID: w.sink.identity.UID,
		Incarnation: w.incarnation, Epoch: w.token.Epoch(), Seq: w.token.Seq(), Batches: w.batches - 1, Previous: w.size,
		Pieces: toPiecesJSON(w.m.Pieces(w.incarnation)), Wrote: w.wrote.toJSON(),
	}
	line, err := sign(header, nil)
	if err != nil {
		return err
	}
	file, err := w.sink.disk.Create(id.name(w.sink.directory))
	if err != nil {
		return err
	}
	framed := appendLine(nil, line, id.compress)
	if _, err := file.Write(framed); err != nil {
		err = errors.Join(err, file.Close())
		_ = w.sink.disk.Remove(id.name(w.sink.directory)) //nolint:errcheck // a header that is not whole counts for nobody
		return err
	}
	w.file, w.segment, w.began = file, id.number, w.sink.now()
	w.previous, w.size, w.counted = w.size, int64(len(framed)), 0
	return nil
}

// indexAfter returns the first index that is free at the position after the changes.
func indexAfter(changes []change.Change, position change.Position) uint32 {
	index := uint32(0)
	for i := range changes {
		if changes[i].Position == position {
			index = max(index, changes[i].Index+1)
		}
	}
	return index
}
