package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fencerow/changefeed"
)

// Bounds of what one event holds, where whole revisions allow.
const (
	eventChangesMax = 4096
	eventBytesMax   = 1 << 20
)

// How a silent watch is found out.
const (
	tickLive    = 200 * time.Millisecond // an idle source's progress
	tickCatchUp = 10 * time.Millisecond  // a lane without events says that it has none only when asked
	askEvery    = 200 * time.Millisecond // a lane that catches up can't answer, and is asked less and less often, to this
	silenceMax  = 60 * time.Second
)

// tail follows the changes of a span from a revision on. It is used by one goroutine.
//
// It has one lane as a rule. When an answer shows a backlog, the span is cut into many lanes by the keys of that answer,
// and their events are merged by revision: a revision is given on when every lane is complete up to it. Close to the
// head a single lane is opened for what happens from then on; when the many have reached the revision at which it began,
// it takes over. So no change waits for a timer, and no watch has to catch up with a busy store alone.
type tail struct {
	source *Source
	span   changefeed.Span
	room   *room
	done   int64 // everything at or below it was returned
	head   int64 // the highest revision of the store that was heard of

	lanes []*lane
	next  *lane   // the single lane that is to take over
	cut   laneCut // what the next reshaping needs to know

	ready   []*watched // sorted, to be returned
	readyTo int64

	ticker  *time.Ticker
	tick    time.Duration
	silent  time.Duration // for how long nothing was heard while waiting
	patient time.Duration // how much of it is borne
	hurry   chan struct{} // somebody waits for progress; nil: nobody can
	greeted bool          // the caller was told where the head is
}

func newTail(source *Source, span changefeed.Span, room *room, done int64) *tail {
	return &tail{
		source: source, span: span, room: room, done: done, head: done, readyTo: done, patient: source.patience.silence,
		ticker: time.NewTicker(tickLive), tick: tickLive,
	}
}

// compactedError says that the history that was asked for is gone.
type compactedError struct{ oldest int64 }

func (e *compactedError) Error() string {
	return fmt.Sprintf("the history before revision %d was compacted away", e.oldest)
}

// errSilent says that a watch said nothing although the store moved.
var errSilent = errors.New("etcd: the watch is silent although the store moved on")

// run is a run of whole revisions of the tail's span, up to and including to.
type run struct {
	events []*watched
	to     int64
}

// read waits for the next run. After an error that is not ctx's the lanes are closed, and the next call connects again
// after what was returned last, so that nothing is lost or repeated.
func (t *tail) read(over lives) (run, error) {
	for {
		if next, ok := t.pop(); ok {
			return next, nil
		}
		if err := t.advance(over); err != nil {
			t.disconnect() // lanes may be missing now, and with them changes
			return run{}, err
		}
		if t.hasRun() {
			continue
		}
		if err := t.wait(over); err != nil {
			t.disconnect()
			return run{}, err
		}
	}
}

func (t *tail) hasRun() bool {
	return len(t.ready) > 0 || t.readyTo > t.done || (!t.greeted && len(t.lanes) > 0)
}

func (t *tail) pop() (run, bool) {
	if !t.hasRun() {
		return run{}, false
	}
	next := run{to: t.readyTo}
	if len(t.ready) > 0 {
		count, size := cutEvent(t.ready, eventChangesMax, eventBytesMax)
		next.events, t.ready = t.ready[:count], t.ready[count:]
		if len(t.ready) > 0 {
			next.to = next.events[count-1].kv.ModRevision
		} else {
			t.ready = nil
		}
		t.room.release(size)
	}
	t.done, t.greeted = next.to, true
	return next, true
}

// advance connects where there is no connection, takes what arrived, and makes ready what is complete.
func (t *tail) advance(over lives) error {
	if len(t.lanes) == 0 {
		if err := t.connect(over); err != nil {
			return err
		}
	}
	for frontier(t.lanes) <= t.readyTo {
		moved := false
		for _, lane := range t.lanes {
			if lane.complete > t.readyTo {
				continue
			}
			took, err := t.take(lane)
			if err != nil {
				return err
			}
			moved = moved || took
		}
		if !moved {
			break
		}
	}
	if upTo := frontier(t.lanes); upTo > t.readyTo {
		t.ready, t.readyTo = gather(t.lanes, upTo), upTo
		t.keepSample()
		if len(t.lanes) > 1 {
			refill(t.lanes)
		}
	}
	return t.reshape(over)
}

