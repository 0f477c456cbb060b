package postgres

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A server that is far behind sends each row by itself as soon as it has decoded it. To be woken for each costs both sides more than the
// row does, and what is sent while the window is open costs the server a packet a row. So what comes without a break is left to
// coalesce: the longer, the more of it there is.
const (
	// coalesceBytes is what is read at once at most.
	coalesceBytes = 1 << 20
	// coalesceEnough is what is not waited for any longer.
	coalesceEnough = coalesceBytes / 2
	// coalesceFor is how long what comes is left so at first, and all that it is if less than coalesceMany came by then: changes as they are
	// made are not held up any longer.
	coalesceFor  = time.Millisecond
	coalesceMany = 8 << 10
	// coalesceStep is how long it is left so then, coalesceSteps times at most, until there is enough or nothing more comes.
	coalesceStep  = 5 * time.Millisecond
	coalesceSteps = 4
	// coalesceFrom is after how many reads that hardly waited it begins: more than a usual transaction has rows, which so is not held up.
	coalesceFrom = 64
	// coalesceGap is how long a read may wait that counts as one of these.
	coalesceGap = 200 * time.Microsecond
)

// coalescer reads what comes without a break in few large pieces, and all else at once. It is used by one goroutine.
type coalescer struct {
	from    io.Reader
	waiting func() int // bytes that a read would not wait for
	buffer  []byte
	unread  []byte // of the buffer
	quick   int    // reads in a row that hardly waited
}

func newCoalescer(from io.Reader, waiting func() int) *coalescer {
	return &coalescer{from: from, waiting: waiting, buffer: make([]byte, coalesceBytes)}
}

// Read implements [io.Reader].
func (g *coalescer) Read(p []byte) (int, error) {
	if len(g.unread) == 0 {
		if g.quick >= coalesceFrom {
			g.coalesce()
		}
		began := time.Now()
		n, err := g.from.Read(g.buffer)
		if g.quick++; time.Since(began) > coalesceGap {
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

// coalesce waits while more comes. Where no more fits, as in a small window, that ends it too.
func (g *coalescer) coalesce() {
	<-time.NewTimer(coalesceFor).C
	there := g.waiting()
	for step, before := 0, 0; step < coalesceSteps && coalesceMany <= there && before < there && there < coalesceEnough; step++ {
		<-time.NewTimer(coalesceStep).C
		before, there = there, g.waiting()
	}
}

// waitingIn returns a function that says how much of a connection has come and was not read; 0 where that is not known. Under TLS it is
// what came in all, which is near enough.
func waitingIn(conn net.Conn) func() int {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	unknown := func() int { return 0 }
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return unknown
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return unknown
	}
	return func() (n int) {
		if raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) != nil || err != nil {
			return 0
		}
		return n
	}
}
