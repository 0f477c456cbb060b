package dispatcher

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/source"
)

// originError says on which side something failed, for people.
type originError struct {
	code changefeed.Code
	err  error
}

func (e *originError) Error() string { return e.err.Error() }
func (e *originError) Unwrap() error { return e.err }

func ofSource(err error) error {
	return &originError{code: changefeed.CodeSourceUnreachable, err: fmt.Errorf("dispatcher: read: %w", err)}
}

func ofSink(err error) error {
	return &originError{code: changefeed.CodeSinkUnreachable, err: fmt.Errorf("dispatcher: write: %w", err)}
}

// attempt is one claim and what was written under it.
type attempt struct {
	*pump
	moved  bool // something was written
	writer sink.Writer
	reader source.Reader
	unread func() // ends the goroutine that reads, and waits for it
	forget func() // gives back the memory that the reader might fill
	pieces *pieces
	last   changefeed.Time // of the last write; 0 before
	whole  changefeed.Span // what the source holds
	open   gathered        // what the sink has that is not durable yet

	limit   change.Position // above which nothing is written now; 0: there is none
	pending []run           // what was read and waits above the limit
	upTo    change.Position // what is being written reaches there, in one batch or several
}

// close ends what the attempt opened, in the order reader, writer.
func (a *attempt) close(log *zap.Logger) {
	if a.unread != nil {
		a.unread()
	}
	if a.reader != nil {
		if err := a.reader.Close(); err != nil {
			log.Debug("reader not closed", zap.Error(err))
		}
	}
	if a.forget != nil {
		a.forget()
	}
	if a.writer != nil {
		if err := a.writer.Close(); err != nil {
			log.Debug("writer not closed", zap.Error(err))
		}
	}
}

// do opens, claims, and copies until something ends it.
func (a *attempt) do(ctx context.Context) error {
	from, target, err := a.links.open()
	if err != nil {
		return err
	}
	if err := a.prepare(ctx, from, target); err != nil {
		return err
	}
	a.whole = from.Span()
	reading, stop := context.WithCancel(ctx)
	var room int
	room, a.forget = a.ahead.take(a.limits.bytes)
	request := a.pieces.request(room)
	to, gathers := a.gathering()
	request.Lines = gathers && to.TakesLines()
	reader, err := from.Read(reading, request)
	if err != nil {
		stop()
		return ofSource(err)
	}
	a.reader = reader
	buffer := newBuffer(a.limits)
	if gathers {
		buffer.joinedMax = 0 // they go together anyway
	}
	var readers sync.WaitGroup
	readers.Go(func() { buffer.fill(reading, reader) })
	a.unread = func() {
		stop()
		readers.Wait()
	}
	return a.copy(ctx, buffer)
}

// prepare identifies the source and claims the span. An order to stop at once cuts it short: it must not wait for a
// source or a sink that does not answer.
func (a *attempt) prepare(ctx context.Context, from source.Source, to sink.Sink) error {
	ready, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.watch(ready, cancel, nil)()
	if err := a.identify(ready, from); err != nil {
		return err
	}
	if err := a.claim(ready, to); err != nil {
		return err
	}
	return a.doubt.Confirm(Pieces{held: a.pieces})
}

// watch calls stop when the pump is asked to stop at once, and hear, if there is one, at first and whenever it is asked something. The
// returned function ends the watch.
func (a *attempt) watch(ctx context.Context, stop context.CancelFunc, hear func()) func() {
	var watch sync.WaitGroup
	over, end := context.WithCancel(ctx)
	watch.Go(func() {
		for {
			if a.stopsNow() {
				stop()
				return
			}
			if hear != nil {
				hear()
			}
			select {
			case <-a.ordered:
			case <-over.Done():
				return
			}
		}
	})
	return func() {
		end()
		watch.Wait()
	}
}

// identify makes sure that the source is the one that the checkpoint was stored with.
func (a *attempt) identify(ctx context.Context, from source.Source) error {
	a.waits(waitsForSource)
	identity, err := from.Identity(ctx)
	if err != nil {
		return ofSource(err)
	}
	if err := source.Same(a.start.SourceID, identity); err != nil {
		return err
	}
	a.publish(inTurn, func(progress *Progress) { progress.SourceID = identity })
	return nil
}

// claim takes the span in the sink. From here on nobody who claimed a part of it before can write there.
func (a *attempt) claim(ctx context.Context, to sink.Sink) error {
	if err := a.mayWrite(); err != nil {
		return err
	}
	a.waits(waitsForClaim)
	limited, cancel := a.session.Context(ctx)
	defer cancel()
	// A sink without a memory starts where it is told to: at what this very pump has written already.
	known := a.known()
	from := a.start.From
	if known.Known {
		from = change.Later(from, known.Mark)
	}
	writer, err := to.Claim(limited, sink.Claim{
		Span: a.start.Span, Token: a.start.Token, From: from, Floor: a.start.Floor,
	})
	if err != nil {
		a.metrics.refusedStale(err, refusedClaim)
		return ofSink(err)
	}
	a.unknown = false
	a.writer, a.pieces = writer, newPieces(writer.Pieces())
	mark := a.pieces.mark()
	a.publish(atOnce, func(progress *Progress) {
		progress.Claimed, progress.Known = true, true
		progress.Mark = change.Later(progress.Mark, mark)
		progress.Highest = max(progress.Highest, a.pieces.highest().Position)
		progress.Resolved = max(progress.Resolved, progress.Mark.Whole())
	})
	return nil
}

// mayWrite is asked right before anything is handed to the sink.
func (a *attempt) mayWrite() error {
	err := MayWrite(&a.revoked, a.session.Alive)
	if err != nil {
		a.metrics.Refused(refusedSession.Rule())
	}
	return err
}
