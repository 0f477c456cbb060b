package redo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/file"
	"fencerow/sink/sinktest"
)

var errCrashed = errors.New("the node has crashed")

// crashes ends a node at one call of its log or its target.
type crashes struct {
	crash sinktest.Crash

	mu    sync.Mutex // guards what follows
	calls int
	dead  bool
}

func (c *crashes) fired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *crashes) call(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errCrashed
	}
	if c.calls++; c.calls != c.crash.At {
		return do()
	}
	c.dead = true
	if c.crash.When == sinktest.AfterEffect {
		_ = do()
	}
	return fmt.Errorf("%w: %w", fence.ErrUnknown, errCrashed)
}

// faultySink is a sink whose node crashes.
type faultySink struct {
	sink.Sink
	at *crashes
}

func (f *faultySink) Raise(ctx context.Context, epoch fence.Epoch, known sink.Known) error {
	return f.at.call(func() error { return f.Sink.Raise(ctx, epoch, known) })
}

func (f *faultySink) Claim(ctx context.Context, claim sink.Claim) (w sink.Writer, err error) {
	err = f.at.call(func() error {
		w, err = f.Sink.Claim(ctx, claim)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, at: f.at}, nil
}

func (f *faultySink) LastSync(ctx context.Context) (change.Position, error) {
	return f.Sink.(sink.Syncing).LastSync(ctx)
}

type faultyWriter struct {
	sink.Writer
	at *crashes
}

func (f *faultyWriter) Write(ctx context.Context, batch sink.Batch) error {
	return f.at.call(func() error { return f.Writer.Write(ctx, batch) })
}

func (f *faultyWriter) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	return f.at.call(func() error { return f.Writer.(sink.SyncWriter).Sync(ctx, whole, at) })
}

// Incarnation is the log's; no target is asked.
func (f *faultyWriter) Incarnation() sink.Incarnation { return f.Writer.(*file.Writer).Incarnation() }

// faultyLog is a log whose node crashes.
type faultyLog struct {
	faultySink
	file *file.Sink
}

func newFaultyLog(opened *file.Sink, at *crashes) *faultyLog {
	return &faultyLog{faultySink: faultySink{Sink: opened, at: at}, file: opened}
}

func (f *faultyLog) Inspect(ctx context.Context) (sink.Kept, error) { return f.file.Inspect(ctx) }
func (f *faultyLog) Marks(ctx context.Context) (sink.Map, error)    { return f.file.Marks(ctx) }
