package sink

import "context"

// Staged is a writer that keeps each batch somewhere else before it writes it, and wants to be asked when it may be
// written: what Write does at once, in steps of which the second can be given up.
type Staged interface {
	Writer
	// Stage keeps the batch, durably when it returns nil, under the writer's claim. It is a write like any other: the same
	// outcomes, and none begins without the right to it (F21).
	Stage(ctx context.Context, batch Batch) error
	// Ready reports, without asking anybody, that Await would not wait.
	Ready(batch Batch) bool
	// Await returns nil when the staged batch may be written, which may take as long as others take. It changes nothing: who
	// gives it up has written nothing to the target.
	Await(ctx context.Context, batch Batch) error
}
