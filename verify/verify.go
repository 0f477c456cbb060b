package verify

import (
	"context"
	"errors"
	"time"

	"fencerow/change"
)

// Bounds of one comparison.
const (
	ChunkRows = 1000
	// pendingMax bounds the rows that wait to be looked at again; beyond it they are, before the next chunk is read.
	pendingMax = 10_000
	// lookMax bounds the rows that are asked for at once.
	lookMax = 500
	// listMax bounds the rows of one chunk at one side: a target may have any number of rows that the source has not.
	listMax = 10 * ChunkRows
	// RoundsMax bounds how often a row is looked at again. One that changed each time is said to be unsettled.
	RoundsMax = 8
	// sampledMax bounds the rows of a source without a history that are looked at again and again while the target is waited for,
	// and samplesMax what is remembered of each. samplePause is between two such looks.
	sampledMax  = 100
	samplesMax  = 200
	samplePause = 5 * time.Millisecond
	// recallsMax bounds the rows of a round whose history is asked for; others wait for the next one.
	recallsMax = 500
	// ReachMax is how long the target may take to come to where the source was.
	ReachMax = 30 * time.Second
	// LimitDefault and LimitMax bound the differences that are named. There the comparison ends.
	LimitDefault = 100
	LimitMax     = 10_000
	// unsettledMax bounds the unsettled rows that are named; beyond it they are counted.
	unsettledMax = 100
	// WholeRowsMax bounds a table without a key, all of which is compared at once.
	WholeRowsMax = 200_000
)

// Chunk is a range of keys of a table, of which the borders are whatever the sides understand.
type Chunk struct {
	Table string
	From  string // "": from the beginning
	To    string // "": to the end
}

// Sum is what both sides have in common when they hold the same rows.
type Sum struct {
	Rows   int64
	Digest string
}

// Page is a chunk with its digest.
type Page struct {
	Chunk Chunk
	Sum   Sum
	More  bool // others may follow
	// Apart says that the sides don't have rows of the table in one order, so that a range of keys holds other rows at each: the
	// target, which is [Keyed] then, is asked for rows by their keys, and the source for those that the target has.
	Apart bool
}

// Side is a source or a target. Rows of one table have different keys; a table without keys is one [Row] that is Whole. Each
// method may return [*Leave].
type Side interface {
	// Sum digests the rows of a chunk.
	Sum(ctx context.Context, chunk Chunk) (Sum, error)
	// List returns rows of a chunk, at most so many.
	List(ctx context.Context, chunk Chunk, rowsMax int) ([]Row, error)
	// Look returns those of the rows that are there, in any order, with columns where it can tell them.
	Look(ctx context.Context, table string, keys []string) ([]Row, error)
}

// Source is the side whose changes the other one is brought.
type Source interface {
	Side
	// Next returns the chunk that follows, of about so many rows; after the zero chunk comes the first. The last chunk of a
	// table has no To. ErrEnd: none follows. With [*Leave] comes the chunk's table.
	Next(ctx context.Context, after Chunk, rows int) (Page, error)
	// Total is about how many rows there are; 0 where that is not known.
	Total(ctx context.Context) (int64, error)
	// Head returns a position at or above that of every change that a read that has ended could see.
	Head(ctx context.Context) (change.Position, error)
	// Settle waits until reads see everything that a target may hold by now. ErrBusy: that takes too long.
	Settle(ctx context.Context) error
}

// Historian is a source that knows what a row was at every moment.
type Historian interface {
	// Was calls tell with the state of a row at one position and with each that it had up to another; there is false where
	// it was gone. ErrForgotten: the source does not know any more.
	Was(ctx context.Context, key RowKey, from, upTo change.Position, tell func(row Row, there bool)) error
}

// Keyed is a target with tables whose rows it has in another order than the source.
type Keyed interface {
	// Keys returns the keys that follow one in the target's own order, at most so many; after "" come the first.
	Keys(ctx context.Context, table, after string, rowsMax int) ([]string, error)
}

// ErrEnd says that no chunk follows.
var ErrEnd = errors.New("verify: no chunk follows")

// Leave is the error of a side that can't go on with a table. The others are compared.
type Leave struct{ Why string }

// Error implements error.
func (l *Leave) Error() string { return "verify: a table is left out: " + l.Why }

// Left is what was not compared, or not to its end: a table, or columns of it.
type Left struct {
	Table   string
	Columns []string // nil: all of it
	Why     string
}

// RowKey names a row.
type RowKey struct{ Table, Key string }

// ErrForgotten says that history is gone.
var ErrForgotten = errors.New("verify: history is gone")

// ErrBusy says that transactions of the source have been running for so long that it can't be told what they will have done.
var ErrBusy = errors.New("verify: transactions of the source go on")

// Config is what a comparison is made of.
type Config struct {
	Source Source
	Target Side
	// Reached returns the position up to which the target has everything.
	Reached func(ctx context.Context) (change.Position, error)
	// Pace is called with the rows that are about to be read, and waits as long as they have to.
	Pace func(ctx context.Context, rows int) error
	// Tell is told how far it is, now and then, and each difference.
	Tell     func(Progress)
	Limit    int           // of differences; 0: LimitDefault
	ReachMax time.Duration // 0: ReachMax
	Poll     time.Duration // how often Reached is asked; 0: pollDefault
}

const pollDefault = 200 * time.Millisecond

// Progress is how far a comparison is.
type Progress struct {
	Rows    int64 // of the source that were read
	Total   int64 // about; 0 where that is not known
	Pending int   // rows that are looked at again
	Found   *Difference
}

// Difference is a row that is not in the target as it is in the source.
type Difference struct {
	Kind    Kind
	Table   string
	Key     string
	Columns []string // that differ, where the sides tell
}

// Unsettled is a row of which it could not be told.
type Unsettled struct {
	Table string
	Key   string
	Why   string
}

// Report is what a comparison found.
type Report struct {
	Rows        int64
	From        change.Position // the comparison holds of the source as it was here or later
	To          change.Position // and not later than here
	Differences []Difference
	// Limited says that there are more differences than were to be named: not all was compared.
	Limited        bool
	Unsettled      []Unsettled
	UnsettledCount int
	Left           []Left
}
