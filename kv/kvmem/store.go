package kvmem

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fencerow/fence"
	"fencerow/kv"
)

// Config of a Server.
type Config struct {
	ClusterID uint64 // 0 is 1
	// Clock is the monotonic time that leases run on. Nil is the process's own, which is virtual inside a synctest
	// bubble; then leases end by themselves. With a clock of its own, the owner calls Server.Tick after turning it.
	Clock func() time.Duration
}

// Server is one cluster for concurrent use. It starts no goroutine; watches of its stores do.
type Server struct {
	clock func() time.Duration
	auto  bool

	mu      sync.Mutex
	machine *Machine
	expiry  *time.Timer // for the next lease that ends, if auto
	watches map[*watch]struct{}
}

// NewServer returns an empty cluster.
func NewServer(config Config) *Server {
	s := &Server{clock: config.Clock, auto: config.Clock == nil, watches: map[*watch]struct{}{}}
	if s.auto {
		start := time.Now()
		s.clock = func() time.Duration { return time.Since(start) }
	}
	s.machine = NewMachine(max(config.ClusterID, 1))
	return s
}

// New returns a store of its own on a new server.
func New(config Config) *Store { return NewServer(config).Open() }

// Tick ends the leases that are over by the clock.
func (s *Server) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned()
}

// Compact gives up the history below revision. A watch that is held back and needs it ends.
func (s *Server) Compact(revision int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned()
	defer s.pump()
	return s.machine.Compact(revision)
}

// Inspect calls f with the machine, which f must not keep: for tests that look at it or replace it, as a restore does.
// If f returns another machine, that is the cluster from now on, and every watch is cut.
func (s *Server) Inspect(f func(*Machine) *Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned()
	if other := f(s.machine); other != nil && other != s.machine {
		s.machine = other
		for w := range s.watches {
			w.end(fmt.Errorf("kvmem: watch: %w", errCut))
		}
	}
	s.pump()
}

// turned brings the machine to the clock's time; the lock is held.
func (s *Server) turned() {
	if len(s.machine.Advance(s.clock())) > 0 {
		s.pump()
	}
}

// pump hands every watch what happened, and sets the timer for the next lease; the lock is held.
func (s *Server) pump() {
	for w := range s.watches {
		w.fill()
	}
	if !s.auto {
		return
	}
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if next, found := s.machine.NextExpiry(); found {
		s.expiry = time.AfterFunc(max(next-s.clock(), time.Nanosecond), s.Tick)
	}
}

// Open returns a store on the cluster: one client, with faults of its own.
func (s *Server) Open() *Store {
	return &Store{server: s, closed: make(chan struct{}), healed: make(chan struct{})}
}

// Store is a client of a Server. It implements [kv.Store].
type Store struct {
	server    *Server
	closeOnce sync.Once
	closed    chan struct{}
	watches   sync.WaitGroup

	faults faults

	cutMu  sync.Mutex
	isCut  bool
	healed chan struct{} // closed when a cut ends
}

var _ kv.Store = (*Store)(nil)

// Server returns the cluster.
func (s *Store) Server() *Server { return s.server }

// Close ends the store and its watches. The cluster lives on.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { close(s.closed) })
	s.watches.Wait()
	return nil
}

// begin waits while the store is cut off. If ctx ends in that time the request was sent, for all that anybody knows.
func (s *Store) begin(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kvmem: %s not sent: %w", doing, err)
	}
	select {
	case <-s.closed:
		return fmt.Errorf("kvmem: %s: %w", doing, kv.ErrClosed)
	default:
	}
	for {
		healed, isCut := s.cut()
		if !isCut {
			return nil
		}
		select {
		case <-healed:
		case <-ctx.Done():
			return fmt.Errorf("kvmem: %s: %w: %w", doing, fence.ErrUnknown, ctx.Err())
		case <-s.closed:
			return fmt.Errorf("kvmem: %s: %w: %w", doing, fence.ErrUnknown, kv.ErrClosed)
		}
	}
}

func (s *Store) cut() (healed <-chan struct{}, isCut bool) {
	s.cutMu.Lock()
	defer s.cutMu.Unlock()
	return s.healed, s.isCut
}

// Txn does the transaction, or what the fault that is due says.
func (s *Store) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	fault := s.faults.next(txn)
	if fault != LoseRequest { // a request that is lost is lost now, not when the network heals
		if err := s.begin(ctx, "txn"); err != nil {
			return kv.Result{}, err
		}
	}
	switch fault {
	case LoseRequest:
		return kv.Result{}, lost("txn")
	case Refuse:
		return kv.Result{}, fmt.Errorf("kvmem: txn: %w", ErrNoSpace)
	case None, LoseAnswer:
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	result, err := s.server.machine.Apply(txn)
	if err == nil {
		s.server.pump()
	}
	if fault == LoseAnswer {
		return kv.Result{}, lost("txn")
	}
	return result, err
}

// Range reads.
func (s *Store) Range(ctx context.Context, r kv.Range) (kv.RangeResult, error) {
	if err := s.begin(ctx, "range"); err != nil {
		return kv.RangeResult{}, err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	return s.server.machine.Range(r)
}

// Grant gives a lease.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (kv.Lease, error) {
	if err := s.begin(ctx, "grant"); err != nil {
		return kv.Lease{}, err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	defer s.server.pump()
	return s.server.machine.Grant(ttl)
}

// KeepAlive renews a lease.
func (s *Store) KeepAlive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	if err := s.begin(ctx, "keep alive"); err != nil {
		return kv.Lease{}, err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	defer s.server.pump()
	return s.server.machine.KeepAlive(id)
}

// Revoke ends a lease.
func (s *Store) Revoke(ctx context.Context, id kv.LeaseID) error {
	if err := s.begin(ctx, "revoke"); err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	defer s.server.pump()
	return s.server.machine.Revoke(id)
}

// Compact gives up the history below revision.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if err := s.begin(ctx, "compact"); err != nil {
		return err
	}
	return s.server.Compact(revision)
}
