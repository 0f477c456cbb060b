package postgres

import (
	"math"

	"github.com/jackc/pgx/v5/pgtype"

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

// copyData is rows as COPY reads them in its text form: columns between tabs, NULL as \N, and what would be taken for one of
// these, or for the end of a line, behind a backslash.
func copyData(step sqlsink.Step) []byte {
	size := 0
	for i := range step.Rows {
		for _, column := range step.Columns {
			size += len(step.Rows[i].Cells[column.At]) + 2
		}
	}
	out := make([]byte, 0, size+size/16)
	for i := range step.Rows {
		cells := step.Rows[i].Cells
		for k := range step.Columns {
			if k > 0 {
				out = append(out, '\t')
			}
			if cell := cells[step.Columns[k].At]; cell == nil {
				out = append(out, '\\', 'N')
			} else {
				out = appendEscaped(out, cell)
			}
		}
		out = append(out, '\n')
	}
	return out
}

// appendEscaped appends a cell. Cells have mostly nothing to escape.
func appendEscaped(out, cell []byte) []byte {
	start := 0
	for i, b := range cell {
		var as byte
		switch b {
		case '\\':
			as = '\\'
		case '\t':
			as = 't'
		case '\n':
			as = 'n'
		case '\r':
			as = 'r'
		default:
			continue
		}
		out = append(append(out, cell[start:i]...), '\\', as)
		start = i + 1
	}
	return append(out, cell[start:]...)
}
