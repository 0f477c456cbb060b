package redo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/file"
)

const (
	// QuietFor is how long Apply sees to it that nobody writes, before it takes a changefeed's own target over: several times
	// what a dispatcher that reads its source lets pass between two writes.
	QuietFor = 3 * time.Second
	// applySeq is a placement that no owner comes to: its counter goes up by one at a time, and JSON has numbers up to here.
	applySeq fence.Seq = 1<<53 - 1
	// What is written to the target as one run at most: what the log takes as one batch.
	runChangesMax = 4096
	runBytesMax   = 4 << 20
	// triesMax bounds how often it is begun again after an outcome that is not known.
	triesMax = 5
)

// Target is a sink that a log can be applied to.
type Target interface {
	sink.Sink
	sink.Inspector
}

// ApplyConfig says what is applied to what.
type ApplyConfig struct {
	Directory string
	// Open opens the target for the changefeed that the log belongs to. It is closed by Apply.
	Open   func(about About, identity sink.Identity) (Target, error)
	Quiet  time.Duration // 0: QuietFor
	Tell   func(Progress)
	Logger *zap.Logger
}

// Result is what was done.
type Result struct {
	Identity sink.Identity
	Position change.Position // where the target is now, everywhere
	Changes  int             // that it lacked
}

// applier is one Apply.
type applier struct {
	ApplyConfig
	survey *surveyor
	target Target
	token  fence.Token
	at     change.Position
	wrote  int
}

// Apply brings a target to the log's consistent position. See DESIGN.md for what it claims under, and what fences it.
func Apply(ctx context.Context, config ApplyConfig) (result Result, err error) {
	if config.Quiet == 0 {
		config.Quiet = QuietFor
	}
	if config.Tell == nil {
		config.Tell = func(Progress) {}
	}
	a := &applier{ApplyConfig: config}
	if a.survey, err = openSurvey(config.Directory, config.Tell); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, a.survey.reader.Close()) }()
	if a.target, err = config.Open(a.survey.About, a.survey.Identity); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, a.target.Close()) }()
	if err := a.prepare(ctx); err != nil {
		return Result{}, err
	}
	if err := a.run(ctx); err != nil {
		return Result{}, err
	}
	return Result{Identity: a.survey.Identity, Position: a.at, Changes: a.wrote}, nil
}

// prepare finds out whether the log can be applied, and takes over what it is applied to.
func (a *applier) prepare(ctx context.Context) error {
	kept, err := a.target.Inspect(ctx)
	if err != nil {
		return err
	}
	if err := a.checkHolder(kept.Head); err != nil {
		return err
	}
	if err := a.survey.read(ctx); err != nil {
		return err
	}
	if a.at, err = a.survey.Consistent(); err != nil {
		return err
	}
	if kept.Live {
		if err := a.check(kept.Map.Held()); err != nil {
			return err
		}
	}
	inLog := sink.Kept{Head: a.survey.Head, Map: a.survey.Map}
	epoch := inLog.Highest()
	if seen := kept.Highest(); epoch.OlderThan(seen) {
		epoch = seen
	}
	a.token = fence.Mint(epoch, applySeq) //nolint:forbidigo // an owner for a while, see DESIGN.md
	if !isOwn(kept) || a.survey.Head.Removed {
		return nil
	}
	if err := a.takeOver(ctx, kept.Map); err != nil {
		return err
	}
	a.at, err = a.survey.Consistent()
	return err
}

// checkHolder refuses the target of another changefeed.
func (a *applier) checkHolder(head sink.Head) error {
	switch {
	case !head.Exists():
		return nil
	case head.Identity != a.survey.Identity:
		return &changefeed.Fault{
			Code: changefeed.CodeSinkInUse, Field: "sink", Permanent: true,
			Detail: fmt.Sprintf("belongs to changefeed %s, uid %s, of cluster %s, and the log is of %s, uid %s", head.Identity.Changefeed,
				head.Identity.UID, head.Identity.Cluster, a.survey.Identity.Changefeed, a.survey.Identity.UID),
			Cure: "name the target of that changefeed, or an empty one",
		}
	case head.Removed:
		return &changefeed.Fault{
			Code: changefeed.CodeSinkInUse, Field: "sink", Permanent: true,
			Detail: "is of a changefeed that was removed from it for good", Cure: "name an empty target",
		}
	}
	return nil
}

