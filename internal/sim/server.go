package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvmem"
)

// server is an etcd cluster: the records, or the target.
type server struct {
	world   *World
	place   int
	name    string
	machine *kvmem.Machine
	all     *kvmem.Cursor // sees every event, for the checker
	stalled time.Duration // until then nobody is answered
	full    time.Duration // until then writes are refused
	watches []*stream
	lives   int // how often it was restored: what was sent before reaches nobody after
}

var (
	errLost = errors.New("sim: no answer")
	errFull = errors.New("sim: out of space")
)

// blindWait is how long the answer to a request is waited for that should not have been sent any more.
const blindWait = 50 * time.Millisecond

func lost() error { return fmt.Errorf("%w: %w", fence.ErrUnknown, errLost) }

// advance turns the server's clock, which ends leases.
func (s *server) advance() {
	if s.stalled > s.world.now {
		return // who can't answer can't end leases either
	}
	if ended := s.machine.Advance(s.world.now); len(ended) > 0 {
		s.world.say("%-9s leases end: %v", s.name, ended)
		s.committed(actor{})
	}
}

// actor is who sent a transaction.
type actor struct {
	life *life
	txn  kv.Txn
	done bool // its compares held
}

// committed tells everybody what the last transaction did.
func (s *server) committed(by actor) {
	response, found := s.all.Next(0)
	if !found {
		return
	}
	s.world.observe(s, by, response.Events)
	for _, stream := range s.watches {
		stream.nudge()
	}
}

// requestKind is what a request does to the server.
type requestKind uint8

const (
	reads requestKind = iota
	writes
	renews // its answer says so itself
)

// client is a kv.Store of one process at one server. Every method waits as a task.
type client struct {
	world *World
	life  *life // nil: operators
	from  int
	to    *server
}

var _ kv.Store = (*client)(nil)

// answer is what came back.
type answer struct {
	value any
	err   error
	came  bool
}

// request sends something to the server and waits for its answer, until the task's deadline at the latest. An answer
// that does not come means that nobody knows what happened.
func (c *client) request(kind requestKind, do func() (any, error)) (any, error) {
	w, t := c.world, c.world.current
	limit := w.plan.AnswerWait
	if t.deadline != 0 {
		limit = min(limit, t.deadline.Sub(t.life.clock.read()))
	}
	switch {
	case t.blind:
		t.blind, limit = false, max(limit, blindWait)
	case t.cancelled || limit <= 0:
		return nil, lost()
	}
	var got answer
	wait := t.begin()
	back := func(value any, err error) {
		if w.strikes(c.answerFault()) {
			w.struck(c.answerFault())
			w.say("%-9s answer lost to %s", c.to.name, c.who())
			return
		}
		w.transmit(c.to.place, c.from, nil, func() {
			if !got.came {
				got = answer{value: value, err: err, came: true}
				t.wake(wait, wokenByAnswer)
			}
		})
	}
	if w.strikes(c.askFault()) {
		w.struck(c.askFault())
		w.say("%-9s request lost of %s", c.to.name, c.who())
	} else {
		lives := c.to.lives
		w.transmit(c.from, c.to.place, c.life, func() {
			if c.to.lives == lives {
				c.serve(kind, do, back)
			}
		})
	}
	w.after(t.clocked(limit), func() { t.wake(wait, wokenByTime) })
	if t.park() != wokenByAnswer {
		return nil, lost()
	}
	w.given(answered)
	return got.value, got.err
}

func (c *client) serve(kind requestKind, do func() (any, error), back func(any, error)) {
	w := c.world
	if c.to.stalled > w.now {
		w.struck(c.stallFault())
		lives := c.to.lives
		w.after(c.to.stalled-w.now, func() {
			if c.to.lives == lives {
				c.serve(kind, do, back)
			}
		})
		return
	}
	c.to.advance()
	if kind == writes && c.to.full > w.now {
		w.struck(EtcdFull)
		back(nil, errFull)
		return
	}
	back(do())
}

func (c *client) who() string {
	if c.life == nil {
		return "operators"
	}
	return string(c.life.id)
}

func (c *client) askFault() FaultKind {
	if c.to.place == atTarget {
		return TargetAsk
	}
	return EtcdAsk
}

func (c *client) answerFault() FaultKind {
	if c.to.place == atTarget {
		return TargetAnswer
	}
	return EtcdAnswer
}

func (c *client) stallFault() FaultKind {
	if c.to.place == atTarget {
		return TargetStall
	}
	return EtcdStall
}

// Txn executes a transaction.
func (c *client) Txn(_ context.Context, txn kv.Txn) (kv.Result, error) {
	kind := reads
	for _, op := range txn.Then {
		if op.Kind != kv.OpGet {
			kind = writes
		}
	}
	value, err := c.request(kind, func() (any, error) {
		result, err := c.to.machine.Apply(txn)
		by := actor{life: c.life, txn: txn, done: err == nil && result.Succeeded}
		c.world.judged(c.to, by, result, err)
		c.to.committed(by)
		return result, err
	})
	return as[kv.Result](value), err
}

// Range reads.
func (c *client) Range(_ context.Context, r kv.Range) (kv.RangeResult, error) {
	value, err := c.request(reads, func() (any, error) { return c.to.machine.Range(r) })
	return as[kv.RangeResult](value), err
}

// Grant takes a lease.
func (c *client) Grant(_ context.Context, ttl time.Duration) (kv.Lease, error) {
	value, err := c.request(renews, func() (any, error) { return c.to.machine.Grant(ttl) })
	return as[kv.Lease](value), err
}

// KeepAlive renews a lease once.
func (c *client) KeepAlive(_ context.Context, id kv.LeaseID) (kv.Lease, error) {
	value, err := c.request(renews, func() (any, error) { return c.to.machine.KeepAlive(id) })
	return as[kv.Lease](value), err
}

// Revoke ends a lease.
func (c *client) Revoke(_ context.Context, id kv.LeaseID) error {
	_, err := c.request(renews, func() (any, error) {
		err := c.to.machine.Revoke(id)
		c.to.committed(actor{life: c.life})
		return nil, err
	})
	return err
}

// Watch is not used: streams have a driver of their own here.
func (c *client) Watch(context.Context, kv.WatchRequest) kv.Watch { return nil }

// Close does nothing: what is on its way stays on its way.
func (c *client) Close() error { return nil }

func as[T any](value any) T {
	typed, _ := value.(T)
	return typed
}

// never is a context that does not end: what ends a request here is its task.
type never struct{}

func (never) Deadline() (time.Time, bool) { return time.Time{}, false }
func (never) Done() <-chan struct{}       { return nil }
func (never) Err() error                  { return nil }
func (never) Value(any) any               { return nil }

// open is how a sink connects.
func (c *client) open(context.Context) (kv.Store, error) { return c, nil }
