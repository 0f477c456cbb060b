package history

import (
	"context"
	"sync"
	"time"

	"fencerow/kv"
)

// Recorder is a store that remembers what was asked of it, for suites that run in one process.
type Recorder struct {
	kv.Store

	mu      sync.Mutex // guards what is in process
	began   time.Time
	process *Process
}

// NewRecorder returns a recorder of what one client asks. Recorders that are to be compared share the beginning.
func NewRecorder(store kv.Store, name string, began time.Time) *Recorder {
	return &Recorder{Store: store, began: began, process: &Process{Name: name}}
}

// Process returns what was recorded. Nobody may use the recorder any more.
func (r *Recorder) Process() *Process { return r.process }

func (r *Recorder) now() int64 { return int64(time.Since(r.began)) + 1 }

// Txn sends the transaction and records it.
func (r *Recorder) Txn(ctx context.Context, txn kv.Txn) (kv.Result, error) {
	call := &Call{Process: r.process, Txn: txn, Invoked: r.now()}
	r.mu.Lock()
	r.process.Calls = append(r.process.Calls, call)
	r.mu.Unlock()
	result, err := r.Store.Txn(ctx, txn)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		call.Answered, call.Revision, call.Succeeded, call.Modified = r.now(), result.Revision, result.Succeeded, result.Modified(txn)
	}
	return result, err
}
