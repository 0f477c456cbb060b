package postgres

import (
	"io"
	"time"
)

const (
	// gatherBytes is what is read at once at most: more than the server sends while it is gathered.
	gatherBytes = 256 << 10
	// gatherFor is how long what comes is gathered. A server that is far behind sends each row by itself as soon as it has decoded it; to be
	// woken for each costs both sides more than the row does.
	gatherFor = time.Millisecond
	// gatherFrom is after how many reads that hardly waited it begins: more than a usual transaction has rows, which so is not held up.
	gatherFrom = 64
	// gatherGap is how long a read may wait that counts as one of these.
	gatherGap = 200 * time.Microsecond
)

// gatherer reads what comes without a break in few large pieces, and all else at once. It is used by one goroutine.
type gatherer struct {
	from   io.Reader
	buffer []byte
	unread []byte // of the buffer
	quick  int    // reads in a row that hardly waited
}

func newGatherer(from io.Reader) *gatherer {
	return &gatherer{from: from, buffer: make([]byte, gatherBytes)}
}

// Read implements [io.Reader].
func (g *gatherer) Read(p []byte) (int, error) {
	if len(g.unread) == 0 {
		if g.quick >= gatherFrom {
			<-time.NewTimer(gatherFor).C
		}
		began := time.Now()
		n, err := g.from.Read(g.buffer)
		if g.quick++; time.Since(began) > gatherGap {
			g.quick = 0
		}
		if g.unread = g.buffer[:n]; n == 0 {
			return 0, err //nolint:wrapcheck // a reader's own, io.EOF too
		}
	}
	n := copy(p, g.unread)
	g.unread = g.unread[n:]
	return n, nil
}