// isOwn reports whether the target is the one that the log was kept for, and not one that only logs were applied to.
func isOwn(kept sink.Kept) bool {
	if !kept.Head.Exists() {
		return false
	}
	held := kept.Map.Held()
	for _, piece := range held {
		if piece.Token.Seq() != applySeq {
			return true
		}
	}
	return len(held) == 0
}

// takeOver sees to it that nobody writes, and shuts everybody out of the log, so that what it holds is final.
func (a *applier) takeOver(ctx context.Context, before sink.Map) (err error) {
	opened, err := file.Open(file.Config{
		Identity: a.survey.Identity, Directory: a.Directory, Logger: a.Logger,
		Log: &file.Log{Needless: func(context.Context) change.Position { return 0 }},
	})
	if err != nil {
		return ofLog(err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	if err := a.awaitQuiet(ctx, opened, before); err != nil {
		return err
	}
	if err := opened.Raise(ctx, a.token.Epoch(), sink.KnownCheckpoint); err != nil {
		return a.shutOut(ofLog(err))
	}
	w, err := opened.Claim(ctx, sink.Claim{Span: a.survey.Whole, Token: a.token})
	if err != nil {
		return a.shutOut(ofLog(err))
	}
	if err := w.Close(); err != nil {
		return ofLog(err)
	}
	if err := a.survey.reader.Refresh(); err != nil {
		return ofLog(err)
	}
	return a.survey.read(ctx)
}

// awaitQuiet refuses a changefeed that goes on writing: its source is not lost.
func (a *applier) awaitQuiet(ctx context.Context, log log, before sink.Map) error {
	was, err := log.Marks(ctx)
	if err != nil {
		return ofLog(err)
	}
	a.Tell(Progress{Doing: "seeing that nobody writes"})
	timer := time.NewTimer(a.Quiet)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	is, err := log.Marks(ctx)
	if err != nil {
		return ofLog(err)
	}
	after, err := a.target.Inspect(ctx)
	if err != nil {
		return err
	}
	if same(was, is) && same(before, after.Map) {
		return nil
	}
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Field: "sink", Permanent: true,
		Detail: fmt.Sprintf("is being written to by changefeed %s, whose source is not lost", a.survey.Identity.Changefeed),
		Cure:   "pause the changefeed first (cdc-node changefeed pause), or apply to an empty target",
	}
}

func same(a, b sink.Map) bool {
	one, err := json.Marshal(a)
	other, err2 := json.Marshal(b)
	return errors.Join(err, err2) == nil && string(one) == string(other)
}

// check refuses a target that is beyond the position, or that lacks what the log no longer has.
func (a *applier) check(held []sink.Held) error {
	pieces := make([]sink.Piece, len(held))
	for i := range held {
		pieces[i] = held[i].Piece
	}
	return a.checkPieces(pieces)
}

func (a *applier) checkPieces(pieces []sink.Piece) error {
	for _, piece := range pieces {
		if change.At(a.at).Before(piece.Mark) {
			return &changefeed.Fault{
				Code: changefeed.CodeSinkBehind, Field: "log", Value: a.survey.Identity.Changefeed.String(), Permanent: true,
				Detail: fmt.Sprintf("is complete up to %d, and the target is at %v in %v", a.at, piece.Mark, piece.Span),
				Cure:   "name the log that was kept for this target, and restore what is missing of it; see docs/redo.md",
			}
		}
	}
	return a.survey.ReachesTo(pieces)
}

// run applies, and begins again where the outcome of a step is not known: the target's pieces tell.
func (a *applier) run(ctx context.Context) error {
	if err := a.target.Raise(ctx, a.token.Epoch(), sink.KnownNothing); err != nil {
		return a.shutOut(err)
	}
	for try := 1; ; try++ {
		err := a.pass(ctx)
		if err == nil || !errors.Is(err, fence.ErrUnknown) || try == triesMax || ctx.Err() != nil {
			return a.shutOut(err)
		}
	}
}

// shutOut says what a refusal by a fence means here.
func (a *applier) shutOut(err error) error {
	if !errors.Is(err, fence.ErrStale) {
		return err
	}
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Field: "sink", Permanent: true, Err: err,
		Detail: fmt.Sprintf("was taken by a newer owner of changefeed %s meanwhile", a.survey.Identity.Changefeed),
		Cure:   "pause the changefeed, and apply again: nothing is lost, and nothing is there twice",
	}
}

