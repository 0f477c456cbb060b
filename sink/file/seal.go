package file

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"fencerow/fence"
	"fencerow/sink"
)

// sealed returns the seal of an incarnation that a later entry of the claims has ended, and makes it if nobody has yet.
// The entry must exist before the segments are looked at: then a writer that found no later entry after its sync had its
// batch here before, and it is counted; one that comes later finds the entry. Two may seal at once and see different
// lengths; the first to create the seal decides, and both go on with that one.
//
// initial are the pieces with which the claim began.
func (s *Sink) sealed(incarnation sink.Incarnation, token fence.Token, initial []sink.Piece) (seal, error) {
	found, err := readSeal(s.disk, s.directory, incarnation)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	// The entry that ended the incarnation, and the names of its segments, must be as durable as the seal will be.
	if err := s.syncDirectories(claimsDirectory, dataDirectory); err != nil {
		return seal{}, err
	}
	made, err := s.measure(incarnation, token, initial)
	if err != nil {
		return seal{}, err
	}
	s.step(pointMeasured)
	return s.createSeal(made)
}

// createSeal makes the seal, or returns the one that was there first.
func (s *Sink) createSeal(made seal) (seal, error) {
	made.Format, made.At = formatVersion, s.now().UTC().Format(time.RFC3339Nano)
	data, err := sign(made, nil)
	if err != nil {
		return seal{}, err
	}
	name := sealName(s.directory, made.Incarnation)
	err = createWhole(s.disk, name, s.nonce(), append(data, '\n'))
	if errors.Is(err, fs.ErrExist) {
		// Somebody else's may not be durable yet, and what follows builds on it.
		if err := s.syncDirectories(sealsDirectory); err != nil {
			return seal{}, err
		}
		return readSeal(s.disk, s.directory, made.Incarnation)
	}
	if err == nil && s.log != nil {
		_ = s.disk.Remove(reachedName(s.directory, made.Incarnation)) //nolint:errcheck // the seal says more, and is read first
	}
	return made, err
}

// measure finds the end of the last whole batch of the incarnation, and makes it durable.
func (s *Sink) measure(incarnation sink.Incarnation, token fence.Token, initial []sink.Piece) (seal, error) {
	found := seal{Incarnation: incarnation, Pieces: toPiecesJSON(initial)}
	all, err := segments(s.disk, s.directory)
	if err != nil {
		return seal{}, err
	}
	ids := all[incarnation]
	for _, id := range slices.Backward(ids) {
		measured, err := s.measureSegment(id, token)
		if err != nil {
			return seal{}, err
		}
		if measured.Segment != 0 {
			return measured, nil
		}
		// Crash between creating a segment and syncing its header: it holds nothing, the one before is the last.
	}
	return found, nil
}

// measureSegment returns what a seal at the end of the segment would say, with Segment 0 if it has no whole header.
func (s *Sink) measureSegment(id segmentID, token fence.Token) (out seal, err error) {
	r, err := openSegment(s.disk, s.directory, id)
	if err != nil {
		return seal{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	p, err := follow(r, s.directory, token)
	if err != nil || p == nil {
		return seal{}, err
	}
	// A batch that the writer has written but not synced yet may be in what was measured.
	if err := r.file.Sync(); err != nil {
		return seal{}, err
	}
	return seal{
		Incarnation: id.incarnation, Segment: id.number, Bytes: p.end,
		Pieces: toPiecesJSON(p.m.Pieces(id.incarnation)), Wrote: p.wrote.toJSON(),
	}, nil
}

// progress is how far the claim was at the end of the last whole batch of a segment.
type progress struct {
	m     sink.Map
	wrote spanSet
	end   int64
}

// follow reads a segment to the end of its last whole batch. nil: the header isn't whole.
func follow(r *segmentReader, directory string, token fence.Token) (*progress, error) {
	var p *progress
	for {
		u, err := r.nextCounted(directory)
		switch {
		case errors.Is(err, io.EOF):
			return p, nil
		case errors.Is(err, errTorn):
			return p, nil
		case err != nil:
			return nil, err
		case u.header != nil && p == nil:
			if p, err = begin(u, token); err != nil {
				return nil, r.damage(directory, u.start)
			}
		case u.batch != nil && p != nil:
			if p.m, err = p.m.Advance(r.id.incarnation, u.batch.Span.span(), u.batch.mark()); err != nil {
				return nil, r.damage(directory, u.start)
			}
			if u.batch.Changes > 0 {
				p.wrote = p.wrote.with(u.batch.Span.span())
			}
			p.end = u.end
		case u.commit != 0 && p != nil:
		default:
			return nil, r.damage(directory, u.start)
		}
	}
}

// begin takes a segment's header as the start of its progress.
func begin(u unit, token fence.Token) (*progress, error) {
	var held []sink.Held
	for _, piece := range fromPiecesJSON(u.header.Pieces) {
		held = append(held, sink.Held{Piece: piece, Token: token, Incarnation: u.header.Incarnation})
	}
	m, err := sink.NewMap(held)
	if err != nil {
		return nil, err
	}
	return &progress{m: m, wrote: fromSpansJSON(u.header.Wrote), end: u.end}, nil
}

func (s *Sink) syncDirectories(names ...string) error {
	for _, name := range names {
		if err := s.disk.SyncDir(filepath.Join(s.directory, name)); err != nil {
			return err
		}
	}
	return nil
}