// take moves what the lane's stream received into the lane.
func (t *tail) take(lane *lane) (bool, error) {
	if lane.refused != nil {
		return false, lane.refused
	}
	answers, err := lane.stream.take()
	if err != nil {
		return false, err
	}
	for i := range answers {
		a := &answers[i]
		if err := t.source.sameCluster(a.cluster); err != nil {
			return false, err
		}
		t.head = max(t.head, a.revision)
		if a.canceled {
			lane.refused = refusal(a)
			break
		}
		if a.created {
			lane.created, lane.createdAt = true, a.revision
		}
		lane.add(a, t.room, t.readyTo)
		t.judge(lane, a)
	}
	if len(answers) > 0 {
		t.silent, t.patient = 0, max(t.source.patience.silence, t.patient/2)
		lane.waited, lane.askAt = 0, 1
	}
	return len(answers) > 0, nil
}

// refusal is why etcd ended a watch.
func refusal(a *answer) error {
	if a.compacted > 0 {
		return &compactedError{oldest: a.compacted}
	}
	if strings.Contains(a.reason, "permission denied") {
		return fmt.Errorf("%w: %s", errDenied, a.reason)
	}
	return fmt.Errorf("%w: %s", errCanceled, a.reason)
}

// connect opens the single lane after what is done.
func (t *tail) connect(over lives) error {
	head, err := t.source.head(over.making)
	if err != nil {
		return err
	}
	if head < t.done {
		return t.source.wentBack(head, t.done)
	}
	t.head = max(t.head, head)
	single, err := t.openLane(over, t.span, t.done+1)
	if err != nil {
		return err
	}
	t.lanes = []*lane{single}
	t.silent = 0
	t.setTick(tickLive)
	return nil
}

func (t *tail) openLane(over lives, span changefeed.Span, from int64) (*lane, error) {
	connection, err := t.source.connection()
	if err != nil {
		return nil, err
	}
	watch := watchFrom{span: span, revision: from, previous: t.source.previous}
	if from > 0 {
		watch.expect = t.cut.bytes
	}
	stream, err := openStream(over, connection, watch, t.room)
	if err != nil {
		return nil, err
	}
	return &lane{stream: stream, complete: max(from-1, 0), askAt: 1}, nil
}

func (t *tail) setTick(tick time.Duration) {
	if t.tick != tick {
		t.tick = tick
		t.ticker.Reset(tick)
	}
}

// wait waits until something arrives. Meanwhile it asks for progress, and finds out a watch that is silent.
func (t *tail) wait(over lives) error {
	select {
	case <-t.room.ready:
		return nil
	case <-over.making.Done():
		return context.Cause(over.making)
	case <-over.life.Done():
		return context.Cause(over.life)
	case <-t.hurry:
		return t.askNow()
	case <-t.ticker.C:
	}
	for _, lane := range t.lanes {
		if err := lane.ask(t.readyTo, t.tick); err != nil {
			return err
		}
	}
	t.silent += t.tick
	if t.silent < t.patient {
		return nil
	}
	// Nothing was heard, which is right while the store stands still: etcd answers a request for progress only when the
	// store has reached the watch's first revision.
	head, err := t.source.head(over.making)
	if err != nil {
		return err
	}
	if head > max(t.head, t.readyTo) || frontier(t.lanes) < t.head {
		t.patient = min(2*t.patient, silenceMax) // a pass over a long backlog may take long
		return errSilent
	}
	t.silent = 0
	return nil
}

// askNow asks the lanes for progress without waiting for their turn, once for each time that somebody hurries.
func (t *tail) askNow() error {
	for _, lane := range t.lanes {
		if !lane.created || lane.complete > t.readyTo {
			continue
		}
		if err := lane.stream.requestProgress(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) disconnect() {
	t.closeLanes(t.lanes)
	if t.next != nil {
		t.next.stream.close()
	}
	t.lanes, t.next, t.cut = nil, nil, laneCut{}
	t.ready, t.readyTo = nil, t.done
	t.room.reset()
}

func (t *tail) closeLanes(lanes []*lane) {
	for _, lane := range lanes {
		lane.stream.end()
	}
	for _, lane := range lanes {
		lane.stream.close()
	}
}

func (t *tail) close() {
	t.disconnect()
	t.ticker.Stop()
}
