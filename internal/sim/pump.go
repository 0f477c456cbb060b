package sim

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/source"
)

const (
	readEvery     = 150 * time.Millisecond // a pump that has caught up looks for more
	readChanges   = 40
	pageRows      = 4
	snapshotLost  = 0.05
	progressEvery = 500 * time.Millisecond
	// standsFor is how many changes of a real source one of the simulation stands for, so that spans grow hot and cold.
	standsFor = 20
)

// pump moves the changes of one span, under one token. What it may do, and which changes are not done yet, dispatcher
// says.
type pump struct {
	feed     *hosted
	life     *life
	start    dispatcher.StartPump
	task     *task
	progress dispatcher.Progress
	dirty    bool
	asked    bool // to stop at order
	order    change.Mark
	revoked  atomic.Bool
	hold     hold
	obeyed   uint64 // order of the hold that it obeys
	unknown  bool
	traffic  dispatcher.Traffic
	fenced   bool
	moved    bool
	doubt    *dispatcher.Forgotten

	writer sink.Writer
	pieces dispatcher.Pieces
	read   change.Position // everything up to here was read
	pageAt change.Position // of the snapshot; 0 before its first page
	wrote  changefeed.Time // when marks moved last
}

var (
	errStopped = errors.New("sim: stopped as asked")
	errRevoked = errors.New("sim: revoked")
)

func (f *hosted) startPump(start dispatcher.StartPump) {
	p := &pump{
		feed: f, life: f.life, start: start, traffic: dispatcher.NewTraffic(1, uint64(start.Token.Seq())),
		hold: hold{order: start.Order, at: start.Hold},
	}
	f.pumps[start.Token] = p
	f.life.world.say("pump      %v of %v over %v starts on %s", start.Token, f.id, start.Span, f.life.id)
	p.task = f.life.world.spawn(f.life, p.run)
}

// stop asks the pump to stop at a mark, or at once.
func (p *pump) stop(at change.Mark) {
	if p.asked && p.order == (change.Mark{}) {
		return
	}
	p.asked, p.order = true, at
	if p.writer == nil && at == (change.Mark{}) {
		p.task.cancel() // it must not wait for a source or a sink that does not answer
	}
}

// cancel revokes the token, and ends what is in flight.
func (p *pump) cancel() {
	p.revoked.Store(true)
	p.task.cancel()
}

func (p *pump) stopsNow() bool { return p.asked && p.order == change.Mark{} }

// publish has the core told. What changes its state is told at once.
func (p *pump) publish(atOnce bool) {
	if !p.dirty {
		p.dirty = true
		p.feed.dirty = append(p.feed.dirty, p)
	}
	if atOnce {
		p.life.world.after(0, func() {
			p.life.run1(func() {
				if p.dirty {
					p.feed.input(dispatcher.Tick{})
				}
			})
		})
	}
}

func (p *pump) run(t *task) {
	pause, failures := pumpRetryFirst, 0
	for {
		p.moved, p.writer = false, nil
		err := p.attempt(t)
		if p.moved {
			failures, pause = 0, pumpRetryFirst
		}
		failures++
		outcome := p.judge(err, failures)
		if outcome.Over {
			p.end(outcome.Fault)
			return
		}
		p.doubt = outcome.Doubt
		if failures == 1 && (errors.Is(err, fence.ErrUnknown) || p.doubt != nil) {
			continue
		}
		p.progress.Fault = outcome.Fault
		p.publish(true)
		t.sleep(pause)
		pause = min(2*pause, pumpRetryLongest)
	}
}

func (p *pump) judge(err error, failures int) dispatcher.Outcome {
	ended := dispatcher.Attempt{
		Err: err, Asked: errors.Is(err, errStopped) || errors.Is(err, errRevoked) || p.revoked.Load() || p.stopsNow(),
		Failures: failures, Retries: p.life.world.plan.Retries, Code: changefeed.CodeSinkUnreachable,
	}
	if p.writer != nil {
		ended.Claimed = p.pieces
	}
	if errors.Is(err, errOutage) {
		ended.Code = changefeed.CodeSourceUnreachable
	}
	outcome := ended.Outcome()
	p.fenced = p.fenced || outcome.Fenced
	return outcome
}

