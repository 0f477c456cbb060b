// Package sink is the contract of every sink: how a writer claims a span, how its writes are compared with its claim
// where they land, and the map of pieces that remembers how far each part of the key space is (pure code, once, in
// Map). One package below it per kind of sink. It knows no source and no protocol between nodes.
//
// The fence in the sink has three parts. The head of a changefeed's uid holds the etcd cluster that it belongs to, the
// floor below which no claim is taken, and whether it was removed. The map holds pieces: spans that never overlap,
// each with how far it is done, the token that claimed it last and the incarnation that this Claim drew. A write is
// compared with its incarnation in the same atomic step in which its data lands.
package sink

import (
	"context"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// Identity says whose data a sink holds. A target that another identity has claimed is refused: sink.in_use.
type Identity struct {
	Cluster    string // id of the etcd cluster that holds the records
	Changefeed changefeed.ID
	UID        changefeed.UID
}

// Sink is one changefeed's connection to its target on one node. It opens its connections on first use. Its methods
// may be called concurrently; each is bounded by its context. Errors that people are shown are [*changefeed.Fault];
// the outcome classes are those of package fence: ErrStale (refused by a fence, stop), ErrUnknown (it may have
// happened: claim again), anything else did not happen and may be tried again.
type Sink interface {
	// Raise creates the head the first time, and raises its floor to the epoch. It is the first act of a maintainer
	// (F26), and with epoch + 1 the last one before a pause. A head that exists with a higher floor refuses: ErrStale.
	// known says what the maintainer knows to be durable already.
	Raise(ctx context.Context, epoch fence.Epoch, known Known) error
	// Claim takes the span for the token in one atomic step and fences out every earlier writer of any part of it.
	// Parts that were never claimed start at from.
	Claim(ctx context.Context, claim Claim) (Writer, error)
	// Remove sets removed on the head, which stays, and then cleans up what the changefeed kept in the target beside
	// its data. Nobody can claim or write afterwards. Removing what was removed is nil.
	Remove(ctx context.Context, epoch fence.Epoch) error
	// Close ends the connections. Writers of the sink must have ended.
	Close() error
}

// Known is what a maintainer knows of a changefeed when it raises the floor.
type Known uint8

// What is known. The zero value asks for nothing.
const (
	KnownNothing    Known = iota // a missing head is created
	KnownCheckpoint              // a checkpoint is stored: a missing head is the fault sink.lost, permanent
)

// Claim is what a dispatcher asks of a sink.
type Claim struct {
	Span  changefeed.Span
	Token fence.Token
	From  change.Mark // where parts that were never claimed start
	// Floor is the stored checkpoint of the changefeed, below which no piece that was claimed before may be: one
	// that is, is the fault sink.behind_checkpoint, permanent. 0 asks for nothing.
	Floor change.Position
}

// Piece is a part of the key space and how far it is done in the sink.
type Piece struct {
	Span changefeed.Span
	Mark change.Mark
}

// Writer holds one claim's incarnation. It is used by one goroutine. A writer that returned an error is done with: the
// caller claims again, and gets a new one.
type Writer interface {
	// Pieces returns the pieces of the claim as they stood when it was taken, in order, partitioning its span. For
	// each, what is done at its mark must not be written again.
	Pieces() []Piece
	// Write stores the changes and moves the pieces of the claim that lie in the batch's span to its mark, never
	// back, in one atomic step, durable when it returns nil. F23: it is compared with the incarnation.
	Write(ctx context.Context, batch Batch) error
	// Limits says how much one batch may hold.
	Limits() Limits
	// Close ends the writer and keeps the claim. It is idempotent.
	Close() error
}

// Limits is how much one Write takes. 0 means that the sink does not mind.
type Limits struct {
	Changes int // changes of one batch
	Bytes   int // sum of change.Change.Size of one batch
	// DistinctKeys: no two changes of one batch may have the same key.
	DistinctKeys bool
}

// Batch is what is written in one atomic step.
type Batch struct {
	// Changes are in order of (Position, Index), all inside Span. It may be empty: then only the marks move.
	Changes []change.Change
	// Lines are the rows of a page of a snapshot in place of Changes. Only [Gathering.Gather] is given them; else nil.
	Lines *change.Lines
	// Span is the part of the claim that the batch brings up to To. For changes it is the claim's whole span; for a
	// page of a snapshot, or for a part of one position that is too large for one step, it is a part of it, and the
	// border between two pieces moves there.
	Span changefeed.Span
	// To is the mark that Span has reached when the batch is durable.
	To change.Mark
	// Snapshot says that Changes are everything that the source holds in Span at To. A sink that holds other keys
	// there, from before, deletes them in the same step (a copy), or appends their deletes (a log).
	Snapshot bool
}

// Rows returns how many changes the batch has.
func (b *Batch) Rows() int {
	if b.Lines != nil {
		return b.Lines.Count
	}
	return len(b.Changes)
}

// Apart returns the batch with changes in place of lines.
func (b *Batch) Apart() (Batch, error) {
	if b.Lines == nil {
		return *b, nil
	}
	out := *b
	var err error
	out.Lines = nil
	out.Changes, err = b.Lines.Changes(b.To.Position)
	return out, err
}
