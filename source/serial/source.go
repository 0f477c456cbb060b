package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// OnGap says what a dispatcher does when the source has forgotten changes that it needs. The zero value fails.
type OnGap uint8

// What is done.
const (
	GapFails       OnGap = iota
	GapResnapshots       // what is too far behind is read anew
)

// Feed names the changefeed whose log is followed.
type Feed struct {
	Changefeed changefeed.ID
	UID        changefeed.UID
	OnGap      OnGap
}

// Source is a serial source as dispatchers read it: snapshots from the source itself, and the rest from the reader of the
// log, wherever that is.
type Source struct {
	source.Serial
	feed Feed
	node *Node
}

// NewSource returns what a dispatcher on this node reads.
func (n *Node) NewSource(from source.Serial, feed Feed) *Source {
	return &Source{Serial: from, feed: feed, node: n}
}

// Read implements source.Source.
func (s *Source) Read(ctx context.Context, request source.Request) (source.Reader, error) {
	if len(request.Pieces) == 0 {
		return nil, errors.New("serial: a request without a piece")
	}
	j := &joined{of: s, bufferBytes: request.BufferBytes, lines: request.Lines, span: spanOf(request.Pieces), pieces: slices.Clone(request.Pieces)}
	return j, j.begin(ctx)
}

// joined reads the snapshots that are lacking, and then follows the log.
type joined struct {
	of          *Source
	bufferBytes int
	lines       bool
	span        changefeed.Span
	pieces      []source.Piece

	pages  source.Reader // while a snapshot is read
	live   *reader       // afterwards
	failed error
	now    atomic.Pointer[source.Reader] // the one of them that is read, for any goroutine
}

// begin opens the reader for what is due.
func (j *joined) begin(ctx context.Context) error {
	request := source.Request{Pieces: j.pieces, BufferBytes: j.bufferBytes, Lines: j.lines}
	if slices.ContainsFunc(j.pieces, func(p source.Piece) bool { return p.Mark == change.Mark{} }) {
		pages, err := j.of.Serial.Read(ctx, request)
		if err != nil {
			return fmt.Errorf("serial: read the snapshot: %w", err)
		}
		j.pages = pages
		j.now.Store(&pages)
		return nil
	}
	j.live = j.of.node.newReader(j.of.feed.Changefeed, j.of.feed.UID, request)
	live := source.Reader(j.live)
	j.now.Store(&live)
	return nil
}

// Next implements source.Reader.
func (j *joined) Next(ctx context.Context) (source.Event, error) {
	for j.failed == nil {
		next := j.tail
		if j.pages != nil {
			next = j.page
		}
		event, due, err := next(ctx)
		switch {
		case err == nil && due:
			return event, nil
		case err != nil && ctx.Err() != nil:
			return source.Event{}, err
		}
		j.failed = err
	}
	return source.Event{}, j.failed
}

// page returns the next page of the snapshot; false if there is none left, and the log is followed now.
func (j *joined) page(ctx context.Context) (event source.Event, due bool, err error) {
	event, err = j.pages.Next(ctx)
	if errors.Is(err, io.EOF) {
		return source.Event{}, false, j.follow(ctx)
	}
	if err == nil {
		j.pieces = turned(j.pieces, &event)
	}
	return event, true, err
}

// tail returns the next event of the log; false if a snapshot has to be read again.
func (j *joined) tail(ctx context.Context) (event source.Event, due bool, err error) {
	event, err = j.live.Next(ctx)
	if gap, ok := errors.AsType[*Gap](err); ok {
		return source.Event{}, false, j.bridge(ctx, gap)
	}
	return event, true, err
}

// follow goes on with the log after the last page.
func (j *joined) follow(ctx context.Context) error {
	err := j.pages.Close()
	j.pages = nil
	if err != nil {
		return fmt.Errorf("serial: close the snapshot: %w", err)
	}
	for i := range j.pieces {
		if j.pieces[i].Mark == (change.Mark{}) {
			return fmt.Errorf("serial: the snapshot ended without a page of %v", j.pieces[i].Span)
		}
	}
	return j.begin(ctx)
}

// bridge reads anew what is below all that the log still has, if that is wanted.
func (j *joined) bridge(ctx context.Context, gap *Gap) error {
	if j.of.feed.OnGap != GapResnapshots {
		return gap.fault()
	}
	j.pieces = j.live.marks()
	j.of.node.config.Logger.Warn("changes were forgotten by the source: a new snapshot is read",
		zap.Stringer("changefeed", j.of.feed.Changefeed), zap.Stringer("at", gap.At), zap.Stringer("kept_from", gap.Floor))
	for i := range j.pieces {
		if j.pieces[i].Mark.Whole() < gap.Floor {
			j.pieces[i].Mark = change.Mark{}
		}
	}
	if err := j.live.Close(); err != nil {
		return err
	}
	j.live = nil
	return j.begin(ctx)
}

// turned returns the pieces after a page of a snapshot.
func turned(pieces []source.Piece, page *source.Event) []source.Piece {
	var out []source.Piece
	for _, piece := range pieces {
		inner, overlaps := piece.Span.Intersect(page.Span)
		if !overlaps {
			out = append(out, piece)
			continue
		}
		for _, rest := range piece.Span.Subtract(inner) {
			out = append(out, source.Piece{Span: rest, Mark: piece.Mark})
		}
		out = append(out, source.Piece{Span: inner, Mark: change.Later(piece.Mark, page.To)})
	}
	slices.SortFunc(out, func(a, b source.Piece) int { return a.Span.Compare(b.Span) })
	return merged(out)
}

// merged joins neighbours that are equally far, so that a long snapshot is few pieces.
func merged(pieces []source.Piece) []source.Piece {
	out := pieces[:0]
	for _, piece := range pieces {
		if n := len(out); n > 0 && out[n-1].Mark == piece.Mark {
			out[n-1].Span.End = piece.Span.End
			continue
		}
		out = append(out, piece)
	}
	return out
}

// current returns what is read now.
func (j *joined) current() source.Reader {
	if now := j.now.Load(); now != nil {
		return *now
	}
	return nil
}

// Waits implements source.Waiting.
func (j *joined) Waits() string {
	if waiting, ok := j.current().(source.Waiting); ok {
		return waiting.Waits()
	}
	return ""
}

// Hurry implements source.Hurrying.
func (j *joined) Hurry() {
	if hurrying, ok := j.current().(source.Hurrying); ok {
		hurrying.Hurry()
	}
}

// Progress implements source.Progressing.
func (j *joined) Progress() (source.Progress, bool) {
	if reading, ok := j.current().(source.Progressing); ok {
		return reading.Progress()
	}
	return source.Progress{}, false
}

// Close implements source.Reader.
func (j *joined) Close() error {
	var err error
	if j.pages != nil {
		err = j.pages.Close()
	}
	if j.live != nil {
		err = errors.Join(err, j.live.Close())
	}
	if j.failed == nil {
		j.failed = errClosed
	}
	return err
}
