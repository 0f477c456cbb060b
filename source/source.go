// Package source is the contract of every source: it delivers the changes of one span in the source's own order, from a
// mark on, and says up to where it has delivered everything. One package below it per kind of source. It knows no sink
// and no protocol between nodes.
package source

import (
	"context"

	"fencerow/change"
	"fencerow/changefeed"
)

// Source is one changefeed's connection to what it copies, on one node. It opens its connections on first use. Its
// methods may be called concurrently; each is bounded by its context. Errors that people are shown are
// [*changefeed.Fault]; the others may be tried again.
type Source interface {
	// Identity names the source's contents (etcd: the cluster id). A source with another identity than the one that
	// was stored is the fault source.replaced, permanent.
	Identity(ctx context.Context) (string, error)
	// Head returns the position up to which the source has committed, read linearizably.
	Head(ctx context.Context) (change.Position, error)
	// Span returns the part of the key space that the source holds.
	Span() changefeed.Span
	// Read opens a reader. It returns at once; what it can't reach shows at Next.
	Read(ctx context.Context, request Request) (Reader, error)
	// Close ends the connections. Readers must have been closed.
	Close() error
}

// Request says what a reader delivers. Pieces partition a span, in order; of each, what is done at its mark is left
// out. A piece whose mark is the zero Mark has its snapshot read first.
type Request struct {
	Pieces []Piece
	// BufferBytes bounds what the reader holds that was not taken yet, by change.Change.Size.
	BufferBytes int
	// Lines says that pages of a snapshot may come as lines, from a source that has them.
	Lines bool
}

// Piece is a part of the key space and how far it is done.
type Piece struct {
	Span changefeed.Span
	Mark change.Mark
}

// Reader delivers the events of one request. It is used by one goroutine, and owns goroutines that end with Close or
// with the context of Read.
type Reader interface {
	// Next waits for the next event. After an error the reader is done with. History that is gone is the fault
	// source.compacted (permanent, unless the changefeed's options say how to go on).
	Next(ctx context.Context) (Event, error)
	// Close ends the reader's goroutines and waits for them. It is idempotent.
	Close() error
}

// Event is a run of changes, or progress alone. Delivered in order, the changes of all events that cover a key have
// rising (Position, Index), and after an event everything of its Span at or below To has been delivered. The caller
// owns the slice.
type Event struct {
	// Changes are in order of (Position, Index). All changes of one position and span are in one event, except for
	// pages of a snapshot, where Span is the page, and for a position of a serial log that is too large for one event:
	// then To has the Index that follows the last change, and the last event of the position has it whole.
	Changes []change.Change
	// Lines are the rows of a page of a snapshot in place of Changes, where the request allows it; else nil.
	Lines *change.Lines
	// Span is what the event speaks of: the whole requested span, or the page of a snapshot.
	Span changefeed.Span
	// To is up to where everything of Span is delivered after this event.
	To change.Mark
	// Snapshot says that Changes (all OpRead) are everything that the source holds in Span at To: keys that are not
	// among them are gone.
	Snapshot bool
	// Resolved is the highest position known to the source when the event was made: the head that a reader that is
	// caught up has reached. At least To for the whole span; 0 if not known.
	Resolved change.Position
}

// Rows returns how many changes the event has.
func (e *Event) Rows() int {
	if e.Lines != nil {
		return e.Lines.Count
	}
	return len(e.Changes)
}

// Serial is a source with one log for everything, in the order in which it was committed. The maintainer has the one reader
// of the log, which feeds the dispatchers. So Read delivers only the snapshots of the pieces that have none yet, page by
// page, and after the last page io.EOF; the other pieces are left alone. A piece of which all pages were delivered goes on
// with the log, above the page's mark.
type Serial interface {
	Source
	// Prepare makes what the source keeps for the changefeed, so that of what is committed above the returned position
	// nothing is lost until it was acknowledged. Done again it finds what is there: every new owner does it once, before it
	// follows, and a mark below the position can't be followed. begun says that it was done before, as a record tells: then
	// what is missing is the fault source.slot_lost, permanent unless the options say how to go on.
	Prepare(ctx context.Context, begun bool) (change.Position, error)
	// Follow opens the log above a position, which must not be below what was acknowledged. It ends an older reader of an
	// older epoch, and none of a newer one. It returns at once; what it can't reach shows at Next.
	Follow(ctx context.Context, above change.Position) (Log, error)
	// Drop removes what Prepare made. What is gone already is nil.
	Drop(ctx context.Context) error
}

// Log is the one reader of a serial log. Next and Close are as those of [Reader], over the whole span of the source; it
// delivers no snapshots.
type Log interface {
	Reader
	// Acknowledge lets the source forget everything at or below a position, which is the stored checkpoint or below. It
	// may be called by any goroutine, and does not wait. A position below an earlier one is nothing new.
	Acknowledge(position change.Position)
}

// Retaining is implemented by logs that can say how much the source keeps until it is acknowledged. It may be called by any
// goroutine.
type Retaining interface {
	// Retained returns bytes, as the source said last; false before it did.
	Retained() (int64, bool)
}

// Streaming is implemented by logs that keep transactions in progress on the local disk. It may be called by any goroutine.
type Streaming interface {
	// Streamed returns how many bytes they take there.
	Streamed() int64
}

// Progress of a snapshot, for people.
type Progress struct {
	RowsRead  int64
	RowsTotal int64 // an estimate; 0 if not known
}

// Progressing is implemented by readers that can say how far their snapshot is. It may be called by any goroutine.
type Progressing interface {
	// Progress returns false when no snapshot is being read.
	Progress() (Progress, bool)
}

// Hurrying is implemented by readers that say only now and then how far a source without changes is, and can be asked to say so
// soon. It may be called by any goroutine, and does not wait.
type Hurrying interface{ Hurry() }

// Waiting is implemented by readers that may wait for something else than changes of the source. It may be called by any
// goroutine.
type Waiting interface {
	// Waits says in a few words what the reader waits for, "" if for nothing else.
	Waits() string
}
