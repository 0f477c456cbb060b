package epochstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// attemptsMax bounds how often one write is sent again after answers that were lost or compares that met somebody
// else's write. Every attempt is bounded by the caller's context too.
const attemptsMax = 8

// Seen is a record as it was read: its content and the revisions that pin it. A zero ModRevision says that the key did
// not exist; Record is nil then, and also if Err says that the record does not parse.
type Seen[T any] struct {
	Record         *T
	CreateRevision int64
	ModRevision    int64
	Err            error
}

// Exists reports whether the key was there, readable or not.
func (s Seen[T]) Exists() bool { return s.ModRevision != 0 }

// seenPair decodes what was read under a key.
func seenPair[T any, P interface {
	*T
	record.Record
}](keys record.Keys, pair kv.Pair) Seen[T] {
	decoded, err := record.DecodeAs[T, P](keys, pair.Key, pair.Value)
	return Seen[T]{Record: decoded, CreateRevision: pair.CreateRevision, ModRevision: pair.ModRevision, Err: err}
}

// seenOne decodes the answer to a Get of one key.
func seenOne[T any, P interface {
	*T
	record.Record
}](keys record.Keys, response kv.Response) Seen[T] {
	if len(response.Pairs) == 0 {
		return Seen[T]{}
	}
	return seenPair[T, P](keys, response.Pairs[0])
}

// Store reads and writes the records of one cluster. It is safe for concurrent use and holds no state of its own.
type Store struct {
	kv   kv.Store
	keys record.Keys
	wall func() time.Time

	inTurn  bool         // transactions are sent one after another
	refused func(string) // is told the rule of each refusal; nil: nobody is
}

// New returns a store of the cluster's records. wall stamps what people read; no decision depends on it.
func New(store kv.Store, keys record.Keys, wall func() time.Time) *Store {
	return &Store{kv: store, keys: keys, wall: wall}
}

// InTurn returns a store of the same records that sends its transactions one after another, and starts no goroutine: for
// a caller that must be the only one to run, as a simulator is.
func (s *Store) InTurn() *Store {
	turned := *s
	turned.inTurn = true
	return &turned
}

// Counting returns a store of the same records that tells the rule by which a write was refused, as in "F4". count may be
// called by any goroutine.
func (s *Store) Counting(count func(rule string)) *Store {
	counting := *s
	counting.refused = count
	return &counting
}

// Keys returns the keys of the cluster.
func (s *Store) Keys() record.Keys { return s.keys }

func (s *Store) now() time.Time { return s.wall().UTC().Round(0) }

// drive sends what the exchange wants, one after another.
func (s *Store) drive(ctx context.Context, exchange *Exchange) []Outcome {
	for {
		txn, more := exchange.Next()
		if !more {
			outcomes := exchange.Outcomes()
			for i := range outcomes {
				s.count(outcomes[i].Err)
			}
			return outcomes
		}
		exchange.Answer(s.kv.Txn(ctx, txn))
	}
}

// driveOne is drive for an exchange of one write.
func (s *Store) driveOne(ctx context.Context, exchange *Exchange) Outcome {
	return s.drive(ctx, exchange)[0]
}

// firstPair returns the pair of a Get of one key; the zero pair if there is none.
func firstPair(response kv.Response) kv.Pair {
	if len(response.Pairs) == 0 {
		return kv.Pair{}
	}
	return response.Pairs[0]
}

// ErrConflict says that somebody else changed what a write was decided on: read again, decide again. It is a
// [fence.ErrStale].
var ErrConflict = fmt.Errorf("%w: the record was changed by somebody else", fence.ErrStale)

// ErrTermOver says that the writer is not the coordinator any more. It is a [fence.ErrStale].
var ErrTermOver = fmt.Errorf("%w: the term of this coordinator is over", fence.ErrStale)

// ErrFenced says that the epoch record is not the one of this ownership any more. It is a [fence.ErrStale].
var ErrFenced = fmt.Errorf("%w: the changefeed has another owner", fence.ErrStale)

// ErrSessionOver says that the node's lease or its local deadline has ended. It is a [fence.ErrStale].
var ErrSessionOver = fmt.Errorf("%w: the session is over", fence.ErrStale)

// ErrRefused says that a write was asked for that contradicts itself or the records that it names. It was not sent.
var ErrRefused = errors.New("epochstore: refused")

func notFound(id changefeed.ID) error {
	return &changefeed.Fault{
		Code: changefeed.CodeNotFound, Field: "changefeed", Value: id.String(), Detail: "does not exist",
		Cure: "list the changefeeds with cdc-node changefeed list -A",
	}
}
