package maintainer

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"fencerow/source"
)

// logReader is the reader of a serial source's log while it runs. The zero value reads nothing.
type logReader struct {
	log  Log
	end  context.CancelFunc
	done sync.WaitGroup
}

// serveLog reads the log in a goroutine of its own, until the maintainer ends or the source is dropped: an older reader that
// holds on must not hold up what the core decides.
func (r *runner) serveLog(ctx context.Context, effect ServeLog) {
	from, ok := r.source.(source.Serial)
	if !ok {
		return // the core was told that it is
	}
	ctx, r.reader.end = context.WithCancel(ctx)
	r.reader.log = r.host.deps.Logs.Log(r.own, from, effect.SourceID, effect.Stored)
	r.reader.done.Go(func() {
		if err := r.reader.log.Run(ctx); err != nil {
			r.log.Warn("the reader of the log ended", zap.Error(err))
		}
	})
}

// close ends the reader, and waits for it.
func (l *logReader) close() {
	if l.end != nil {
		l.end()
	}
	l.done.Wait()
}

// dropSource removes what the source keeps, after its log is read no more.
func (r *runner) dropSource(ctx context.Context, from source.Source) error {
	r.reader.close()
	if serial, ok := from.(source.Serial); ok {
		return serial.Drop(ctx)
	}
	return nil
}
