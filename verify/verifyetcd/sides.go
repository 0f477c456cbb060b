// Package verifyetcd reads prefixes of an etcd for a comparison. What both sides have in common of a key is what follows the prefix,
// and of a pair its value, since leases and revisions are each store's own; with a table that keeps those of the source, these too.
package verifyetcd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"strconv"
	"time"

	"fencerow/change"
	"fencerow/kv"
	"fencerow/verify"
)

// Bounds of one request.
const (
	pageRowsMax   = 1000
	pageRowsFirst = 20      // before it is known how large values are
	pageBytes     = 4 << 20 // about what a page is to hold
	looksMax      = 64      // keys of one transaction
	// historyMax is how long the history of a key is waited for, and progressEvery how often the watch is asked where it is.
	historyMax    = 5 * time.Second
	requestMax    = 10 * time.Second
	triesMax      = 5
	tryPause      = 500 * time.Millisecond
	progressEvery = 50 * time.Millisecond
)

// columns are what a pair has beside its key, in the order in which a table has them.
var columns = []string{"value", "create_revision", "mod_revision", "version", "lease"} //nolint:gochecknoglobals // read only

// Config says what is read.
type Config struct {
	Store  kv.Store // the caller closes it
	Prefix string   // may be empty
	// Fault says what an error of the store is to people.
	Fault func(error) error
	// Kept says what the other side keeps of a pair beside its key.
	Kept Kept
}

// Kept is what two sides have in common of a pair.
type Kept uint8

// What is kept.
const (
	KeptValue Kept = iota // leases and revisions are each store's own
	KeptPair              // a table has the source's
)

// Side is a prefix of an etcd. It is used by one goroutine.
type Side struct {
	Config
	pageRows int64
}

var (
	_ verify.Source    = (*Side)(nil)
	_ verify.Historian = (*Side)(nil)
)

// New returns a side.
func New(config Config) *Side { return &Side{Config: config, pageRows: pageRowsFirst} }

// again asks, and asks again for a while: a comparison may take hours, and an election of etcd is no reason to begin anew.
func again[T any](ctx context.Context, s *Side, ask func(context.Context) (T, error)) (T, error) {
	for try := 1; ; try++ {
		bounded, cancel := context.WithTimeout(ctx, requestMax)
		out, err := ask(bounded)
		cancel()
		switch {
		case err == nil, errors.Is(err, kv.ErrCompacted):
			return out, err
		case ctx.Err() != nil:
			return out, context.Cause(ctx)
		case try == triesMax:
			return out, s.Fault(err)
		}
		timer := time.NewTimer(time.Duration(try) * tryPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return out, context.Cause(ctx)
		case <-timer.C:
		}
	}
}

func (s *Side) read(ctx context.Context, r kv.Range) (kv.RangeResult, error) {
	return again(ctx, s, func(ctx context.Context) (kv.RangeResult, error) { return s.Store.Range(ctx, r) })
}

// row digests what both sides have of a pair.
func (s *Side) row(pair *kv.Pair) verify.Row {
	value := pair.Value
	if value == nil {
		value = []byte{}
	}
	cells := [][]byte{value}
	if s.Kept == KeptPair {
		for _, number := range []int64{pair.CreateRevision, pair.ModRevision, pair.Version, int64(pair.Lease)} {
			cells = append(cells, strconv.AppendInt(nil, number, 10))
		}
	}
	return RowOf(pair.Key[len(s.Prefix):], strconv.FormatInt(pair.ModRevision, 10), cells)
}

// RowOf digests a pair: its value, and what else of it is kept, as text. nil is NULL, which no pair of an etcd has.
func RowOf(key, version string, cells [][]byte) verify.Row {
	whole := sha256.New()
	row := verify.Row{Key: key, Version: version, Columns: make(map[string]string, len(cells))}
	for i, cell := range cells {
		one := sha256.Sum256(cell)
		if cell == nil {
			one = [sha256.Size]byte{}
		}
		whole.Write(one[:])
		row.Columns[columns[i]] = string(one[:])
	}
	row.Digest = string(whole.Sum(nil))
	return row
}

// bounds returns the range of a chunk.
func (s *Side) bounds(chunk verify.Chunk) (start, end string) {
	start, end = s.Prefix+chunk.From, kv.PrefixEnd(s.Prefix)
	if start == "" {
		start = "\x00" // there is no empty key
	}
	if chunk.To != "" {
		end = s.Prefix + chunk.To
	}
	return start, end
}

// page reads the pairs of a range from its start on, at most so many, and says where it goes on; "": nowhere.
func (s *Side) page(ctx context.Context, start, end string, rowsMax int64) (pairs []kv.Pair, next string, err error) {
	result, err := s.read(ctx, kv.Range{Key: start, End: end, Limit: min(s.pageRows, rowsMax)})
	if err != nil {
		return nil, "", err
	}
	size := 0
	for i := range result.Pairs {
		size += len(result.Pairs[i].Key) + len(result.Pairs[i].Value)
	}
	if n := len(result.Pairs); n > 0 {
		s.pageRows = min(max(int64(pageBytes/(size/n+1)), 1), pageRowsMax)
		if result.More {
			next = result.Pairs[n-1].Key + "\x00"
		}
	}
	return result.Pairs, next, nil
}

