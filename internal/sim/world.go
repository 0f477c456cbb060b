package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"fencerow/changefeed"
	"fencerow/kv/kvmem"
	"fencerow/message"
)

// World is one simulated cluster. It is owned by one goroutine.
type World struct {
	plan  Plan
	rng   *rand.Rand
	now   time.Duration // since the beginning
	seq   uint64
	queue events
	steps int // inputs given to cores, and answers given to tasks

	current *task // that runs now
	tasks   uint64
	loose   []*task // of no process

	etcd    *server // the records
	target  *server // what the claiming sink writes to
	source  *log
	nodes   []*node
	people  *people
	tables  map[changefeed.ID]*table // of changefeeds that go to a target like a database
	past    []message.Envelope       // the last commands that were sent, oldest first
	lost    []message.Envelope       // the last of them that were lost
	links   map[[2]int]*link
	checker *Checker
	census  Census

	observer *Observer
	author   string // of the transaction that is observed

	overtaken []changefeed.ID // changefeeds of whom somebody was evicted since people looked
	backup    *kvmem.Machine  // of the records; nil when there is none, or it was used
	restores  int
	faulty    bool // faults may begin
	out       io.Writer
	nonces    int
	failed    error
}

// event is something that happens at a moment. Events of one moment happen in the order in which they were made.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) } //nolint:forcetypeassert // heap of events
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// after has something happen later.
func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{at: w.now + max(d, 0), seq: w.seq, do: do})
}

// next lets the next event happen, unless it lies beyond the limit.
func (w *World) next(limit time.Duration) bool {
	if len(w.queue) == 0 || w.queue[0].at > limit || w.failed != nil {
		return false
	}
	e := heap.Pop(&w.queue).(event) //nolint:forcetypeassert // heap of events
	w.now = max(w.now, e.at)
	e.do()
	return true
}

// say tells the story, if anybody listens.
func (w *World) say(format string, args ...any) {
	if w.out != nil {
		_, _ = fmt.Fprintf(w.out, "%12.6f %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// step counts an input of a core, or an answer.
func (w *World) step() { w.steps++ }

// fail notes the first violation, and ends the run.
func (w *World) fail(err error) {
	if err != nil && w.failed == nil {
		w.failed = err
		w.say("VIOLATION %v", err)
	}
}

// chance is true with probability p.
func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a duration.
func (w *World) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

// word returns a word that was never returned before.
func (w *World) word(prefix string) string {
	w.nonces++
	return fmt.Sprintf("%s%d", prefix, w.nonces)
}

// wall is what people's clocks show. No decision depends on it.
func (w *World) wall() time.Time { return wallStart.Add(w.now) }

var wallStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is a node's own clock: it starts anywhere, runs at a rate of its own, and may jump forward, as over a suspension.
type clock struct {
	world  *World
	offset time.Duration
	rate   float64
	since  time.Duration // of the world, when rate and offset were set
}

func (c *clock) read() changefeed.Time {
	return changefeed.Time(c.offset + time.Duration(float64(c.world.now-c.since)*c.rate))
}

// until returns how long the world goes on until the clock has moved by d.
func (c *clock) until(d time.Duration) time.Duration {
	return time.Duration(float64(d)/c.rate) + 1
}

// set changes the rate from now on.
func (c *clock) set(rate float64) {
	c.offset, c.since, c.rate = time.Duration(c.read()), c.world.now, rate
}

func (c *clock) jump(d time.Duration) { c.offset += d }

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }
