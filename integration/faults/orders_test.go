package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// order and news are what goes over a process's socket; internal/failpoint explains them.
type order struct {
	Arm     string `json:"arm,omitempty"`
	Point   string `json:"point,omitempty"`
	Match   string `json:"match,omitempty"`
	Disarm  string `json:"disarm,omitempty"`
	Release string `json:"release,omitempty"`
}

type news struct {
	PID    int    `json:"pid"`
	Done   string `json:"done"`
	Error  string `json:"error"`
	Hit    string `json:"hit"`
	Detail string `json:"detail"`
}

// hit is an armed failpoint that a process waits at.
type hit struct {
	control *control
	name    string
	detail  string
}

// release lets the process go on there, when it runs.
func (h *hit) release() { h.control.send(order{Release: h.name}) }

// control gives orders to the processes of one node, one after another, and counts what was hit.
type control struct {
	t        *testing.T
	path     string
	listener net.Listener
	hits     chan *hit
	done     sync.WaitGroup

	mu    sync.Mutex
	conn  net.Conn
	armed map[string]bool // told by the process that it is
	count int
}

// hitsMax is above what one case arms.
const hitsMax = 16

func newControl(t *testing.T) *control {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp") //nolint:usetesting // a socket's path has to be short
	require.NoError(t, err)
	c := &control{t: t, path: filepath.Join(dir, "s"), hits: make(chan *hit, hitsMax), armed: map[string]bool{}}
	c.listener, err = (&net.ListenConfig{}).Listen(t.Context(), "unix", c.path)
	require.NoError(t, err)
	c.done.Go(c.serve)
	t.Cleanup(func() {
		_ = c.listener.Close()
		c.hangUp()
		c.done.Wait()
		_ = os.RemoveAll(dir)
	})
	return c
}

func (c *control) serve() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.hangUp()
		c.mu.Lock()
		c.conn, c.armed = conn, map[string]bool{}
		c.mu.Unlock()
		c.done.Go(func() { c.read(conn) })
	}
}

func (c *control) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

func (c *control) read(conn net.Conn) {
	lines := json.NewDecoder(conn)
	for {
		var one news
		if lines.Decode(&one) != nil {
			return
		}
		c.mu.Lock()
		if one.Hit != "" {
			c.count++
			delete(c.armed, one.Hit)
			select {
			case c.hits <- &hit{control: c, name: one.Hit, detail: one.Detail}:
			default:
			}
		} else if one.Done != "" && one.Error == "" {
			c.armed[one.Done] = true
		}
		c.mu.Unlock()
	}
}

func (c *control) send(o order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return // between two processes: nothing is armed there
	}
	line, err := json.Marshal(o)
	if err == nil {
		_, _ = c.conn.Write(append(line, '\n'))
	}
}

// arm sets a failpoint for one hit, and waits until the process says that it is set.
func (c *control) arm(name, point, match string) error {
	c.send(order{Arm: name, Point: point, Match: match})
	return await(waitMax/4, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.armed[name] && len(c.hits) == 0 {
			return errors.New("it does not say that " + name + " is armed")
		}
		return nil
	})
}

func (c *control) disarm(name string) { c.send(order{Disarm: name}) }

// firstHit waits until one of the processes hits a failpoint; those that others hit meanwhile go on.
func firstHit(limit time.Duration, all []*control) (*hit, error) {
	var first *hit
	err := await(limit, func() error {
		for _, c := range all {
			select {
			case first = <-c.hits:
				return nil
			default:
			}
		}
		return fmt.Errorf("none of %d processes came there", len(all))
	})
	return first, err
}

// drop releases what was hit and is not waited for.
func (c *control) drop() {
	for {
		select {
		case h := <-c.hits:
			h.release()
		default:
			return
		}
	}
}

// clock reads the clock that histories are written by.
func clock() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0
	}
	return now.Nano()
}
