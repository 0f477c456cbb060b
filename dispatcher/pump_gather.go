package dispatcher

import (
	"context"
	"errors"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

const (
	// gatherMax is how long pages of a snapshot are gathered in one step of the sink. What is undone if it fails is read again.
	gatherMax = 5 * time.Second
	// gatherBytesMax is how much is gathered at most.
	gatherBytesMax = 1 << 30
	// settleAfter is how long the next page is waited for before what was gathered is made durable.
	settleAfter = 50 * time.Millisecond
)

// gathered is what the sink has of a snapshot that is not durable yet.
type gathered struct {
	by          sink.Gathering
	pages       []sink.Batch // without their changes
	changes     int
	bytes       int
	resolved    change.Position
	first, last changefeed.Time
}

// gathering returns the writer if it is to take pages without making each durable at once.
func (a *attempt) gathering() (sink.Gathering, bool) {
	writer, ok := a.writer.(sink.Gathering)
	return writer, ok && writer.Gathers() && !a.apart
}

// gathers reports whether a batch is a page that is gathered. Where others wait for what was written, each page is a step of its own.
func (a *attempt) gathers(batch sink.Batch) (sink.Gathering, bool) {
	writer, ok := a.gathering()
	_, asked := a.asked()
	return writer, ok && batch.Snapshot && batch.Rows() > 0 && !asked && a.limit == 0
}

// gather hands a page to the sink.
func (a *attempt) gather(ctx context.Context, to sink.Gathering, page sink.Batch, resolved change.Position) error {
	began := a.clock()
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	if err := a.mayWrite(); err != nil {
		return err
	}
	open, err := to.Gather(limited, page)
	if err != nil {
		return a.ungathered(limited, err)
	}
	now := a.clock()
	g := &a.open
	if len(g.pages) == 0 {
		g.by, g.first = to, now
	}
	g.last, g.changes, g.bytes, g.resolved = now, g.changes+page.Rows(), g.bytes+sizeOf(page), max(g.resolved, resolved)
	page.Changes, page.Lines = nil, nil
	g.pages = append(g.pages, page)
	if !open {
		a.settled(began)
		return nil
	}
	rows, total := a.snapshotProgress()
	a.publish(inTurn, func(progress *Progress) {
		progress.SnapshotRows, progress.SnapshotTotal = rows, total
		progress.WaitingOn, progress.WaitingSince = "", 0
	})
	return nil
}

// settle has the sink make durable what was gathered. Crash before it is counted: the sink's pieces know.
func (a *attempt) settle(ctx context.Context) error {
	if len(a.open.pages) == 0 {
		return nil
	}
	began := a.clock()
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	if err := a.mayWrite(); err != nil {
		return err
	}
	if err := a.open.by.Settle(limited); err != nil {
		return a.ungathered(limited, err)
	}
	a.settled(began)
	return nil
}

// settled counts what was gathered and is durable now.
func (a *attempt) settled(began changefeed.Time) {
	a.wroteSince(began)
	g := a.open
	a.open = gathered{}
	for _, page := range g.pages {
		a.pieces.advance(page.Span, page.To)
	}
	a.count(sink.Batch{Snapshot: true}, g.changes, g.bytes, g.resolved)
}

// ungathered says what it means that the sink failed. Where it may fail again, the next attempts write page by page: that shows which row
// it is, if it is one.
func (a *attempt) ungathered(limited context.Context, err error) error {
	a.apart = a.apart || errors.Is(err, sink.ErrTogether) || !a.moved
	a.unknown = limited.Err() != nil || errors.Is(err, fence.ErrUnknown)
	a.metrics.refusedStale(err, refusedIncarnation)
	return ofSink(err)
}

// settleBefore settles for who asked the pump to stop at a mark; who stops at once reads again what was not durable.
func (a *attempt) settleBefore(ctx context.Context) error {
	if _, asked := a.asked(); !asked || a.stopsNow() {
		return nil
	}
	return a.settle(ctx)
}

// settleDue settles when it is time to, and says in how long that will be; 0 if nothing is gathered.
func (a *attempt) settleDue(ctx context.Context, held content, now changefeed.Time) (time.Duration, error) {
	g := &a.open
	if len(g.pages) == 0 {
		return 0, nil
	}
	wait := min(settleAfter-now.Sub(g.last), gatherMax-now.Sub(g.first))
	if held == data || held == full { // more comes, if it isn't what settles it
		wait = gatherMax - now.Sub(g.first)
	}
	if wait > 0 && a.limit == 0 && held != progress && held != failed && g.bytes < gatherBytesMax {
		return wait, nil
	}
	return 0, a.settle(ctx)
}

// sooner returns the shorter of two times, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
