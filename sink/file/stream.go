package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// stream is what one claim wrote, as far as a reader may take it, in order.
type stream struct {
	incarnation sink.Incarnation
	span        changefeed.Span
	token       fence.Token
	from        []*stream // claims before it that held a part of its span: all of theirs comes first
	seal        *seal     // nil while the claim lives
	segments    []segmentID
	finished    bool // sealed, and all was taken
	waits       bool // nothing more counted when it was last looked at

	reader   *segmentReader
	segment  uint64 // the last one that was opened
	consumed int64  // size of the one before it
	batches  uint64
	pieces   sink.Map // how far the claim came, as far as it was read

	taken    *batchHeader // of the batch that was taken last
	lines    []byte       // of the current batch, not taken yet
	position change.Position
	index    uint32
}

func (st *stream) isReady() bool { return len(st.lines) > 0 }

// isOpen reports whether all that has to come before was taken.
func (st *stream) isOpen() bool {
	for _, before := range st.from {
		if !before.finished {
			return false
		}
	}
	return true
}

// before orders the next changes of two streams.
func (st *stream) before(other *stream) bool {
	switch {
	case st.position != other.position:
		return st.position < other.position
	case st.index != other.index:
		return st.index < other.index
	default:
		return st.incarnation < other.incarnation
	}
}

// reached returns the position up to which the stream has been read entirely.
func (st *stream) reached() change.Position {
	lowest := ^change.Position(0)
	for _, piece := range st.pieces.Pieces(st.incarnation) {
		lowest = min(lowest, piece.Mark.Whole())
	}
	return lowest
}

// fill reads on until there is a change to take, or nothing more that counts for now.
func (st *stream) fill(d disk, directory string) error {
	for !st.isReady() && !st.finished {
		more, err := st.read(d, directory)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// read takes in one unit. It returns false when nothing more counts for now.
func (st *stream) read(d disk, directory string) (bool, error) {
	if st.reader == nil {
		return st.open(d, directory)
	}
	if st.seal != nil && st.segment == st.seal.Segment && st.reader.offset >= st.seal.Bytes {
		return st.closeSegment()
	}
	u, err := st.reader.nextCounted(directory)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errTorn):
		return st.stop(err, directory)
	case err != nil:
		return false, err
	case u.header != nil:
		return true, st.takeHeader(u, directory)
	case u.batch != nil:
		return st.takeBatch(u, directory)
	default:
		return true, nil
	}
}

// isWhole reports whether everything in the current segment counts: a later one exists, or the seal says so.
func (st *stream) isWhole() bool {
	if st.seal != nil {
		return st.segment < st.seal.Segment
	}
	return len(st.segments) > 0 && st.segment < st.segments[len(st.segments)-1].number
}

// stop decides what the end of the readable part of the segment means.
func (st *stream) stop(err error, directory string) (bool, error) {
	switch {
	case st.isWhole() && errors.Is(err, io.EOF):
		st.consumed = st.reader.offset
		return st.closeSegment()
	case st.isWhole(), st.seal != nil:
		return false, st.reader.damage(directory, st.reader.offset)
	default:
		st.reader.seek(st.reader.offset)
		return false, nil
	}
}

func (st *stream) closeSegment() (bool, error) {
	err := st.reader.close()
	st.reader = nil
	return true, err
}

// open goes on to the next segment.
func (st *stream) open(d disk, directory string) (bool, error) {
	for _, id := range st.segments {
		if id.number <= st.segment || st.seal != nil && id.number > st.seal.Segment {
			continue
		}
		if st.segment > 0 && id.number != st.segment+1 {
			return false, retired(directory, st.incarnation, st.segment+1)
		}
		reader, err := openSegment(d, directory, id)
		if errors.Is(err, fs.ErrNotExist) {
			if st.segment > 0 {
				return false, retired(directory, st.incarnation, id.number)
			}
			continue // retired before anything of this claim was read
		}
		if err != nil {
			return false, err
		}
		st.reader, st.segment = reader, id.number
		return true, nil
	}
	if st.seal == nil {
		return false, nil
	}
	if st.segment > 0 && st.segment < st.seal.Segment {
		return false, retired(directory, st.incarnation, st.segment+1)
	}
	st.finished = true
	return false, nil
}

