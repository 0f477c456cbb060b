package redo

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/file"
)

// log is what the sink needs of its log: a [file.Sink].
type log interface {
	sink.Syncing
	sink.Inspector
	Marks(ctx context.Context) (sink.Map, error)
}

// logWriter is what the log's claims give: a [file.Writer].
type logWriter interface {
	sink.SyncWriter
	Incarnation() sink.Incarnation
}

// Config is what a Sink is opened with.
type Config struct {
	Directory string // of the log
	Identity  sink.Identity
	Whole     changefeed.Span // the key space of the source
	Options   changefeed.Options
	About     About
	Target    sink.Sink // closed with the sink
	Logger    *zap.Logger
}

// Sink is a log and a target as one sink.
type Sink struct {
	log    log
	target sink.Sink
	whole  changefeed.Span
	remark func() error // stores what the log is about
	// reached is a position to which every part of the key space has come in the log; it only grows.
	reached atomic.Uint64
}

// syncingSink is a Sink whose target records sync points.
type syncingSink struct {
	*Sink
	target sink.Syncing
}

var (
	_ sink.Inspector = (*Sink)(nil)
	_ sink.Syncing   = (*syncingSink)(nil)
)

// Open returns the sink. It does no I/O.
func Open(config Config) (sink.Sink, error) {
	retain := config.Options.Value(optionRetain)
	opened, err := file.Open(file.Config{
		Identity: config.Identity, Directory: config.Directory, Logger: config.Logger,
		Options: changefeed.Options{"retain": retain, "rotate_interval": rotateInterval},
		Log:     &file.Log{Needless: func(ctx context.Context) change.Position { return doneIn(ctx, config.Target) }},
	})
	if err != nil {
		return nil, ofLog(err)
	}
	s := newSink(opened, config.Target, config.Whole)
	s.remark = func() error { return config.About.store(config.Directory) }
	return s.shown(), nil
}

func newSink(log log, target sink.Sink, whole changefeed.Span) *Sink {
	return &Sink{log: log, target: target, whole: whole, remark: func() error { return nil }}
}

// shown returns the sink as one that records sync points if its target does.
func (s *Sink) shown() sink.Sink {
	if syncing, ok := s.target.(sink.Syncing); ok {
		return &syncingSink{Sink: s, target: syncing}
	}
	return s
}

// inspectMax bounds the question up to where the target is, which a rotation of the log waits for.
const inspectMax = 5 * time.Second

// doneIn returns up to where everything is done in the target; 0 if it doesn't say.
func doneIn(ctx context.Context, target sink.Sink) change.Position {
	inspector, ok := target.(sink.Inspector)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, inspectMax)
	defer cancel()
	kept, err := inspector.Inspect(ctx)
	if err != nil {
		return 0 // the files stay
	}
	mark, _ := kept.Mark()
	return mark
}

// Raise implements [sink.Sink]. The log's floor is raised first: who is shut out of it comes to no target.
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, known sink.Known) error {
	if err := s.log.Raise(ctx, epoch, known); err != nil {
		return ofLog(err)
	}
	// Crash here: the next owner raises both again.
	if err := s.remark(); err != nil {
		return ofLog(err)
	}
	return s.target.Raise(ctx, epoch, known)
}

// Remove implements [sink.Sink].
func (s *Sink) Remove(ctx context.Context, epoch fence.Epoch) error {
	if err := s.log.Remove(ctx, epoch); err != nil {
		return ofLog(err)
	}
	// Crash here: nobody writes any more. The next owner finds the log removed, which is nil, and goes on here.
	return s.target.Remove(ctx, epoch)
}

// Close implements [sink.Sink].
func (s *Sink) Close() error { return errors.Join(ofLog(s.log.Close()), s.target.Close()) }

// Inspect implements [sink.Inspector]: it is the target that is asked for. [Sink.Log] tells of the log.
func (s *Sink) Inspect(ctx context.Context) (sink.Kept, error) {
	inspector, ok := s.target.(sink.Inspector)
	if !ok {
		return sink.Kept{}, nil
	}
	return inspector.Inspect(ctx)
}

// Log returns what the log keeps.
func (s *Sink) Log(ctx context.Context) (sink.Kept, error) {
	kept, err := s.log.Inspect(ctx)
	return kept, ofLog(err)
}

// LastSync implements [sink.Syncing]: the target's is recorded last.
func (s *syncingSink) LastSync(ctx context.Context) (change.Position, error) {
	return s.target.LastSync(ctx)
}

// Claim implements [sink.Sink].
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Claim implements [sink.Sink]. Its writers record sync points.
func (s *syncingSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return &syncWriter{writer: w}, nil
}

func (s *Sink) claim(ctx context.Context, claim sink.Claim) (*writer, error) {
	inLog, err := s.log.Claim(ctx, claim)
	if err != nil {
		return nil, ofLog(err)
	}
	// Crash here: earlier writers are shut out of the log, and so of the target but for what is in flight to it. The next
	// claim takes both.
	inTarget, err := s.target.Claim(ctx, claim)
	if err != nil {
		return nil, errors.Join(err, ofLog(inLog.Close()))
	}
	logged, ok := inLog.(logWriter)
	if !ok {
		return nil, fmt.Errorf("redo: the log gave a %T", inLog)
	}
	w := &writer{sink: s, log: logged, target: inTarget}
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// pollEvery is how often the log is looked at while a batch waits for other parts of the key space.
const pollEvery = 10 * time.Millisecond

// await returns when every part of the key space that others write has come to the position in the log.
func (s *Sink) await(ctx context.Context, mine sink.Incarnation, to change.Position) error {
	var timer *time.Timer
	for change.Position(s.reached.Load()) < to {
		m, err := s.log.Marks(ctx)
		if err != nil {
			return ofLog(err)
		}
		s.note(m)
		if mayPass(m, s.whole, mine, to) {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(pollEvery)
			defer timer.Stop()
		} else {
			timer.Reset(pollEvery)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redo: wait until the log has everything up to %d: %w", to, context.Cause(ctx))
		case <-timer.C:
		}
	}
	return nil
}

// note keeps up to where everything is in the log.
func (s *Sink) note(m sink.Map) {
	mark, _ := sink.Kept{Map: m}.Mark()
	if gaps := changefeed.Gaps(s.whole, spansOf(m)); len(gaps) > 0 {
		return
	}
	for {
		known := s.reached.Load()
		if uint64(mark) <= known || s.reached.CompareAndSwap(known, uint64(mark)) {
			return
		}
	}
}

func spansOf(m sink.Map) []changefeed.Span {
	var out []changefeed.Span
	for _, piece := range m.Held() {
		out = append(out, piece.Span)
	}
	return out
}

// ofLog says of an error that it is the log's. Its class stays.
func ofLog(err error) error {
	if err == nil {
		return nil
	}
	var fault *changefeed.Fault
	if !errors.As(err, &fault) {
		return fmt.Errorf("redo log: %w", err)
	}
	of := *fault
	of.Field, of.Err = optionRedo.Name, &logError{err}
	if of.Code == changefeed.CodeSinkInUse {
		of.Cure = "name an empty directory, or one that is not there yet"
	}
	return &of
}

// logError keeps the class of an error whose text the fault around it has.
type logError struct{ err error }

func (e *logError) Error() string { return "in the redo log" }
func (e *logError) Unwrap() error { return e.err }