// pass claims the target and writes what it lacks.
func (a *applier) pass(ctx context.Context) (err error) {
	claimed, err := a.target.Claim(ctx, sink.Claim{Span: a.survey.Whole, Token: a.token})
	if err != nil {
		return err
	}
	w := &counted{Writer: claimed}
	defer func() {
		a.wrote += w.changes
		err = errors.Join(err, w.Close())
	}()
	if err := a.checkPieces(w.Pieces()); err != nil {
		return err
	}
	at, err := newMarks(w.Pieces())
	if err != nil {
		return err
	}
	reader, err := file.OpenLog(a.Directory)
	if err != nil {
		return ofLog(err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := a.replay(ctx, reader, func(run sink.Batch) error { return write(ctx, w, at, run) }); err != nil {
		return err
	}
	// Everything up to the position is there: now every piece says so.
	return write(ctx, w, at, sink.Batch{Span: a.survey.Whole, To: change.At(a.at)})
}

// replay gives what the log holds up to the position to write, in order, batches that follow each other in one run.
func (a *applier) replay(ctx context.Context, reader *file.LogReader, write func(sink.Batch) error) error {
	var run sink.Batch
	size := 0
	flush := func() error {
		held := run
		run, size = sink.Batch{}, 0
		if held.Span.Valid() && (held.To != change.Mark{}) {
			return write(held)
		}
		return nil
	}
	for {
		entries, err := reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return ofLog(err)
		}
		for i := range entries {
			if entries[i].Retired {
				continue // checkPieces saw to it
			}
			next := a.cut(entries[i].Batch)
			joins := (run.To != change.Mark{}) && !run.Snapshot && !next.Snapshot && run.Span.Equal(next.Span) &&
				len(run.Changes)+len(next.Changes) <= runChangesMax && size < runBytesMax
			if !joins {
				if err := flush(); err != nil {
					return err
				}
				run = next
			} else {
				run.Changes, run.To = append(run.Changes, next.Changes...), change.Later(run.To, next.To)
			}
			size += sizeOf(next.Changes)
		}
		a.Tell(Progress{Doing: "applying", Read: reader.Read(), Size: a.survey.size})
	}
}

// cut leaves out what lies above the position, and the deletes that the log keeps with a page: for a target, what a page
// does not have is not there.
func (a *applier) cut(batch sink.Batch) sink.Batch {
	var kept []change.Change
	for i := range batch.Changes {
		if batch.Changes[i].Position <= a.at && !(batch.Snapshot && batch.Changes[i].Op == change.OpDelete) {
			kept = append(kept, batch.Changes[i])
		}
	}
	batch.Changes, batch.To = kept, change.Earlier(batch.To, change.At(a.at))
	return batch
}

func sizeOf(changes []change.Change) int {
	size := 0
	for i := range changes {
		size += changes[i].Size()
	}
	return size
}

// counted counts what is written.
type counted struct {
	sink.Writer
	changes int
}

func (c *counted) Write(ctx context.Context, batch sink.Batch) error {
	err := c.Writer.Write(ctx, batch)
	if err == nil {
		c.changes += len(batch.Changes)
	}
	return err
}
