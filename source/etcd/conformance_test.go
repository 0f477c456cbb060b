package etcd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/sourcetest"
)

// proxy stands between a source and etcd, so that tests can cut the line.
type proxy struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	deaf  bool // what arrives is swallowed
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, target: target}
	p.group.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		p.group.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.group.Go(func() { p.pipe(in, out) })
		p.group.Go(func() { p.pipe(out, in) })
	}
}

func (p *proxy) pipe(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		deaf := p.deaf
		p.mu.Unlock()
		if err == nil && !deaf {
			_, err = to.Write(buffer[:n])
		}
		if err != nil {
			_ = from.Close()
			_ = to.Close()
			return
		}
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *proxy) setDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

func TestConformance(t *testing.T) {
	line := newProxy(t, strings.TrimPrefix(member.Endpoint, "http://"))
	prefix := func(t *testing.T) string { return prefixOf(t) }
	options := changefeed.Options{source.OptionSnapshotChunk: "7"}
	sourcetest.Run(t, sourcetest.Subject{
		Open: func(t *testing.T) source.Source {
			return openUnclosed(t, line.listener.Addr().String(), prefix(t), options)
		},
		OpenBridging: func(t *testing.T) source.Source {
			return openUnclosed(t, line.listener.Addr().String(), prefix(t),
				changefeed.Options{source.OptionOnGap: source.GapResnapshot, source.OptionSnapshotChunk: "7"})
		},
		Key:   func(t *testing.T, i int) string { return fmt.Sprintf("%s%04d", prefix(t), i) },
		Value: func(row change.Row) string { return string(row.(*change.KV).Value) },
		Write: func(ctx context.Context, writes []sourcetest.Write) (change.Position, error) {
			var ops []clientv3.Op
			for _, write := range writes {
				if write.Deleted {
					ops = append(ops, clientv3.OpDelete(write.Key))
				} else {
					ops = append(ops, clientv3.OpPut(write.Key, write.Value))
				}
			}
			answer, err := store.Txn(ctx).Then(ops...).Commit()
			if err != nil {
				return 0, err
			}
			return change.Position(answer.Header.Revision), nil
		},
		Forget: func(ctx context.Context, position change.Position) error {
			_, err := store.Compact(ctx, int64(position))
			return err
		},
		Disturb: func(*testing.T) { line.cut() },
	})
}