// retired says that a file was deleted that a reader had still to read.
func retired(directory string, incarnation sink.Incarnation, number uint64) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLost, Field: "sink", Value: "file://" + directory, Permanent: true,
		Detail: fmt.Sprintf("no longer has segment %d of claim %d, which comes next", number, incarnation),
		Cure:   "read faster than the option retain deletes, or restore the file",
	}
}

func (st *stream) takeHeader(u unit, directory string) error {
	h := u.header
	if h.Incarnation != st.incarnation || h.Segment != st.segment || u.start != 0 {
		return st.reader.damage(directory, u.start)
	}
	if h.Format > formatVersion {
		return tooNew(st.reader.id.name(directory), h.Format)
	}
	if st.consumed > 0 && (h.Previous != st.consumed || h.Batches != st.batches) {
		return damaged(st.reader.id.name(directory), fmt.Errorf("the segment before it was cut from %d to %d bytes", h.Previous, st.consumed))
	}
	p, err := begin(u, st.token)
	if err != nil {
		return st.reader.damage(directory, u.start)
	}
	st.pieces, st.batches = p.m, h.Batches
	return nil
}

// takeBatch takes a batch if it counts.
func (st *stream) takeBatch(u unit, directory string) (bool, error) {
	counts := st.isWhole() || st.seal != nil && u.end <= st.seal.Bytes
	if !counts && st.seal == nil {
		mark, err := st.reader.nextCounted(directory)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errTorn) {
			return false, err
		}
		counts = err == nil && mark.commit == u.batch.Batch
	}
	if !counts {
		if st.seal != nil {
			return false, st.reader.damage(directory, u.start)
		}
		st.reader.seek(u.start)
		return false, nil
	}
	if u.batch.Batch != st.batches+1 {
		return false, st.reader.damage(directory, u.start)
	}
	pieces, err := st.pieces.Advance(st.incarnation, u.batch.Span.span(), u.batch.mark())
	if err != nil {
		return false, st.reader.damage(directory, u.start)
	}
	lines, err := st.reader.id.compress.unpack(u.payload)
	if err != nil {
		return false, errors.Join(st.reader.damage(directory, u.start), err)
	}
	st.pieces, st.batches, st.lines, st.taken = pieces, u.batch.Batch, lines, u.batch
	return true, st.peek()
}

// peek reads the order of the next change.
func (st *stream) peek() error {
	if len(st.lines) == 0 {
		return nil
	}
	line, _, _ := bytes.Cut(st.lines, []byte("\n"))
	var err error
	st.position, st.index, err = orderOf(line)
	return err
}

// take returns the next change's line and goes on behind it.
func (st *stream) take() ([]byte, error) {
	line, rest, _ := bytes.Cut(st.lines, []byte("\n"))
	st.lines = rest
	return line, st.peek()
}

// orderOf finds position and index in a change's line without reading the rest. What it looks for can't stand inside a
// JSON string, where its quotes would have backslashes.
func orderOf(line []byte) (change.Position, uint32, error) {
	const positionLead, indexLead = `"position":"`, `","index":`
	_, rest, found := bytes.Cut(line, []byte(positionLead))
	if !found {
		return 0, 0, fmt.Errorf("file: a change has no position: %.100q", line)
	}
	position, rest := leadingNumber(rest)
	if !bytes.HasPrefix(rest, []byte(indexLead)) {
		return 0, 0, fmt.Errorf("file: a change has no index: %.100q", line)
	}
	index, _ := leadingNumber(rest[len(indexLead):])
	return change.Position(position), uint32(index), nil
}

func leadingNumber(text []byte) (uint64, []byte) {
	const ten = 10
	value, i := uint64(0), 0
	for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
		value = value*ten + uint64(text[i]-'0')
	}
	return value, text[i:]
}

func (st *stream) close() error {
	if st.reader == nil {
		return nil
	}
	err := st.reader.close()
	st.reader = nil
	return err
}
