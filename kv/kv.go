// Package kv holds etcd's requests as values: a transaction is data that can be built without a client, printed,
// compared, and executed by whatever implements Store. The real etcd is reached through kv/kvetcd; kv/kvmem is the same
// semantics in memory, on a clock that its owner turns; both pass the suite in kv/kvtest. The package itself does no
// I/O and imports nothing of ours but fence, for the classes of outcomes.
package kv

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds of one transaction, as etcd has them by default. A transaction above them is refused before it is sent.
const (
	TxnOpsMax     = 128             // compares, and operations of each branch
	RequestBytes  = 1536 * 1024     // etcd's limit of one request
	TxnBytesMax   = 1 * 1024 * 1024 // what we pack into one, well below it
	LeaseTTLMin   = 2 * time.Second
	valueOverhead = 32
)

// LeaseID names a lease. 0 is none.
type LeaseID int64

// Target is what a compare looks at.
type Target uint8

// The targets. A key that does not exist has revision and version 0.
const (
	ModRevision Target = iota + 1
	CreateRevision
	Version
	Value
)

// Relation is how a compare relates what is stored to what it carries.
type Relation uint8

// The relations.
const (
	Equal Relation = iota + 1
	NotEqual
	Less
	Greater
)

// Compare is one condition of a transaction. Of a range every key must meet it; of an empty one, a key that does not
// exist.
type Compare struct {
	Key      string
	End      string // as in Op
	Target   Target
	Relation Relation
	Number   int64  // for revisions and versions
	Value    []byte // for Value
}

// ModIs compares the key's mod revision; 0 means that the key does not exist.
func ModIs(key string, revision int64) Compare {
	return Compare{Key: key, Target: ModRevision, Relation: Equal, Number: revision}
}

// CreateIs compares the key's create revision; 0 means that the key does not exist.
func CreateIs(key string, revision int64) Compare {
	return Compare{Key: key, Target: CreateRevision, Relation: Equal, Number: revision}
}

// ModAtMost holds as long as no key that begins with prefix was written after the revision. It does not see deletes.
func ModAtMost(prefix string, revision int64) Compare {
	return Compare{Key: prefix, End: PrefixEnd(prefix), Target: ModRevision, Relation: Less, Number: revision + 1}
}

// OpKind is what an operation does.
type OpKind uint8

// The kinds of operations.
const (
	OpGet OpKind = iota + 1
	OpPut
	OpDelete
)

// Op is one operation of a transaction. A transaction may put or delete a key only once.
type Op struct {
	Kind  OpKind
	Key   string
	End   string // get and delete: "" for one key, else the exclusive end of a range; "\x00" is +∞
	Value []byte
	Lease LeaseID // put
	Limit int64   // get; 0 is no limit
}

// Get reads one key.
func Get(key string) Op { return Op{Kind: OpGet, Key: key} }

// GetPrefix reads all keys that begin with prefix.
func GetPrefix(prefix string) Op { return Op{Kind: OpGet, Key: prefix, End: PrefixEnd(prefix)} }

// Put stores a value without a lease.
func Put(key string, value []byte) Op { return Op{Kind: OpPut, Key: key, Value: value} }

// PutLeased stores a value that goes with the lease.
func PutLeased(key string, value []byte, lease LeaseID) Op {
	return Op{Kind: OpPut, Key: key, Value: value, Lease: lease}
}

// Delete removes one key.
func Delete(key string) Op { return Op{Kind: OpDelete, Key: key} }

// DeletePrefix removes all keys that begin with prefix.
func DeletePrefix(prefix string) Op {
	return Op{Kind: OpDelete, Key: prefix, End: PrefixEnd(prefix)}
}

// RangeEndInfinite is the End of a range without end.
const RangeEndInfinite = "\x00"

// PrefixEnd returns the exclusive end of the range of keys that begin with prefix.
func PrefixEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return RangeEndInfinite
}

// Txn is one transaction: if all compares hold, Then is done, else Else; atomically.
type Txn struct {
	If   []Compare
	Then []Op
	Else []Op
}

// ErrTooLarge says that a transaction is above the bounds of this package. It was not sent.
var ErrTooLarge = errors.New("kv: transaction above etcd's limits")

// Check returns ErrTooLarge, wrapped with the figure, for a transaction above the bounds.
func (t Txn) Check() error {
	if n := max(len(t.If), len(t.Then), len(t.Else)); n > TxnOpsMax {
		return fmt.Errorf("%w: %d compares or operations, at most %d", ErrTooLarge, n, TxnOpsMax)
	}
	if n := t.Size(); n > RequestBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, RequestBytes)
	}
	return nil
}