// end tells the core that the pump has no effect any more.
func (p *pump) end(fault *changefeed.Fault) {
	final := p.progress
	if p.unknown {
		final.Known = false
	}
	w := p.life.world
	w.say("pump      %v of %v on %s ends at %v (known %t) fault %v fenced %t", p.start.Token, p.feed.id, p.life.id, final.Mark,
		final.Known, fault, p.fenced)
	w.see(EndFact{Node: p.life.id, UID: p.start.UID, Token: p.start.Token})
	delete(p.feed.pumps, p.start.Token)
	p.feed.dirty = slices.DeleteFunc(p.feed.dirty, func(other *pump) bool { return other == p })
	p.feed.input(dispatcher.DispatcherEnded{Token: p.start.Token, Progress: final, Fault: fault, Fenced: p.fenced})
	p.feed.settle()
}

// bound ends the pump's next request with the session at the latest.
func (p *pump) bound() { p.task.bound(max(p.life.session.Remaining(), 1)) }

// mayWrite looks at the session, and then lets time pass sometimes: nothing stops a process between the two.
func (p *pump) mayWrite(t *task) error {
	if err := dispatcher.MayWrite(&p.revoked, p.life.session.Alive); err != nil {
		return errRevoked
	}
	p.bound()
	p.life.world.see(p.begins())
	if p.life.world.strikes(Stall) {
		p.life.world.struck(Stall)
		t.stall(p.life.world.between(0, 3*p.life.world.plan.TTL))
	}
	return nil
}

func (p *pump) begins() Fact {
	if _, plain := p.writer.(*plainWriter); plain {
		return BeginFact{Node: p.life.id, UID: p.start.UID, Token: p.start.Token, Span: p.start.Span}
	}
	return nil
}

func (p *pump) attempt(t *task) error {
	if p.stopsNow() {
		return errStopped
	}
	t.deadline = 0
	identity, unknown := "", error(nil)
	if err := p.life.world.source.ask(t, func() { identity, unknown = p.life.world.source.identity(p.start.SourceID) }); err != nil {
		return err
	}
	if err := cmp.Or(unknown, source.Same(p.start.SourceID, identity)); err != nil {
		return err
	}
	p.progress.SourceID = identity
	if err := p.claim(t); err != nil {
		return err
	}
	if err := p.doubt.Confirm(p.pieces); err != nil {
		return err
	}
	for {
		if p.asked && (!p.pieces.Mark().Before(p.order) || p.order == change.Mark{}) {
			return errStopped
		}
		if p.revoked.Load() {
			return errRevoked
		}
		if err := p.obey(t); err != nil {
			return err
		}
		if err := p.move(t); err != nil {
			return err
		}
	}
}

// move brings one piece of the snapshot to the sink, or, when there is none left, what changed.
func (p *pump) move(t *task) error {
	for _, piece := range p.pieces.Request().Pieces {
		if piece.Mark == (change.Mark{}) {
			return p.page(t, piece.Span)
		}
	}
	p.read = max(p.read, p.pieces.Mark().Whole())
	return p.copy(t)
}

// page reads and writes a page of a snapshot. Sometimes the source has lost the position that the snapshot was read at so
// far, and goes on at a newer one.
func (p *pump) page(t *task, span changefeed.Span) error {
	var run sink.Batch
	source := p.life.world.source
	t.deadline = 0
	if err := source.ask(t, func() {
		if p.pageAt == 0 || p.life.world.chance(snapshotLost) {
			p.pageAt = source.head
		}
		run = sink.Batch{To: change.At(p.pageAt), Snapshot: true}
		run.Changes, run.Span = source.page(span, p.pageAt, 1+p.life.world.rng.IntN(pageRows))
	}); err != nil {
		return err
	}
	p.progress.SnapshotRows += int64(len(run.Changes))
	return p.steps(t, run, p.pageAt)
}

