// Package verifyetcd reads prefixes of an etcd for a comparison. What both sides have in common of a key is what follows
// the prefix, and of a pair its value: leases and revisions are each store's own.
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
	columnValue   = "value"
)

// Config says what is read.
type Config struct {
	Store  kv.Store // the caller closes it
	Prefix string   // may be empty
	// Fault says what an error of the store is to people.
	Fault func(error) error
}

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

func rowOf(key string, value []byte, revision int64) verify.Row {
	sum := sha256.Sum256(value)
	digest := string(sum[:])
	return verify.Row{
		Key: key, Version: strconv.FormatInt(revision, 10), Digest: digest, Columns: map[string]string{columnValue: digest},
	}
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
			yield(rowOf(pairs[i].Key[len(s.Prefix):], pairs[i].Value, pairs[i].ModRevision))
		}
		seen += int64(len(pairs))
		if next == "" || seen >= rowsMax {
			return next, nil
		}
		start = next
	}
}

// summed digests rows as they come.
type summed struct {
	rows int64
	hash hash.Hash
}

func newSum() *summed { return &summed{hash: sha256.New()} }

func (s *summed) add(row verify.Row) {
	s.rows++
	s.hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(row.Key))))
	s.hash.Write([]byte(row.Key))
	s.hash.Write([]byte(row.Digest))
}

func (s *summed) sum() verify.Sum {
	return verify.Sum{Rows: s.rows, Digest: string(s.hash.Sum(nil))}
}

// Next implements [verify.Source].
func (s *Side) Next(ctx context.Context, after verify.Chunk, rows int) (verify.Page, error) {
	chunk, sum := verify.Chunk{From: after.To}, newSum()
	next, err := s.scan(ctx, chunk, int64(rows), sum.add)
	if err != nil {
		return verify.Page{}, err
	}
	if next != "" {
		chunk.To = next[len(s.Prefix):]
	}
	return verify.Page{Chunk: chunk, Sum: sum.sum(), More: next != ""}, nil
}

// Sum implements [verify.Side].
func (s *Side) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	sum := newSum()
	_, err := s.scan(ctx, chunk, 1<<62, sum.add)
	return sum.sum(), err
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
		for i, response := range result.Responses {
			for _, pair := range response.Pairs {
				out = append(out, rowOf(keys[i], pair.Value, pair.ModRevision))
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
		tell(rowOf(of.Key, result.Pairs[0].Value, result.Pairs[0].ModRevision), true)
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
					tell(rowOf(of.Key, event.Pair.Value, event.Pair.ModRevision), !event.Deleted)
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
