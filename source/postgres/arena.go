package postgres

import "fencerow/change"

// Sizes of the blocks that rows are cut from: an allocation for some hundred rows, and small enough that an event that holds
// on to the blocks it shares with others holds on to little.
const (
	blockBytes  = 64 << 10
	blockCells  = 2048
	blockTuples = 256
)

// arena allocates the parts of rows in blocks. What it gave out is never given out again.
type arena struct {
	bytes  []byte
	cells  [][]byte
	tuples []change.Tuple
}

// copy returns a copy of data.
func (a *arena) copy(data []byte) []byte {
	out := a.room(len(data))[:len(data)]
	copy(out, data)
	a.keep(out)
	return out
}

// values returns copies of the values of a row.
func (a *arena) values(of [][]byte) [][]byte {
	size := 0
	for _, value := range of {
		size += len(value)
	}
	out, all := a.row(len(of)), a.room(size)
	for i, value := range of {
		if value != nil {
			from := len(all)
			all = append(all, value...)
			out[i] = all[from:len(all):len(all)]
		}
	}
	a.keep(all)
	return out
}

// room returns an empty slice with room for n bytes. It is taken only when it is kept, which is before anything else is
// asked for. It is not nil, also if nothing is to go there: what is nil in a row is NULL.
func (a *arena) room(n int) []byte {
	if a.bytes == nil || n > cap(a.bytes)-len(a.bytes) {
		if n > blockBytes/4 {
			return make([]byte, 0, n)
		}
		a.bytes = make([]byte, 0, blockBytes)
	}
	from := len(a.bytes)
	return a.bytes[from : from : from+n]
}

// keep takes what was written into the room. What outgrew it, or never was in a block, needs none.
func (a *arena) keep(written []byte) {
	free := a.bytes[len(a.bytes):cap(a.bytes)]
	if len(written) > 0 && len(free) >= len(written) && &free[:1][0] == &written[0] {
		a.bytes = a.bytes[:len(a.bytes)+len(written)]
	}
}

// row returns n cells.
func (a *arena) row(n int) [][]byte {
	if n > len(a.cells) {
		if n > blockCells/4 {
			return make([][]byte, n)
		}
		a.cells = make([][]byte, blockCells)
	}
	out := a.cells[:n:n]
	a.cells = a.cells[n:]
	return out
}

// tuple returns a tuple that is set.
func (a *arena) tuple(value change.Tuple) *change.Tuple {
	if len(a.tuples) == 0 {
		a.tuples = make([]change.Tuple, blockTuples)
	}
	out := &a.tuples[0]
	a.tuples = a.tuples[1:]
	*out = value
	return out
}
