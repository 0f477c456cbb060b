//go:build failpoints

package failpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
	"time"
)

// On says that this build has failpoints.
const On = true

// lateMax bounds what goes on after it was held: its own time limit may have passed meanwhile.
const lateMax = 20 * time.Second

// Order is what a test sends to a process, one JSON object a line.
type Order struct {
	Arm     string `json:"arm,omitempty"`     // a name for this arming, which is for one hit
	Point   string `json:"point,omitempty"`   // of Arm
	Match   string `json:"match,omitempty"`   // of Arm: a regular expression that the detail has to match
	Disarm  string `json:"disarm,omitempty"`  // an arming
	Release string `json:"release,omitempty"` // an arming that was hit
}

// News is what a process tells, one JSON object a line.
type News struct {
	PID    int    `json:"pid,omitempty"`   // the first line
	Done   string `json:"done,omitempty"`  // an order, by its arming, was carried out
	Error  string `json:"error,omitempty"` // of Done
	Hit    string `json:"hit,omitempty"`   // an arming
	Detail string `json:"detail,omitempty"`
}

type armed struct {
	point string
	match *regexp.Regexp
}

// points is the state of the process.
type points struct {
	mu      sync.Mutex // guards what follows
	conn    net.Conn
	armed   map[string]armed
	waiting map[string]chan struct{}
}

var all = connect(os.Getenv("CDC_FAILPOINTS"))

func connect(path string) *points {
	p := &points{armed: map[string]armed{}, waiting: map[string]chan struct{}{}}
	if path == "" {
		return p
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		fail(err)
	}
	p.conn = conn
	p.tell(News{PID: os.Getpid()})
	go p.obey()
	return p
}

func (p *points) obey() {
	orders := json.NewDecoder(p.conn)
	for {
		var order Order
		if err := orders.Decode(&order); err != nil {
			p.letGo()
			return
		}
		name, err := p.do(order)
		news := News{Done: name}
		if err != nil {
			news.Error = err.Error()
		}
		p.tell(news)
	}
}

func (p *points) do(order Order) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case order.Arm != "":
		match, err := regexp.Compile(order.Match)
		if err == nil {
			p.armed[order.Arm] = armed{order.Point, match}
		}
		return order.Arm, err
	case order.Disarm != "":
		delete(p.armed, order.Disarm)
		return order.Disarm, nil
	case order.Release != "":
		waiting := p.waiting[order.Release]
		if waiting == nil {
			return order.Release, errors.New("nothing waits there")
		}
		delete(p.waiting, order.Release)
		close(waiting)
		return order.Release, nil
	}
	return "", errors.New("an empty order")
}

// letGo lets everything go on: the test is gone.
func (p *points) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.armed)
	for name, waiting := range p.waiting {
		close(waiting)
		delete(p.waiting, name)
	}
}

func (p *points) tell(news News) {
	line, err := json.Marshal(news)
	if err != nil {
		line = fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		_, _ = p.conn.Write(append(line, '\n'))
	}
}

// hit returns what to wait for, if the point is armed. One arming is hit once.
func (p *points) hit(point string, detail func() string) (name, text string, wait chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, armed := range p.armed {
		if armed.point != point {
			continue
		}
		if text == "" {
			text = detail()
		}
		if armed.match.MatchString(text) {
			delete(p.armed, name)
			wait = make(chan struct{})
			p.waiting[name] = wait
			return name, text, wait
		}
	}
	return "", "", nil
}

// Hold waits at an armed point until it is released. What was held goes on with the returned context, whatever became of
// its own: it stands for what a transport had taken already, or a thread that was not scheduled, which no time limit of
// the process reaches.
func Hold(ctx context.Context, point string, detail func() string) context.Context {
	name, text, wait := all.hit(point, detail)
	if wait == nil {
		return ctx
	}
	all.tell(News{Hit: name, Detail: text})
	<-wait
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	time.AfterFunc(lateMax, cancel)
	return late
}
