// Package stdout is the sink that prints: changes and resolved marks as lines of JSON. It keeps nothing, so it compares
// nothing: uid and token stand in each line, so that who reads them can. What was in flight when an owner was replaced
// may be printed by both.
//
// It knows no file descriptor: the writer that it prints to is passed in.
package stdout

import (
	"context"
	"fmt"
	"io"
	"sync"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/fence"
	"fencerow/sink"
)

// Options returns the options that the sink takes: none.
func Options() []changefeed.Option { return nil }

// Output is where all changefeeds of a process print to. It lets one batch through at a time, so that lines stay whole.
type Output struct {
	mutex sync.Mutex
	to    io.Writer
}

// NewOutput returns an output that prints to the writer.
func NewOutput(to io.Writer) *Output { return &Output{to: to} }

func (o *Output) write(lines []byte) error {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	_, err := o.to.Write(lines)
	return err
}

// Config is what a Sink is opened with.
type Config struct {
	Identity sink.Identity
	Output   *Output
}

// Sink is one changefeed's part of the output.
type Sink struct {
	config Config

	mutex sync.Mutex
	head  sink.Head // of this process alone
}

// Open returns the sink. It does no I/O.
func Open(config Config) (*Sink, error) {
	if config.Output == nil {
		return nil, fmt.Errorf("stdout: there is no output")
	}
	return &Sink{config: config}, nil
}

// Raise implements [sink.Sink]. There is nothing that could have been lost, so what is known does not matter.
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, _ sink.Known) error {
	return s.change(ctx, func(head sink.Head) (sink.Head, error) {
		return head.Raise(s.config.Identity, epoch, sink.KnownNothing)
	})
}

// Remove implements [sink.Sink].
func (s *Sink) Remove(ctx context.Context, epoch fence.Epoch) error {
	return s.change(ctx, func(head sink.Head) (sink.Head, error) { return head.Remove(s.config.Identity, epoch) })
}

func (s *Sink) change(ctx context.Context, to func(sink.Head) (sink.Head, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	head, err := to(s.head)
	if err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	s.head = head
	return nil
}

// Close implements [sink.Sink]. The output stays open.
func (s *Sink) Close() error { return nil }

// Claim implements [sink.Sink]: everything starts at From, since nothing is remembered.
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("stdout: %w", err)
	}
	if claim.Token.IsZero() || !claim.Span.Valid() {
		return nil, fmt.Errorf("stdout: claim of %v by %v: %w", claim.Span, claim.Token, fence.ErrStale)
	}
	return &Writer{
		sink: s, claim: claim,
		encoder: codec.NewEncoder(s.config.Identity.Changefeed, s.config.Identity.UID, claim.Token),
	}, nil
}

// What one batch may hold, so that one changefeed doesn't keep the output from the others for long.
const (
	batchChangesMax = 4096
	batchBytesMax   = 1 << 20
)

// Writer prints the changes of one claim.
type Writer struct {
	sink     *Sink
	claim    sink.Claim
	encoder  *codec.Encoder
	lines    []byte // reused
	resolved change.Position
	isClosed bool
}

// Pieces implements [sink.Writer].
func (w *Writer) Pieces() []sink.Piece {
	return []sink.Piece{{Span: w.claim.Span, Mark: w.claim.From}}
}

// Limits implements [sink.Writer].
func (w *Writer) Limits() sink.Limits {
	return sink.Limits{Changes: batchChangesMax, Bytes: batchBytesMax}
}

// Write implements [sink.Writer]: the changes, then how far their span is resolved, in one write of the output. A write
// that failed may have printed a part.
func (w *Writer) Write(ctx context.Context, batch sink.Batch) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	if w.isClosed {
		return fmt.Errorf("stdout: the writer is closed")
	}
	if !w.claim.Span.Encloses(batch.Span) {
		return fmt.Errorf("stdout: batch of %v lies outside the claim's %v", batch.Span, w.claim.Span)
	}
	w.lines = w.lines[:0]
	for i := range batch.Changes {
		w.lines = append(w.encoder.AppendChange(w.lines, &batch.Changes[i]), '\n')
	}
	// A mark that says nothing new would fill the terminal of an idle changefeed.
	if position := batch.To.Whole(); !batch.Span.Equal(w.claim.Span) || position > w.resolved {
		w.lines = append(w.encoder.AppendResolved(w.lines, batch.Span, position), '\n')
		if batch.Span.Equal(w.claim.Span) {
			w.resolved = position
		}
	}
	if len(w.lines) == 0 {
		return nil
	}
	if err := w.sink.config.Output.write(w.lines); err != nil {
		return fmt.Errorf("stdout: write: %w: %w", fence.ErrUnknown, err)
	}
	return nil
}

// Close implements [sink.Writer].
func (w *Writer) Close() error {
	w.isClosed = true
	return nil
}
