package sim

import (
	"errors"
	"iter"
	"time"

	"fencerow/changefeed"
)

// errKilled unwinds a task whose process is gone.
var errKilled = errors.New("sim: killed")

// task is code that waits, such as a request's way through several transactions. It runs only while the world waits for
// it, so there is one goroutine's worth of order.
type task struct {
	world    *World
	life     *life // nil: of the operators
	id       uint64
	resume   func() (struct{}, bool)
	stop     func()
	yield    func(struct{}) bool
	finished bool
	parked   uint64 // number of the wait that it is in; 0: it runs
	waits    uint64
	woken    uint64 // the wait that somebody has ended
	reason   wakeReason

	deadline  changefeed.Time // of the life's clock, for the requests that it makes; 0: none
	cancelled bool            // its requests end at once
	blind     bool            // its next request is sent whatever became of the deadline: it was stalled before that
	done      func()          // called when it has ended, unless it was killed
}

type wakeReason uint8

const (
	wokenByTime wakeReason = iota + 1
	wokenByAnswer
	wokenByCancel
)

// spawn starts a task of a process's life.
func (w *World) spawn(l *life, body func(*task)) *task {
	w.tasks++
	t := &task{world: w, life: l, id: w.tasks}
	if l != nil {
		l.tasks = append(l.tasks, t)
	} else {
		w.loose = append(w.loose, t)
	}
	t.resume, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer func() {
			if r := recover(); r != nil && r != any(errKilled) {
				panic(r) //nolint:forbidigo // passed on
			}
		}()
		body(t)
	})
	w.after(0, func() { t.run(0) })
	return t
}

// run resumes the task if it is in that wait. A life that is paused does nothing until it goes on.
func (t *task) run(wait uint64) {
	if t.finished || t.parked != wait {
		return
	}
	if t.life != nil && t.life.frozen(func() { t.run(wait) }) {
		return
	}
	before := t.world.current
	t.world.current, t.parked = t, 0
	_, more := t.resume()
	t.world.current = before
	if more {
		return
	}
	t.finished = true
	if t.life != nil {
		t.life.forget(t)
	}
	if t.done != nil {
		t.done()
	}
}

// park waits until somebody wakes the task.
func (t *task) park() wakeReason {
	if !t.yield(struct{}{}) {
		panic(errKilled) //nolint:forbidigo // unwinds the task; recovered in spawn
	}
	return t.reason
}

// begin numbers a wait, so that what comes too late wakes nobody.
func (t *task) begin() uint64 {
	t.waits++
	t.parked = t.waits
	return t.waits
}

// wake ends a wait.
func (t *task) wake(wait uint64, reason wakeReason) {
	if t.finished || t.parked != wait || t.woken == wait {
		return
	}
	t.woken, t.reason = wait, reason
	t.world.after(0, func() { t.run(wait) })
}

// sleep waits on the life's clock. It ends early when the task is cancelled.
func (t *task) sleep(d time.Duration) {
	if t.cancelled {
		return
	}
	wait := t.begin()
	t.world.after(t.clocked(d), func() { t.wake(wait, wokenByTime) })
	t.park()
}

func (t *task) clocked(d time.Duration) time.Duration {
	if t.life == nil {
		return d
	}
	return t.life.clock.until(d)
}

// cancel ends the request that the task waits for, and those to come.
func (t *task) cancel() {
	t.cancelled = true
	if t.parked != 0 {
		t.wake(t.parked, wokenByCancel)
	}
}

// kill ends the task where it stands: its process is gone.
func (t *task) kill() {
	if !t.finished {
		t.finished = true
		t.stop()
	}
}

// bound limits the task's requests from now on.
func (t *task) bound(d time.Duration) {
	t.deadline = t.life.clock.read().Add(d)
}

// stall lets time pass whatever happens meanwhile: the process was not run. What it does next it does without looking
// again.
func (t *task) stall(d time.Duration) {
	for until := t.world.now + d; t.world.now < until; {
		wait := t.begin()
		t.world.after(until-t.world.now, func() { t.wake(wait, wokenByTime) })
		t.park()
	}
	t.blind = true
}
