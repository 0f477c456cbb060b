package maintainer

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
)

// cellState is what a span of the cover is doing. The zero value is invalid.
type cellState uint8

const (
	cellAbsent   cellState = iota + 1 // nobody runs it, as far as is known
	cellStarting                      // placed; its host has not said yet that it runs
	cellRunning
	cellStopping // told to stop; its host has not said yet that it did
	cellLost     // its node is gone, but not yet long enough (F19)
)

var cellStateNames = [...]string{ //nolint:gochecknoglobals // read only
	cellAbsent: "absent", cellStarting: "starting", cellRunning: "running", cellStopping: "stopping", cellLost: "lost",
}

// String returns the state's name, as the API shows it.
func (s cellState) String() string { return cellStateNames[s] }

// cell is one span of the cover. There may be a million of them, so it is kept small.
type cell struct {
	span     changefeed.Span
	token    fence.Token     // of the placement; zero when absent
	host     *host           // nil when absent
	mark     change.Mark     // a lower bound of how far the span is durable in the sink; never decreases
	next     changefeed.Time // of what is asked again; while it runs: since moveAgainAfter before it has run here
	changes  uint64
	bytes    uint64
	rows     int64 // of the snapshot that is being read; 0 when none is
	total    int64 // about how many there will be
	resolved change.Position
	index    int32 // in cover.unsettled, -1 when running
	state    cellState
	tries    uint8
	refusals uint8
	unknown  bool // a node that is not known may be running it
}

// host is what is known of a node as a dispatcher host.
type host struct {
	id       changefeed.NodeID
	name     string
	liveness record.Liveness
	gone     bool
	goneAt   changefeed.Time
	answered bool // its Bootstrap was answered
	closed   bool
	removed  bool // it serves this uid no more
	cleared  bool // it never answered, and an eviction that it acknowledged has stopped whatever it ran
	cutSaid  bool // the node records say that there is no link to it
	away     bool // it could be given nothing when that was noted last; a new one comes to be so
	eviction eviction

	askedAt  changefeed.Time
	nextAsk  changefeed.Time
	asks     uint8
	awaited  changefeed.Time // since when a sign of life is awaited; 0: none is
	number   uint64          // of the last heartbeat
	nextList changefeed.Time
	reply    []message.Status // of the Bootstrap, until the cover is built

	placed  int // cells on it, in whatever state
	orphans int
	set     message.Digest // of the running cells on it
	// mark is a lower bound of the marks of all running cells on it: what its watermark says, as long as that speaks
	// of exactly these cells.
	mark     change.Position
	resolved change.Position
	barrier  standing
}

func (h *host) usable() bool {
	return h.answered && !h.removed && !h.gone && !h.eviction.pending() && h.liveness != record.Stopping
}

// markOf returns the best lower bound of how far a cell is done.
func markOf(cell *cell) change.Mark {
	if cell.state != cellRunning {
		return cell.mark
	}
	return change.Later(cell.mark, change.At(cell.host.mark))
}

// becomeAbsent ends the placement: nobody runs the span.
func (c *Core) becomeAbsent(cell *cell) {
	c.leave(cell)
	cell.state, cell.token, cell.host, cell.tries = cellAbsent, fence.Token{}, nil, 0
	cell.resolved, cell.changes, cell.bytes, cell.rows, cell.total = 0, 0, 0, 0, 0
	if cell.refusals == 0 { // what was refused waits before it is placed again
		cell.next = c.now.At
	}
}

// becomeStarting begins a placement with a token of its own.
func (c *Core) becomeStarting(cell *cell, on *host, token fence.Token) {
	cell.state, cell.token, cell.host = cellStarting, token, on
	cell.tries, cell.next, cell.unknown = 0, c.now.At, false
	on.placed++
	if on.awaited == 0 {
		on.awaited = c.now.At
	}
}

// becomeRunning counts the cell into its host's watermark. It has run there for the given time already, if it was taken
// over.
func (c *Core) becomeRunning(cell *cell, age changefeed.Duration) {
	h := cell.host
	whole := cell.mark.Whole()
	if h.set.Count == 0 || whole < h.mark {
		h.mark = whole
	}
	h.set.Add(cell.span, cell.token)
	h.barrier.obeys = 0 // what was said of the others
	cell.state, cell.tries, cell.refusals = cellRunning, 0, 0
	cell.next = c.now.At.Add(moveAgainAfter - min(max(age, 0), moveAgainAfter))
	c.cover.settle(cell)
}

// becomeStopping asks for the end of a placement.
func (c *Core) becomeStopping(cell *cell) {
	c.unset(cell)
	cell.state, cell.tries, cell.next = cellStopping, 0, c.now.At
	c.stopping[cell.token] = cell
}

// becomeLost says that the cell's node is gone. Nobody else runs the span before F19 allows it.
func (c *Core) becomeLost(cell *cell) {
	c.unset(cell)
	delete(c.stopping, cell.token)
	cell.state = cellLost
}

// leave takes the cell off its host.
func (c *Core) leave(cell *cell) {
	c.unset(cell)
	delete(c.stopping, cell.token)
	delete(c.waiting, cell)
	delete(c.faulty, cell)
	c.traffic.forget(cell)
	if cell.host != nil {
		cell.host.placed--
	}
}

// unset takes a running cell out of its host's watermark, and keeps what that said of it.
func (c *Core) unset(cell *cell) {
	if cell.state != cellRunning {
		return
	}
	cell.mark = markOf(cell)
	cell.host.set.Remove(cell.span, cell.token)
	cell.host.barrier.obeys = 0
	c.cover.unsettle(cell)
}