// scan yields the rows of a range until that returns false, and returns where it ended; "": at its end.
func (s *Side) scan(ctx context.Context, chunk verify.Chunk, rowsMax int64, yield func(verify.Row)) (next string, err error) {
	start, end := s.bounds(chunk)
	for seen := int64(0); ; {
		pairs, next, err := s.page(ctx, start, end, rowsMax-seen)
		if err != nil {
			return "", err
		}
		for i := range pairs {
			yield(s.row(&pairs[i]))
		}
		seen += int64(len(pairs))
		if next == "" || seen >= rowsMax {
			return next, nil
		}
		start = next
	}
}

// Summed digests rows as they come, in the order of their keys.
type Summed struct {
	rows int64
	hash hash.Hash
}

// NewSum returns the digest of no rows.
func NewSum() *Summed { return &Summed{hash: sha256.New()} }

// Add adds a row.
func (s *Summed) Add(row verify.Row) {
	s.rows++
	s.hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(row.Key))))
	s.hash.Write([]byte(row.Key))
	s.hash.Write([]byte(row.Digest))
}

// Sum returns the digest of the rows so far.
func (s *Summed) Sum() verify.Sum {
	return verify.Sum{Rows: s.rows, Digest: string(s.hash.Sum(nil))}
}

// Next implements [verify.Source].
func (s *Side) Next(ctx context.Context, after verify.Chunk, rows int) (verify.Page, error) {
	chunk, sum := verify.Chunk{From: after.To}, NewSum()
	next, err := s.scan(ctx, chunk, int64(rows), sum.Add)
	if err != nil {
		return verify.Page{}, err
	}
	if next != "" {
		chunk.To = next[len(s.Prefix):]
	}
	return verify.Page{Chunk: chunk, Sum: sum.Sum(), More: next != ""}, nil
}

// Sum implements [verify.Side].
func (s *Side) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	sum := NewSum()
	_, err := s.scan(ctx, chunk, 1<<62, sum.Add)
	return sum.Sum(), err
}

// List implements [verify.Side].
func (s *Side) List(ctx context.Context, chunk verify.Chunk, rowsMax int) ([]verify.Row, error) {
	var out []verify.Row
	_, err := s.scan(ctx, chunk, int64(rowsMax), func(row verify.Row) { out = append(out, row) })
	return out, err
}

// Look implements [verify.Side].
func (s *Side) Look(ctx context.Context, _ string, keys []string) ([]verify.Row, error) {
	var out []verify.Row
	for len(keys) > 0 {
		n := min(len(keys), looksMax)
		var txn kv.Txn
		for _, key := range keys[:n] {
			txn.Then = append(txn.Then, kv.Get(s.Prefix+key))
		}
		result, err := again(ctx, s, func(ctx context.Context) (kv.Result, error) { return s.Store.Txn(ctx, txn) })
		if err != nil {
			return nil, err
		}
		for _, response := range result.Responses {
			for i := range response.Pairs {
				out = append(out, s.row(&response.Pairs[i]))
			}
		}
		keys = keys[n:]
	}
	return out, nil
}

// Total implements [verify.Source].
func (s *Side) Total(ctx context.Context) (int64, error) {
	result, err := s.first(ctx)
	return result.Count, err
}

// Head implements [verify.Source].
func (s *Side) Head(ctx context.Context) (change.Position, error) {
	result, err := s.first(ctx)
	return change.Position(result.Revision), err
}

// first reads one key, which anybody may who may read the prefix.
func (s *Side) first(ctx context.Context) (kv.RangeResult, error) {
	start, end := s.bounds(verify.Chunk{})
	return s.read(ctx, kv.Range{Key: start, End: end, Limit: 1, KeysOnly: true})
}

// Settle implements [verify.Source]: reads are linearizable, so they see what any watch has delivered.
func (s *Side) Settle(context.Context) error { return nil }

// Was implements [verify.Historian].
func (s *Side) Was(ctx context.Context, of verify.RowKey, from, upTo change.Position, tell func(row verify.Row, there bool)) error {
	key := s.Prefix + of.Key
	result, err := s.read(ctx, kv.Range{Key: key, Revision: int64(from), Limit: 1})
	switch {
	case errors.Is(err, kv.ErrCompacted):
		return verify.ErrForgotten
	case err != nil:
		return err
	case len(result.Pairs) == 0:
		tell(verify.Row{}, false)
	default:
		tell(s.row(&result.Pairs[0]), true)
	}
	ctx, cancel := context.WithTimeout(ctx, historyMax)
	defer cancel()
	watch := s.Store.Watch(ctx, kv.WatchRequest{Key: key, From: int64(from) + 1})
	ask := time.NewTicker(progressEvery)
	defer ask.Stop()
	for {
		select {
		case response, open := <-watch.Responses():
			if !open || response.Err != nil || response.Compacted > 0 {
				return verify.ErrForgotten // or it took too long, or was cut: it is looked at again
			}
			for _, event := range response.Events {
				if event.Pair.ModRevision <= int64(upTo) {
					tell(s.row(&event.Pair), !event.Deleted)
				}
			}
			if response.Revision >= int64(upTo) && !response.Fragment {
				return nil
			}
		case <-ask.C:
			_ = watch.RequestProgress(ctx) //nolint:errcheck // asked again soon; the time that this may take is bounded
		}
	}
}
