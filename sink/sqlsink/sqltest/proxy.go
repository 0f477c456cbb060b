package sqltest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Direction of bytes through a proxy.
type Direction uint8

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// Proxy passes bytes on, until it is told to cut: after so many more bytes of one direction everything is cut. It ends with the test.
type Proxy struct {
	listener net.Listener

	mu     sync.Mutex // guards what follows
	server string
	armed  bool
	at     Direction
	left   int
	cut    bool
	conns  []net.Conn
	lost   map[net.Conn]bool // what is read from them goes nowhere
}

// NewProxy starts a proxy before a server.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{listener: listener, server: server}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.before())
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			group.Go(func() { p.pass(ToServer, client, server) })
			group.Go(func() { p.pass(ToClient, server, client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.end()
		group.Wait()
	})
	return p
}

// before returns which server it is before.
func (p *Proxy) before() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// Move has another server in the place of this one, as after a failover: connections are ended.
func (p *Proxy) Move(server string) {
	p.mu.Lock()
	p.server = server
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// Host is where the proxy listens.
func (p *Proxy) Host() string { return p.listener.Addr().String() }

// CutAfter arms the proxy.
func (p *Proxy) CutAfter(at Direction, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed, p.at, p.left, p.cut = true, at, bytes, false
}

// Lose has everything that is open pass nothing any more, without either end being told. What is opened later is well.
func (p *Proxy) Lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = make(map[net.Conn]bool, len(p.conns))
	for _, conn := range p.conns {
		p.lost[conn] = true
	}
}

func (p *Proxy) isLost(from net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost[from]
}

// passed returns how many bytes went by since it was armed with more than that.
func (p *Proxy) passed(armed int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return armed - p.left
}

// WasCut reports whether it came to the cut.
func (p *Proxy) WasCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *Proxy) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

// pass moves bytes one way.
func (p *Proxy) pass(way Direction, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if p.isLost(from) && err == nil {
			continue
		}
		allowed, over := p.allow(way, n)
		if _, failed := to.Write(buffer[:allowed]); failed != nil || err != nil || over {
			if over {
				p.end()
			}
			_ = from.Close()
			_ = to.Close()
			_, _ = io.Copy(io.Discard, from)
			return
		}
	}
}

// allow returns how many of n bytes may pass, and whether the connections are to be cut then.
func (p *Proxy) allow(way Direction, n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || p.at != way {
		return n, false
	}
	if n < p.left || p.left < 0 {
		p.left -= n
		return n, false
	}
	p.armed, p.cut = false, true
	return p.left, true
}
