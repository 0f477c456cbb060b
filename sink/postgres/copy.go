package postgres

import (
	"bytes"
	"io"
	"math"

	"github.com/jackc/pgx/v5/pgtype"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// texts is an argument of type text[]: a cell of each of many rows, nil where it is NULL.
type texts [][]byte

// textArray encodes cells as [array] does.
func textArray(cells texts) []byte {
	size := 20
	for _, cell := range cells {
		size += 4 + len(cell)
	}
	out := make([]byte, 0, size)
	for _, word := range []uint32{1, 1, pgtype.TextOID, uint32(len(cells)), 1} {
		out = binary32(out, word)
	}
	for _, cell := range cells {
		if cell == nil {
			out = binary32(out, math.MaxUint32) // NULL
			continue
		}
		out = append(binary32(out, uint32(len(cell))), cell...)
	}
	return out
}

// copyChunkBytes is how much a [copyReader] makes at a time: what goes in one message of COPY.
const copyChunkBytes = 64 << 10

// copyReader reads as rows that COPY takes in its text form: columns between tabs, NULL as \N, and what would be taken for one of
// these, or for the end of a line, behind a backslash. It makes them as they are read, so that the server works meanwhile.
type copyReader struct {
	step  *sqlsink.Step
	row   int // the next one
	chunk []byte
	from  int // what of the chunk was not read
}

// copied reads the rows of a step as COPY takes them.
func copied(step *sqlsink.Step) io.Reader {
	if step.Lines != nil {
		return bytes.NewReader(step.Lines.Text)
	}
	return &copyReader{step: step}
}

// Read implements [io.Reader].
func (r *copyReader) Read(p []byte) (int, error) {
	if r.from == len(r.chunk) {
		r.fill()
	}
	if r.from == len(r.chunk) {
		return 0, io.EOF
	}
	n := copy(p, r.chunk[r.from:])
	r.from += n
	return n, nil
}

// fill makes the next rows.
func (r *copyReader) fill() {
	if r.chunk == nil {
		r.chunk = make([]byte, 0, copyChunkBytes+copyChunkBytes/8)
	}
	out := r.chunk[:0]
	for ; r.row < len(r.step.Rows) && len(out) < copyChunkBytes; r.row++ {
		cells := r.step.Rows[r.row].Cells
		for k := range r.step.Columns {
			if k > 0 {
				out = append(out, '\t')
			}
			out = change.AppendCell(out, cells[r.step.Columns[k].At])
		}
		out = append(out, '\n')
	}
	r.chunk, r.from = out, 0
}
