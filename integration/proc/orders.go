package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
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

// Hit is an armed failpoint that a process waits at.
type Hit struct {
	Orders *Orders
	Name   string
	Detail string
}

// Release lets the process go on there, when it runs.
func (h *Hit) Release() { h.Orders.send(order{Release: h.Name}) }

// Orders go to the processes of one node, one after another, which are built with failpoints.
type Orders struct {
	Env string // for these processes

	dir      string
	listener net.Listener
	hits     chan *Hit
	done     sync.WaitGroup

	mu    sync.Mutex
	conn  net.Conn
	armed map[string]bool // told by the process that it is
}

const (
	// hitsMax is above what one case arms.
	hitsMax = 16
	// armMax bounds how long a process may take to say that a failpoint is armed.
	armMax = 15 * time.Second
)

// NewOrders listens for processes. Close ends it.
func NewOrders() (*Orders, error) {
	dir, err := os.MkdirTemp("", "fp") // a socket's path has to be short
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "s")
	o := &Orders{Env: "CDC_FAILPOINTS=" + path, dir: dir, hits: make(chan *Hit, hitsMax), armed: map[string]bool{}}
	o.listener, err = net.Listen("unix", path) //nolint:noctx // a socket in a folder, to be had at once
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	o.done.Go(o.serve)
	return o, nil
}

// Close ends it; a process that waits somewhere goes on.
func (o *Orders) Close() {
	_ = o.listener.Close()
	o.hangUp()
	o.done.Wait()
	_ = os.RemoveAll(o.dir)
}

func (o *Orders) serve() {
	for {
		conn, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.hangUp()
		o.mu.Lock()
		o.conn, o.armed = conn, map[string]bool{}
		o.mu.Unlock()
		o.done.Go(func() { o.read(conn) })
	}
}

func (o *Orders) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != nil {
		_ = o.conn.Close()
	}
}

func (o *Orders) read(conn net.Conn) {
	lines := json.NewDecoder(conn)
	for {
		var one news
		if lines.Decode(&one) != nil {
			return
		}
		o.mu.Lock()
		if one.Hit != "" {
			delete(o.armed, one.Hit)
			select {
			case o.hits <- &Hit{Orders: o, Name: one.Hit, Detail: one.Detail}:
			default:
			}
		} else if one.Done != "" && one.Error == "" {
			o.armed[one.Done] = true
		}
		o.mu.Unlock()
	}
}

func (o *Orders) send(what order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return // between two processes: nothing is armed there
	}
	line, err := json.Marshal(what)
	if err == nil {
		_, _ = o.conn.Write(append(line, '\n')) //nolint:errcheck // a process that is gone has nothing armed
	}
}

// Arm sets a failpoint for one hit of a detail that matches, and waits until the process says that it is set.
func (o *Orders) Arm(name, point, match string) error {
	o.send(order{Arm: name, Point: point, Match: match})
	return Await(armMax, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !o.armed[name] && len(o.hits) == 0 {
			return errors.New("it does not say that " + name + " is armed")
		}
		return nil
	})
}

// Disarm takes back what was armed.
func (o *Orders) Disarm(name string) { o.send(order{Disarm: name}) }

// Drop releases what was hit and is not waited for.
func (o *Orders) Drop() {
	for {
		select {
		case h := <-o.hits:
			h.Release()
		default:
			return
		}
	}
}

// FirstHit waits until one of the processes hits a failpoint; those that others hit meanwhile are left to Drop.
func FirstHit(limit time.Duration, all []*Orders) (*Hit, error) {
	var first *Hit
	err := Await(limit, func() error {
		for _, o := range all {
			select {
			case first = <-o.hits:
				return nil
			default:
			}
		}
		return fmt.Errorf("none of %d processes came there", len(all))
	})
	return first, err
}
