package kvmem

import (
	"errors"
	"fmt"
	"sync"

	"fencerow/fence"
	"fencerow/kv"
)

// ErrNoSpace is what [Refuse] answers: etcd's quota is used up.
var ErrNoSpace = errors.New("kvmem: database space exceeded")

var (
	errLost = errors.New("answer lost")
	errCut  = errors.New("stream cut")
)

func lost(doing string) error {
	return fmt.Errorf("kvmem: %s: %w: %w", doing, fence.ErrUnknown, errLost)
}

// Fault is what goes wrong with a transaction.
type Fault uint8

// The faults. To its sender, LoseRequest and LoseAnswer look the same.
const (
	None        Fault = iota
	LoseRequest       // it is not done
	LoseAnswer        // it is done (or refused), and the answer gets lost
	Refuse            // it is not done, and the answer says so: no space
)

// faults of one store.
type faults struct {
	mu   sync.Mutex
	txn  func(kv.Txn) Fault
	max  int // events of a watch response
	held bool
}

func (f *faults) next(txn kv.Txn) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.txn == nil {
		return None
	}
	return f.txn(txn)
}

func (f *faults) watch() (eventsMax int, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.max, f.held
}

// FailTxns asks f of each transaction of this store what goes wrong with it. f is called by one goroutine at a time and
// must not call the store. Nil heals.
func (s *Store) FailTxns(f func(kv.Txn) Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.txn = f
}

// FailNextTxn makes the next transaction of this store fail.
func (s *Store) FailNextTxn(fault Fault) {
	s.FailTxns(func(kv.Txn) Fault {
		due := fault
		fault = None
		return due
	})
}

// FragmentWatches makes watch responses of this store hold at most so many events; more are fragments. 0 heals.
func (s *Store) FragmentWatches(eventsMax int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.max = eventsMax
}

// HoldWatches makes the watches of this store silent, without an error: no events, no progress. What happens in the
// meantime can be compacted away. ReleaseWatches delivers it.
func (s *Store) HoldWatches() { s.hold(true) }

// ReleaseWatches ends HoldWatches.
func (s *Store) ReleaseWatches() { s.hold(false) }

func (s *Store) hold(held bool) {
	s.faults.mu.Lock()
	s.faults.held = held
	s.faults.mu.Unlock()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.pump()
}

// CutWatches ends the watches of this store with an error, as a broken connection does.
func (s *Store) CutWatches() {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for w := range s.server.watches {
		if w.store == s {
			w.end(fmt.Errorf("kvmem: watch: %w", errCut))
		}
	}
}

// Cut takes this store off the network: requests wait until it is healed or their context ends, watches are silent.
func (s *Store) Cut() {
	s.cutMu.Lock()
	if !s.isCut {
		s.isCut, s.healed = true, make(chan struct{})
	}
	s.cutMu.Unlock()
	s.HoldWatches()
}

// Heal ends a Cut.
func (s *Store) Heal() {
	s.cutMu.Lock()
	if s.isCut {
		s.isCut = false
		close(s.healed)
	}
	s.cutMu.Unlock()
	s.ReleaseWatches()
}