func (p *pump) claim(t *task) error {
	opened := p.life.openSink(p.start.Spec)
	if err := p.mayWrite(t); err != nil {
		return err
	}
	from := p.start.From
	if p.progress.Known {
		from = change.Later(from, p.progress.Mark)
	}
	writer, err := opened.Claim(never{}, sink.Claim{Span: p.start.Span, Token: p.start.Token, From: from, Floor: p.start.Floor})
	if err != nil {
		p.life.world.shutOut(err, 22)
		return err
	}
	p.unknown = false
	p.writer, p.pieces = writer, dispatcher.NewPieces(writer.Pieces())
	mark := p.pieces.Mark()
	p.read, p.pageAt = mark.Whole(), 0
	p.progress.Claimed, p.progress.Known = true, true
	p.progress.Mark = change.Later(p.progress.Mark, mark)
	p.progress.Highest = max(p.progress.Highest, p.pieces.Highest().Position)
	p.progress.Resolved = max(p.progress.Resolved, p.progress.Mark.Whole())
	p.publish(true)
	return nil
}

// copy reads once, and writes what was read.
func (p *pump) copy(t *task) error {
	var changes []change.Change
	source := p.life.world.source
	to, head, unread := p.read, p.read, error(nil)
	t.deadline = 0
	if err := source.ask(t, func() {
		if serial(p.start.Spec) {
			if unread = source.readable(p.life, p.start.UID, p.read); unread != nil {
				return
			}
		}
		changes, to = source.read(p.start.Span, p.read, readChanges)
		head = source.head
	}); err != nil {
		return err
	}
	if unread != nil && !errors.Is(unread, errNoHub) {
		return unread
	}
	p.read = max(p.read, to)
	run := sink.Batch{Changes: dispatcher.LeaveOut(p.pieces.Undone(changes), p.start.Spec.Skips), Span: p.start.Span, To: change.At(p.read)}
	below, _, waits := dispatcher.HoldAt(dispatcher.HoldLimit(p.hold.at, p.pieces), run)
	if waits {
		run, p.read = below, below.To.Position // what is above is read again
	}
	now := p.life.clock.read()
	late := p.wrote == 0 || now.Sub(p.wrote) >= progressEvery || p.asked || p.hold.at != 0
	if len(run.Changes) == 0 && (!late || !p.pieces.Behind(run.Span, run.To)) {
		p.progress.Resolved = max(p.progress.Resolved, head, p.progress.Mark.Whole())
		p.progress.Fault = nil
		p.progress.WaitingOn, p.progress.WaitingSince = "source", now
		p.publish(false)
		t.sleep(readEvery)
		return nil
	}
	return p.steps(t, run, head)
}

// steps writes a run in the batches that the sink takes.
func (p *pump) steps(t *task, run sink.Batch, head change.Position) error {
	limits := p.writer.Limits()
	if limits.Changes == 0 || p.life.world.plan.BatchChanges < limits.Changes {
		limits.Changes = p.life.world.plan.BatchChanges
	}
	for _, step := range sink.Steps(run, limits) {
		batch, last := step, false
		if p.asked {
			var err error
			if batch, last, err = dispatcher.CutAt(p.order, step, run); err != nil {
				return errStopped
			}
		}
		if err := p.write(t, batch, head); err != nil {
			return err
		}
		if last {
			return nil
		}
	}
	return nil
}

func (p *pump) write(t *task, batch sink.Batch, head change.Position) error {
	p.progress.WaitingOn, p.progress.WaitingSince = "sink write", p.life.clock.read()
	p.publish(false)
	if err := p.mayWrite(t); err != nil {
		return err
	}
	if err := p.writer.Write(never{}, batch); err != nil {
		p.unknown = errors.Is(err, fence.ErrUnknown) || p.task.cancelled
		return err
	}
	p.wrote, p.moved = p.life.clock.read(), true
	p.pieces.Advance(batch.Span, batch.To)
	p.progress.Mark = change.Later(p.progress.Mark, p.pieces.Mark())
	p.progress.Highest = max(p.progress.Highest, p.pieces.Highest().Position)
	p.progress.Resolved = max(p.progress.Resolved, head, p.progress.Mark.Whole())
	p.progress.Changes += uint64(len(batch.Changes))
	for i := range batch.Changes {
		p.progress.Bytes += uint64(batch.Changes[i].Size())
	}
	if !batch.Snapshot && p.traffic.Wrote(p.wrote, slices.Repeat(batch.Changes, standsFor)) {
		p.progress.Measure(&p.traffic, p.wrote)
	}
	p.progress.WaitingOn, p.progress.WaitingSince, p.progress.Fault = "", 0, nil
	p.publish(false)
	return nil
}
