package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
)

const (
	// eventsMax is how many events wait to be taken; then the server waits.
	eventsMax = 4

	retryDelay    = 20 * time.Millisecond
	retryDelayMax = 500 * time.Millisecond
	// calmAfter is how long nothing must have failed for the next failure to be a first one.
	calmAfter = 15 * time.Second

	// statusEvery is how often the server hears from us. It gives up on who is silent for wal_sender_timeout, a minute by default.
	statusEvery = time.Second
)

// Log is the one reader of the slot. See [source.Log]. Its goroutine ends with Close or with the context of Follow.
type Log struct {
	source *Source
	as     protocol // of the next connection; of the goroutine
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the goroutine has ended

	events  chan source.Event
	failure error // of the goroutine, once done is closed
	sticky  error // what Next fails with from now on

	acknowledged atomic.Uint64 // what the server may forget
	acks         chan struct{} // there is more of it than was sent
	hurry        chan struct{}
	received     atomic.Uint64 // up to where the server has sent everything
	head         atomic.Uint64 // of the server, as far as was heard
	retained     atomic.Int64  // bytes of its log that it keeps for the slot, and one; 0 before that was heard
	streamed     atomic.Int64  // bytes of transactions in progress that we keep
}

var (
	_ source.Log       = (*Log)(nil)
	_ source.Hurrying  = (*Log)(nil)
	_ source.Retaining = (*Log)(nil)
	_ source.Streaming = (*Log)(nil)
)

// Follow opens the log above a position.
func (s *Source) Follow(ctx context.Context, above change.Position) (source.Log, error) {
	return s.follow(ctx, above), nil
}

func (s *Source) follow(ctx context.Context, above change.Position) *Log {
	life, cancel := context.WithCancelCause(ctx)
	l := &Log{
		source: s, cancel: cancel, done: make(chan struct{}), events: make(chan source.Event, eventsMax),
		acks: make(chan struct{}, 1), hurry: make(chan struct{}, 1), as: s.protocol(),
	}
	go func() {
		defer close(l.done)
		l.failure = l.run(life, change.At(above))
	}()
	return l
}

// Next waits for the next event.
func (l *Log) Next(ctx context.Context) (source.Event, error) {
	if l.sticky != nil {
		return source.Event{}, l.sticky
	}
	select {
	case event := <-l.events:
		return event, nil
	case <-ctx.Done():
		l.sticky = ctx.Err()
	case <-l.done:
		select {
		case event := <-l.events:
			return event, nil
		default:
			l.sticky = l.failure
		}
	}
	return source.Event{}, l.sticky
}

// Close ends the log's goroutines and connections.
func (l *Log) Close() error {
	l.cancel(context.Canceled)
	<-l.done
	if l.sticky == nil {
		l.sticky = errClosed
	}
	return nil
}

// Acknowledge lets the server forget everything at or below a position.
func (l *Log) Acknowledge(position change.Position) {
	for {
		before := l.acknowledged.Load()
		if uint64(position) <= before {
			return
		}
		if l.acknowledged.CompareAndSwap(before, uint64(position)) {
			signal(l.acks)
			return
		}
	}
}

// Retained returns how much of its log the server keeps for the slot.
func (l *Log) Retained() (int64, bool) {
	retained := l.retained.Load()
	return retained - 1, retained > 0
}

// Streamed returns how many bytes of transactions in progress are on the local disk.
func (l *Log) Streamed() int64 { return l.streamed.Load() }

