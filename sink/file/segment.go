package file

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// segmentHeader is the first line of a data file: whose it is, and how far its claim was when the file began, so that
// the files before it are not needed to go on.
type segmentHeader struct {
	Segment     uint64           `json:"segment"`
	Format      int              `json:"format"`
	Changefeed  string           `json:"changefeed"`
	UID         changefeed.UID   `json:"uid"`
	Incarnation sink.Incarnation `json:"incarnation"`
	Epoch       fence.Epoch      `json:"epoch"`
	Seq         fence.Seq        `json:"seq"`
	Batches     uint64           `json:"batches"`        // in the segments before
	Previous    int64            `json:"previous_bytes"` // length of the segment before
	Pieces      []pieceJSON      `json:"pieces"`
	Wrote       []spanJSON       `json:"wrote,omitempty"`
}

// batchHeader is the line before the lines of a batch. Its checksum is over both.
type batchHeader struct {
	Batch    uint64          `json:"batch"`   // from 1, over all segments of the incarnation
	Changes  int             `json:"changes"` // lines that follow
	Bytes    int64           `json:"bytes"`   // that these take in the file
	Span     spanJSON        `json:"span"`
	To       change.Position `json:"to"`
	Index    uint32          `json:"index,omitempty"`
	Snapshot bool            `json:"snapshot,omitempty"`
}

func (h *batchHeader) mark() change.Mark { return change.Mark{Position: h.To, Index: h.Index} }

// commitMark is the line after a batch that counts.
type commitMark struct {
	Commit uint64 `json:"commit"`
}

const (
	segmentLead = `{"segment":`
	batchLead   = `{"batch":`
	commitLead  = `{"commit":`
)

// commitLineBytesMax bounds a commit mark.
const commitLineBytesMax = len(commitLead) + 20 + checksumBytes

// unit is what stands next in a data file: one of the three.
type unit struct {
	header  *segmentHeader
	batch   *batchHeader
	payload []byte // of the batch, as stored
	commit  uint64
	start   int64
	end     int64 // offset behind it
}

// segmentReader reads the units of a data file in order.
type segmentReader struct {
	id     segmentID
	file   handle
	buffer *bufio.Reader
	offset int64
}

const readBufferBytes = 256 << 10

func openSegment(d disk, directory string, id segmentID) (*segmentReader, error) {
	file, err := d.Open(id.name(directory))
	if err != nil {
		return nil, err
	}
	r := &segmentReader{id: id, file: file}
	r.seek(0)
	return r, nil
}

func (r *segmentReader) close() error { return r.file.Close() }

// seek goes on at the offset, and forgets what was read ahead, so that what was appended since is seen.
func (r *segmentReader) seek(offset int64) {
	const unbounded = 1 << 62
	r.offset = offset
	section := io.NewSectionReader(r.file, offset, unbounded)
	if r.buffer == nil {
		r.buffer = bufio.NewReaderSize(section, readBufferBytes)
		return
	}
	r.buffer.Reset(section)
}

// next reads the next unit. io.EOF: the file ends here; errTorn: what stands here is not whole (yet).
func (r *segmentReader) next() (unit, error) {
	line, size, err := readLine(r.buffer, r.id.compress)
	if err != nil {
		return unit{}, err
	}
	u := unit{start: r.offset, end: r.offset + size}
	switch {
	case bytes.HasPrefix(line, []byte(segmentLead)):
		u.header = new(segmentHeader)
		err = signed(line, nil, u.header)
	case bytes.HasPrefix(line, []byte(commitLead)):
		var mark commitMark
		err = signed(line, nil, &mark)
		u.commit = mark.Commit
	case bytes.HasPrefix(line, []byte(batchLead)):
		err = r.batch(line, &u)
	default:
		err = errTorn
	}
	if err != nil {
		return unit{}, err
	}
	r.offset = u.end
	return u, nil
}

// nextCounted is next, but what is torn although something behind it counts is damage.
func (r *segmentReader) nextCounted(directory string) (unit, error) {
	u, err := r.next()
	if !errors.Is(err, errTorn) {
		return u, err
	}
	counted, err := r.countedAfter(r.offset)
	if err != nil {
		return unit{}, err
	}
	if !counted {
		return unit{}, errTorn
	}
	// A live writer's mark may have been half there when it was read, and be whole now: then so is all before it.
	r.seek(r.offset)
	if u, err = r.next(); errors.Is(err, errTorn) {
		return unit{}, r.damage(directory, r.offset)
	}
	return u, err
}

func (r *segmentReader) batch(line []byte, u *unit) error {
	var unproven batchHeader
	if err := json.Unmarshal(line, &unproven); err != nil || unproven.Bytes < 0 || unproven.Bytes > payloadBytesMax {
		return errTorn
	}
	payload, err := readPayload(r.buffer, unproven.Bytes)
	if err != nil {
		return err
	}
	u.batch, u.payload = new(batchHeader), payload
	u.end += unproven.Bytes
	if err := signed(line, payload, u.batch); err != nil {
		return err
	}
	if span := u.batch.Span.span(); !span.Valid() {
		return errTorn
	}
	return nil
}

// signed checks and reads a line of a data file. What does not hold is torn.
func signed(line, payload []byte, into any) error {
	body, err := verify(line, payload)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errTorn
	}
	return nil
}

// countedAfter reports whether a commit mark stands anywhere behind the offset. Then what is torn there is not the end
// that a crash left, since a mark is only written when all before it was on disk: the file is damaged.
func (r *segmentReader) countedAfter(offset int64) (bool, error) {
	const windowBytes = 128 << 10
	buffer := make([]byte, windowBytes+commitLineBytesMax)
	for {
		n, err := r.file.ReadAt(buffer, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		for rest := buffer[:n]; ; {
			at := bytes.Index(rest, []byte(commitLead))
			if at < 0 {
				break
			}
			line, _, found := bytes.Cut(rest[at:min(len(rest), at+commitLineBytesMax+1)], []byte("\n"))
			if found && signed(line, nil, new(commitMark)) == nil {
				return true, nil
			}
			rest = rest[at+1:]
		}
		if err != nil {
			return false, nil //nolint:nilerr // the end of the file
		}
		offset += windowBytes
	}
}

// damage describes a place of the file at which something that counts can't be read.
func (r *segmentReader) damage(directory string, offset int64) error {
	return damaged(r.id.name(directory), fmt.Errorf("what stands at byte %d counts, but can't be read", offset))
}
