package kvetcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"fencerow/internal/failpoint"
	"fencerow/kv"
)

// statusTimeoutMax bounds how long a member is waited for that may be down, when versions are asked for.
const statusTimeoutMax = 3 * time.Second

// Store is [kv.Store] on etcd.
type Store struct {
	client *clientv3.Client
	lease  pb.LeaseClient
	watch  pb.WatchClient

	watches sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

var _ kv.Store = (*Store)(nil)

// New makes a store of a client that [Dial] made, and takes it over: Close closes it.
func New(client *clientv3.Client) *Store {
	connection := client.ActiveConnection()
	return &Store{client: client, lease: pb.NewLeaseClient(connection), watch: pb.NewWatchClient(connection)}
}

// Client returns the client below, for what kv does not cover.
func (s *Store) Client() *clientv3.Client { return s.client }

// Close ends every watch and closes the client.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	err := s.client.Close()
	s.watches.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("kvetcd: close: %w", err)
	}
	return nil
}

// begin is asked before a request is sent: an error means that it was not.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.client.Ctx().Err() != nil {
		return kv.ErrClosed
	}
	return nil
}

// Txn sends the transaction once.
func (s *Store) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	if err := txn.Check(); err != nil {
		return kv.Result{}, err
	}
	compares, err := encodeCompares(txn.If)
	if err != nil {
		return kv.Result{}, err
	}
	success, err := encodeOps(txn.Then)
	if err != nil {
		return kv.Result{}, err
	}
	failure, err := encodeOps(txn.Else)
	if err != nil {
		return kv.Result{}, err
	}
	if err := s.begin(ctx); err != nil {
		return kv.Result{}, fmt.Errorf("kvetcd: txn not sent: %w", err)
	}
	answered := func(kv.Result, error) {}
	if failpoint.On {
		ctx = failpoint.Hold(ctx, failpoint.Txn, func() string { return describe(txn) })
		answered = traceTxn(txn)
	}
	answer, err := s.client.Txn(ctx).If(compares...).Then(success...).Else(failure...).Commit()
	if err != nil {
		answered(kv.Result{}, err)
		return kv.Result{}, mutationError("txn", err)
	}
	result := decodeTxn(answer)
	answered(result, nil)
	return result, nil
}

// Range reads, linearizably.
func (s *Store) Range(ctx context.Context, r kv.Range) (kv.RangeResult, error) {
	if err := s.begin(ctx); err != nil {
		return kv.RangeResult{}, fmt.Errorf("kvetcd: range: %w", err)
	}
	key, end := normalRange(r.Key, r.End)
	options := []clientv3.OpOption{clientv3.WithLimit(r.Limit), clientv3.WithRev(r.Revision)}
	if end != "" {
		options = append(options, clientv3.WithRange(end))
	}
	if r.KeysOnly {
		options = append(options, clientv3.WithKeysOnly())
	}
	answer, err := s.client.Get(ctx, key, options...)
	if err != nil {
		return kv.RangeResult{}, readError("range", err)
	}
	result := kv.RangeResult{
		Header: decodeHeader(answer.Header), Pairs: decodePairs(answer.Kvs), More: answer.More, Count: answer.Count,
	}
	if r.KeysOnly { // etcd 3.7 leaves the lease out, 3.6 does not
		for i := range result.Pairs {
			result.Pairs[i].Lease = 0
		}
	}
	return result, nil
}

// Grant asks for a lease of at least ttl, in whole seconds.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (kv.Lease, error) {
	if err := s.begin(ctx); err != nil {
		return kv.Lease{}, fmt.Errorf("kvetcd: grant not sent: %w", err)
	}
	answer, err := s.client.Grant(ctx, seconds(ttl))
	if err != nil {
		return kv.Lease{}, mutationError("grant", err)
	}
	return kv.Lease{
		Header: decodeHeader(answer.ResponseHeader), ID: kv.LeaseID(answer.ID),
		TTL: time.Duration(answer.TTL) * time.Second,
	}, nil
}

// KeepAlive renews a lease once. The client library's own way tries again without a pause while etcd is away.
func (s *Store) KeepAlive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	var err error
	for range leaderlessRenewals {
		if err = s.begin(ctx); err != nil {
			return kv.Lease{}, fmt.Errorf("kvetcd: keep alive: %w", err)
		}
		var lease kv.Lease
		if lease, err = s.keepAlive(ctx, id); !leaderless(errors.Unwrap(err)) {
			return lease, err
		}
	}
	return kv.Lease{}, err
}

// keepAlive asks one member.
func (s *Store) keepAlive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel() // ends the stream
	stream, err := s.lease.LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	if err != nil {
		return kv.Lease{}, readError("keep alive", clientv3.ContextError(ctx, err))
	}
	// The reason of a failed send comes from the receive.
	_ = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}) //nolint:errcheck // the receive tells what is wrong
	answer, err := stream.Recv()
	if err != nil {
		return kv.Lease{}, readError("keep alive", clientv3.ContextError(ctx, err))
	}
	if answer.GetTTL() <= 0 {
		return kv.Lease{}, fmt.Errorf("kvetcd: keep alive: %w", kv.ErrLeaseNotFound)
	}
	return kv.Lease{
		Header: decodeHeader(answer.GetHeader()), ID: id, TTL: time.Duration(answer.GetTTL()) * time.Second,
	}, nil
}

// Revoke ends a lease and deletes its keys, in one revision.
func (s *Store) Revoke(ctx context.Context, id kv.LeaseID) error {
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("kvetcd: revoke not sent: %w", err)
	}
	_, err := s.client.Revoke(ctx, clientv3.LeaseID(id))
	return mutationError("revoke", err)
}

// Compact gives up the history below revision.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("kvetcd: compact not sent: %w", err)
	}
	_, err := s.client.Compact(ctx, revision)
	return readError("compact", err)
}

// seconds rounds up: a lease must not be shorter than was asked for.
func seconds(ttl time.Duration) int64 {
	whole := int64(ttl / time.Second)
	if ttl%time.Second > 0 {
		whole++
	}
	return whole
}
