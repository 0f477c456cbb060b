package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// Log is what a directory is asked in addition that serves as the log of another sink.
type Log struct {
	// Needless returns a position such that nobody needs what lies at or below it; 0 if that is not known. Segments are
	// retired by age only below it.
	Needless func(ctx context.Context) change.Position
}

// reachedDirectory holds, of each claim of a log that has not ended, up to where it is, so that others need not read its
// segments to know it.
const reachedDirectory = "reached"

func reachedName(directory string, incarnation sink.Incarnation) string {
	return filepath.Join(directory, reachedDirectory, fmt.Sprintf("%020d.json", incarnation))
}

// reachedMark is a hint that is never too high: it is written after the batch counts, and read with its checksum.
type reachedMark struct {
	Reached change.Position `json:"reached"`
}

// tell writes up to where the whole claim is. Crash before it: the hint is too low until the claim is sealed.
func (w *Writer) tell() error {
	if w.sink.log == nil {
		return nil
	}
	if w.reached == nil {
		if err := w.sink.disk.Mkdir(filepath.Join(w.sink.directory, reachedDirectory)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		var err error
		if w.reached, err = w.sink.disk.Overwrite(reachedName(w.sink.directory, w.incarnation)); err != nil {
			return err
		}
	}
	line, err := sign(reachedMark{Reached: lowest(w.m.Pieces(w.incarnation))}, nil)
	if err != nil {
		return err
	}
	_, err = w.reached.WriteAt(append(line, '\n'), 0) // a position never gets shorter
	return err
}

func lowest(pieces []sink.Piece) change.Position {
	if len(pieces) == 0 {
		return 0
	}
	low := pieces[0].Mark
	for _, piece := range pieces[1:] {
		low = change.Earlier(low, piece.Mark)
	}
	return low.Whole()
}

// Incarnation returns the claim that the writer writes under.
func (w *Writer) Incarnation() sink.Incarnation { return w.incarnation }

// Marks returns everything that was ever claimed, with marks that are those of now, or lower.
func (s *Sink) Marks(ctx context.Context) (sink.Map, error) {
	if err := ctx.Err(); err != nil {
		return sink.Map{}, err
	}
	st, err := s.refresh()
	if err != nil {
		return sink.Map{}, s.wrap("read the marks", err)
	}
	if st.head.Identity.UID != s.identity.UID {
		return sink.Map{}, nil
	}
	m := st.m
	for _, incarnation := range m.Writers(changefeed.Whole()) {
		var mark reachedMark
		if err := readRecord(s.disk, reachedName(s.directory, incarnation), &mark); err != nil {
			continue // nothing written yet, or being written over: what is known is lower
		}
		for _, piece := range m.Pieces(incarnation) {
			if m, err = m.Advance(incarnation, piece.Span, change.At(mark.Reached)); err != nil {
				return sink.Map{}, s.wrap("read the marks", err)
			}
		}
	}
	return m, nil
}

// needed returns the question whether somebody needs what is in a segment that has ended. Where up to it needs nothing is
// asked once, and only if there is a segment to ask about.
func (s *Sink) needed(ctx context.Context) func(segmentID) (bool, error) {
	if s.log == nil {
		return func(segmentID) (bool, error) { return false, nil }
	}
	needless := sync.OnceValue(func() change.Position { return s.log.Needless(ctx) })
	return func(id segmentID) (bool, error) {
		end, err := s.endOf(id)
		if err != nil {
			return true, err
		}
		for _, piece := range end {
			if piece.Mark.Position > needless() {
				return true, nil
			}
		}
		return false, nil
	}
}

// endOf returns how far the claim was when the segment had ended: the next one says so, or the seal.
func (s *Sink) endOf(id segmentID) (pieces []sink.Piece, err error) {
	next := id
	next.number++
	r, err := openSegment(s.disk, s.directory, next)
	if errors.Is(err, fs.ErrNotExist) {
		sealed, err := readSeal(s.disk, s.directory, id.incarnation)
		if err != nil {
			return nil, err
		}
		return fromPiecesJSON(sealed.Pieces), nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	u, err := r.next()
	if err != nil {
		return nil, err
	}
	if u.header == nil {
		return nil, r.damage(s.directory, 0)
	}
	return fromPiecesJSON(u.header.Pieces), nil
}
