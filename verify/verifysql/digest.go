package verifysql

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"fencerow/verify"
)

// What a cell begins with where it is digested.
const (
	cellNull    = 'n'
	cellValue   = 'v'
	cellRefused = 'r' // the other side can't have it, and so has something else
)

// appendCell appends a cell so that no two rows are written alike.
func appendCell(dst []byte, column *Column, cell []byte) []byte {
	if cell == nil {
		return append(dst, cellNull)
	}
	mark := byte(cellValue)
	formed, err := column.Form(cell)
	if err != nil {
		mark, formed = cellRefused, cell
	}
	return append(binary.BigEndian.AppendUint64(append(dst, mark), uint64(len(formed))), formed...)
}

// row is what was read of one row.
type row struct {
	version string
	key     string
	digest  [sha256.Size]byte
	columns map[string]string
	bytes   int
}

// rowReader digests rows.
type rowReader struct {
	table   *Table
	columns bool // one by one too
	buffer  []byte
}

func (r *rowReader) read(cells [][]byte) (row, error) {
	keys := 1 + len(r.table.Key)
	if len(cells) != keys+len(r.table.Columns) {
		return row{}, errCells
	}
	out := row{version: string(cells[0])}
	for _, cell := range cells {
		out.bytes += len(cell)
	}
	var err error
	if out.key, err = keyOf(cells[1:keys]); err != nil {
		return row{}, err
	}
	if r.columns {
		out.columns = make(map[string]string, len(r.table.Columns))
	}
	r.buffer = r.buffer[:0]
	for i := range r.table.Columns {
		from := len(r.buffer)
		r.buffer = appendCell(r.buffer, &r.table.Columns[i], cells[keys+i])
		if r.columns {
			one := sha256.Sum256(r.buffer[from:])
			out.columns[r.table.Columns[i].Name] = string(one[:])
		}
	}
	out.digest = sha256.Sum256(r.buffer)
	if cap(r.buffer) > bufferKept {
		r.buffer = nil
	}
	return out, nil
}

// bufferKept bounds what is kept of the room for the longest row.
const bufferKept = 1 << 20

func (r *row) verify() verify.Row {
	return verify.Row{Key: r.key, Version: r.version, Digest: string(r.digest[:]), Columns: r.columns}
}

// set digests rows in any order: it is the sum of their digests, word by word.
type set struct {
	rows  int64
	words [sha256.Size / 8]uint64
}

func (s *set) add(digest [sha256.Size]byte) {
	s.rows++
	for i := range s.words {
		s.words[i] += binary.BigEndian.Uint64(digest[i*8:])
	}
}

func (s *set) text() string {
	var out []byte
	for _, word := range s.words {
		out = binary.BigEndian.AppendUint64(out, word)
	}
	return hex.EncodeToString(out)
}

func (s *set) sum() verify.Sum { return verify.Sum{Rows: s.rows, Digest: s.text()} }

// keyed digests a row with its key: two rows that changed places are not the same rows.
func (r *row) keyed() [sha256.Size]byte {
	return sha256.Sum256(append([]byte(r.key), r.digest[:]...))
}
