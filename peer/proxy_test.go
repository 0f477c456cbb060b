package peer

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between two nodes and disturbs their connections.
type proxy struct {
	address  string
	target   string
	listener net.Listener
	tasks    sync.WaitGroup

	mu      sync.Mutex
	conns   []*proxied
	refused bool
}

type proxied struct {
	client, server net.Conn
	mu             sync.Mutex
	frozen         bool
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: listener.Addr().String(), target: target, listener: listener}
	p.tasks.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.refuse(true)
		p.cut()
		p.tasks.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refused := p.refused
		p.mu.Unlock()
		if refused {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &proxied{client: client, server: server}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		p.tasks.Go(func() { c.copy(client, server) })
		p.tasks.Go(func() { c.copy(server, client) })
	}
}

func (c *proxied) copy(to io.WriteCloser, from io.ReadCloser) {
	buffer := make([]byte, 32*1024)
	for {
		n, err := from.Read(buffer)
		c.mu.Lock()
		frozen := c.frozen
		c.mu.Unlock()
		if frozen && err == nil {
			continue // swallowed
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	frozen := c.frozen
	c.mu.Unlock()
	if !frozen { // a half-open connection: the other end hears nothing of the close
		_ = to.Close()
	}
	_ = from.Close()
}

func (p *proxy) refuse(refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = refused
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.client.Close()
		_ = c.server.Close()
	}
	p.conns = nil
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.mu.Lock()
		c.frozen = true
		c.mu.Unlock()
	}
}