// Size returns about how many bytes the transaction has on the wire.
func (t Txn) Size() int {
	size := 0
	for _, c := range t.If {
		size += len(c.Key) + len(c.End) + len(c.Value) + valueOverhead
	}
	for _, ops := range [][]Op{t.Then, t.Else} {
		for _, op := range ops {
			size += len(op.Key) + len(op.End) + len(op.Value) + valueOverhead
		}
	}
	return size
}

// Pair is a stored key with its value.
type Pair struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Version        int64
	Lease          LeaseID
}

// Header comes with every answer.
type Header struct {
	ClusterID uint64
	Revision  int64 // of the store when it answered
}

// Result is the answer to a transaction.
type Result struct {
	Header
	Succeeded bool
	Responses []Response // one for each operation of the branch that was done
}

// Response is the answer to one operation.
type Response struct {
	Pairs   []Pair // get, in order of keys
	More    bool   // get: the limit left some out
	Deleted int64  // delete
}

// Modified returns the mod revision of each key that the transaction read by itself, 0 if there was none.
func (r *Result) Modified(txn Txn) map[string]int64 {
	ops := txn.Then
	if !r.Succeeded {
		ops = txn.Else
	}
	out := map[string]int64{}
	for i, op := range ops {
		if op.Kind != OpGet || op.End != "" || i >= len(r.Responses) {
			continue
		}
		out[op.Key] = 0
		for _, pair := range r.Responses[i].Pairs {
			out[op.Key] = pair.ModRevision
		}
	}
	return out
}

// Range is a linearizable read.
type Range struct {
	Key      string
	End      string // as in Op
	Limit    int64
	Revision int64 // 0 is the newest
	KeysOnly bool  // pairs come without value and lease
}

// RangeResult is the answer to a Range.
type RangeResult struct {
	Header
	Pairs []Pair
	More  bool
	Count int64 // of all keys in the range
}

// WatchRequest asks for the events of a range.
type WatchRequest struct {
	Key  string
	End  string // as in Op
	From int64  // first revision; at least 1
}

// Event is a put or a delete.
type Event struct {
	Deleted bool
	Pair    Pair // of a delete only Key and ModRevision
}

// WatchResponse is what a watch delivers: events, or progress, or its end.
type WatchResponse struct {
	Header // Revision: every event of the range at or below it was delivered, if Fragment is false
	Events []Event
	// Fragment says that more events follow, which may be of the last event's revision.
	Fragment bool
	// Compacted is the revision below which history is gone, when the watch ended for that. 0 otherwise.
	Compacted int64
	// Err says why the watch ended. After it the channel is closed.
	Err error
}

// Lease is a granted lease.
type Lease struct {
	Header
	ID  LeaseID
	TTL time.Duration // as granted, which may be more than was asked
}

// Errors of a Store. Txn's errors are of three classes: [fence.ErrUnknown] (it may have been done), ErrTooLarge, and
// anything else (it was not done).
var (
	// ErrCompacted says that the revision that was asked for is gone.
	ErrCompacted = errors.New("kv: revision compacted")
	// ErrLeaseNotFound says that the lease has ended.
	ErrLeaseNotFound = errors.New("kv: lease not found")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("kv: closed")
)

// Store executes the values. It never repeats a transaction by itself: a transaction whose answer was lost returns
// [fence.ErrUnknown]. All methods are bounded by their context and may be called concurrently.
type Store interface {
	Txn(ctx context.Context, txn Txn) (Result, error)
	Range(ctx context.Context, r Range) (RangeResult, error)
	// Watch delivers the events of a range in order, until ctx ends or the last response with Err. Each watch has a
	// stream of its own.
	Watch(ctx context.Context, request WatchRequest) Watch
	Grant(ctx context.Context, ttl time.Duration) (Lease, error)
	// KeepAlive renews a lease once. ErrLeaseNotFound if it has ended.
	KeepAlive(ctx context.Context, id LeaseID) (Lease, error)
	// Revoke ends a lease and deletes its keys.
	Revoke(ctx context.Context, id LeaseID) error
	Close() error
}

// Watch is a running watch.
type Watch interface {
	// Responses is closed after the watch ended.
	Responses() <-chan WatchResponse
	// RequestProgress asks for a response that tells how far the watch is, which comes only when it is not behind.
	RequestProgress(ctx context.Context) error
}