// Hurry has the server asked how far it is.
func (l *Log) Hurry() { signal(l.hurry) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// run follows the log over as many connections as it takes.
func (l *Log) run(ctx context.Context, done change.Mark) error {
	var firstFailed, lastFailed time.Time
	delay := retryDelay
	for {
		before := done
		err := l.session(ctx, &done)
		if before.Before(done) {
			firstFailed = time.Time{} // a server that is lost again and again, but sends something each time, is no fault
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.source.final(err) {
			return l.source.fault(err)
		}
		if errors.Is(err, errNotSpooled) && l.as == protocolStreamed {
			l.streamNoMore(err)
			continue
		}
		now := time.Now()
		if firstFailed.IsZero() || now.Sub(lastFailed) > calmAfter {
			firstFailed, delay = now, retryDelay
			l.source.logger.Info("source lost, connecting again", zap.Stringer("source", l.source.server.URI), zap.Error(err))
		}
		lastFailed = now
		if now.Sub(firstFailed) > l.source.patience.retry {
			return l.source.fault(err)
		}
		timer := time.NewTimer(delay)
		delay = min(2*delay, retryDelayMax)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// final reports that connecting again changes nothing.
func (s *Source) final(err error) bool {
	var fault *changefeed.Fault
	if errors.As(err, &fault) || errors.Is(err, fence.ErrStale) || errors.Is(err, errMalformed) || errors.Is(err, errTooMany) {
		return true
	}
	switch codeOf(err) {
	case codeDenied, codeBadPassword, codeBadUser, codeNoDatabase:
		return true
	}
	return false
}

// session follows the log over one connection, above what was given out, and moves that along.
func (l *Log) session(ctx context.Context, done *change.Mark) error {
	c, err := l.source.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close() //nolint:contextcheck // a goodbye has its own time
	confirmed, err := l.source.enter(ctx, c, done.Whole())
	if err != nil {
		return err
	}
	log, err := l.source.openStream(ctx, done.Whole(), l.as)
	if err != nil {
		return err
	}
	group, life := errgroup.WithContext(ctx)
	stop := context.AfterFunc(life, log.close)
	defer stop()
	group.Go(func() error { return l.receive(life, log, done) })
	group.Go(func() error { return l.tell(life, log, confirmed) })
	group.Go(func() error { return l.keep(life, c) })
	err = group.Wait()
	log.close()
	return err
}

// enter looks whether the slot can be followed above a position, and has it to itself. It returns what the slot has confirmed.
func (s *Source) enter(ctx context.Context, c *connection, above change.Position) (change.Position, error) {
	if err := s.suits(ctx, c); err != nil {
		return 0, err
	}
	if err := s.sit(ctx, c, courtesy); err != nil {
		return 0, err
	}
	if err := s.vacate(ctx, c); err != nil {
		return 0, err
	}
	there, err := s.slot(ctx, c)
	if err != nil {
		return 0, err
	}
	switch {
	case !there.found:
		return 0, s.slotLost("has no replication slot " + s.slotName() + " any more")
	case there.lost:
		return 0, s.slotLost("has a replication slot " + s.slotName() + " that " + there.why)
	case there.confirmed > above+1:
		// The server would begin there without a word.
		return 0, s.slotLost(fmt.Sprintf("has a replication slot %s that was moved to %s by somebody, beyond %s, up to where everything was copied",
			s.slotName(), formatLSN(there.confirmed), formatLSN(above)))
	}
	return there.confirmed, nil
}

// receive makes events of what the server sends.
func (l *Log) receive(ctx context.Context, log *stream, done *change.Mark) error {
	a := newAssembler(*done)
	book := &book{source: l.source}
	defer book.close() //nolint:contextcheck // a goodbye has its own time
	spool := l.source.newSpool(&l.streamed)
	defer spool.close()
	take := func(message []byte) error {
		err := read(ctx, a, book, message)
		if err == nil && a.full() { // and more may come from the spool
			err = l.give(ctx, a, done)
		}
		return err
	}
	for {
		message, err := log.receive()
		if err != nil {
			return err
		}
		if message.log != nil {
			err = spool.take(message.log, take)
		} else {
			l.received.Store(uint64(message.sent))
			a.progress(below(message.sent))
			if message.request {
				err = log.send(status{received: message.sent})
			}
		}
		if err != nil {
			return err
		}
		if a.open || !log.idle() {
			continue
		}
		if err := l.give(ctx, a, done); err != nil {
			return err
		}
	}
}

// give gives out what there is.
func (l *Log) give(ctx context.Context, a *assembler, done *change.Mark) error {
	event, some := a.event()
	if !some {
		return nil
	}
	event.Resolved = max(event.To.Position, change.Position(l.head.Load()))
	select {
	case l.events <- event:
		*done = event.To
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read takes in a message of the log, and what it carries.
func read(ctx context.Context, a *assembler, book *book, message []byte) error {
	carried, err := joining(message)
	if err == nil && len(carried) > 0 {
		carried, err = book.confirmed(ctx, carried, a.xid)
	}
	if err != nil {
		return err
	}
	for _, one := range carried {
		if err := readOne(ctx, a, book, one); err != nil {
			return err
		}
	}
	return readOne(ctx, a, book, message)
}

func readOne(ctx context.Context, a *assembler, book *book, message []byte) error {
	described, err := a.take(message)
	if err != nil || described == nil {
		return err
	}
	relation, err := book.read(ctx, *described, a.types, a.xid)
	if err != nil {
		return err
	}
	a.learn(described.oid, relation)
	return nil
}

// tell tells the server how far we are: at once when there is more that it may forget, and now and then, also while nobody takes
// events.
func (l *Log) tell(ctx context.Context, log *stream, confirmed change.Position) error {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		what := status{received: change.Position(l.received.Load())}
		if acknowledged := change.Position(l.acknowledged.Load()); acknowledged > confirmed {
			confirmed, what.confirmed = acknowledged, acknowledged
		}
		if err := log.send(what); err != nil {
			return err
		}
		if what.confirmed > 0 {
			continue // and confirms nothing from then on
		}
		select {
		case <-l.acks:
		case <-ticker.C:
		case <-l.hurry:
			if err := log.send(status{received: change.Position(l.received.Load()), ask: true}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
