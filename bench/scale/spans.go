package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/message"
)

// Figures of the scene of many spans.
const (
	idleSeconds = 10
	// settlingSeconds is how long hosts tell how each of 10,000 dispatchers began, some with each heartbeat.
	settlingSeconds = 45
	sceneMax        = time.Minute // of wall-clock time: then something does not end
	firstEpoch      = fence.Epoch(20_000)
)

// measureSpans lets a maintainer take a changefeed of many spans over, idle, and lose a node. Everything is one
// goroutine, also what the 100 hosts do.
func measureSpans(ctx context.Context, part int) (map[string]float64, error) {
	w := newSpanWorld(spansMax / part)
	if err := w.place(); err != nil {
		return nil, err
	}
	before := liveHeap()
	began := w.now()
	w.own(firstEpoch + 1)
	if err := w.until(ctx, "everything is taken over", w.settled); err != nil {
		return nil, err
	}
	bootstrap := w.now().Sub(began)
	memory := (liveHeap() - before) / float64(w.spans)
	used, err := w.idle(ctx)
	if err != nil {
		return nil, err
	}
	lost, err := w.loseNode(ctx)
	runtime.KeepAlive(w)
	return map[string]float64{
		"span-memory": memory, "bootstrap": bootstrap.Seconds(), "heartbeats": used, "loss": lost.Seconds(),
	}, err
}

// spanWorld is one changefeed: its maintainer, its hosts, and what is on the way between them.
type spanWorld struct {
	spans   int
	skipped changefeed.Duration // of idle time
	core    *maintainer.Core
	owner   changefeed.NodeID
	feed    feedRecords
	hosts   []*spanHost
	byID    map[changefeed.NodeID]*spanHost
	toOwner []frame
	fault   error
	ticked  changefeed.Time
}

func newSpanWorld(spans int) *spanWorld {
	w := &spanWorld{
		spans: spans, owner: nodeRecord(0).ID, feed: newFeedRecords(spans),
		byID: make(map[changefeed.NodeID]*spanHost, nodesMax),
	}
	for i := range nodesMax {
		host := newSpanHost(w, nodeRecord(i).ID)
		w.hosts = append(w.hosts, host)
		w.byID[host.id] = host
	}
	return w
}

// now is the processor time of this process: what else the machine does turns no clock here.
func (w *spanWorld) now() changefeed.Time {
	return changefeed.Time(1+seconds(cpu())) + changefeed.Time(w.skipped)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (w *spanWorld) fail(err error) { w.fault = errors.Join(w.fault, err) }

// place has every host run its share under an owner that is gone when it is over: the first that asks, as a maintainer
// does, and then places what it never would of a changefeed that it splits itself.
func (w *spanWorld) place() error {
	w.own(firstEpoch)
	for _, host := range w.hosts {
		host.turn()
	}
	share := w.spans / len(w.hosts)
	for i := range w.spans {
		host := w.hosts[min(i/share, len(w.hosts)-1)]
		host.step(dispatcher.Deliver{Envelope: message.Envelope{
			ID: w.feed.id, UID: w.feed.spec.UID, Epoch: firstEpoch, From: w.owner, To: host.id,
			Body: message.Place{Seq: fence.Seq(i + 1), Span: spanOf(i, w.spans)}, //nolint:gosec // small
		}})
	}
	w.core, w.toOwner = nil, nil
	return w.fault
}

// own begins an epoch.
func (w *spanWorld) own(epoch fence.Epoch) {
	own := w.feed.ownership(epoch, w.owner)
	for _, host := range w.hosts {
		host.step(dispatcher.Observed{Record: own.Record})
	}
	w.core = maintainer.NewCore(maintainer.DefaultConfig(w.owner), own)
	w.step(maintainer.Started{})
}

func (w *spanWorld) settled() bool {
	view := w.core.View(w.now())
	return view.Settled && view.Spans == w.spans && view.State == changefeed.StateRunning
}

// until goes on until done.
func (w *spanWorld) until(ctx context.Context, what string, done func() bool) error {
	limit := time.Now().Add(sceneMax)
	for !done() {
		w.turn()
		switch {
		case w.fault != nil:
			return w.fault
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(limit):
			return fmt.Errorf("not done after %v: %s; %+v; %s", sceneMax, what, w.core.View(w.now()), w.feed.status.Status.Stalled)
		}
	}
	return nil
}

// turn has everybody do what is due.
func (w *spanWorld) turn() {
	for _, host := range w.hosts {
		host.turn()
	}
	w.listen()
}

// listen is the maintainer's turn: it takes in what has arrived, and then lets time pass.
func (w *spanWorld) listen() {
	began := w.now()
	arrived := w.toOwner
	w.toOwner = nil
	for _, one := range arrived {
		envelope, err := one.unpack()
		if err != nil {
			w.fail(err)
			return
		}
		w.step(maintainer.Received{Envelope: envelope})
	}
	if began.Sub(w.ticked) >= w.core.Pause() {
		w.ticked = began
		w.step(maintainer.Ticked{Listened: began})
	}
}

// step tells the core something and answers what it asks.
func (w *spanWorld) step(in maintainer.Input) {
	queue := []maintainer.Input{in}
	for len(queue) > 0 {
		now := maintainer.Now{At: w.now(), Wall: time.Now().UTC()}
		effects := w.core.Step(now, queue[0])
		queue = queue[1:]
		for _, effect := range effects {
			if send, ok := effect.(maintainer.Send); ok {
				w.send(send.Envelope)
				continue
			}
			if _, ended := effect.(maintainer.End); ended {
				w.fail(errors.New("the maintainer ended"))
				return
			}
			if answer := w.feed.answer(effect); answer != nil {
				queue = append(queue, answer)
			}
		}
	}
}

func (w *spanWorld) send(envelope message.Envelope) {
	one, err := pack(envelope)
	switch {
	case err != nil:
		w.fail(err)
	case one.down:
		if host := w.byID[one.to]; !host.gone {
			host.inbox = append(host.inbox, one)
		}
	default:
		w.toOwner = append(w.toOwner, one)
	}
}

// idle lets time pass in which the source says that nothing has happened, and returns the processor time of one second:
// of the maintainer and of all hosts together.
func (w *spanWorld) idle(ctx context.Context) (float64, error) {
	if err := w.pass(ctx, settlingSeconds); err != nil {
		return 0, err
	}
	runtime.GC()
	used := cpu()
	err := w.pass(ctx, idleSeconds)
	return (cpu() - used) / idleSeconds, err
}

// pass lets seconds of idle time pass.
func (w *spanWorld) pass(ctx context.Context, howMany int) error {
	const stride = heartbeat / 10
	for range howMany * int(time.Second/stride) {
		w.skipped += stride
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, host := range w.hosts {
			if host.isDue() {
				host.step(dispatcher.Reported{Token: host.last, Progress: progress()})
			}
		}
		w.turn()
	}
	if !w.settled() {
		w.fail(errors.New("an idle changefeed did not stay settled"))
	}
	return w.fault
}

// loseNode ends a node, and waits until all that ran there runs elsewhere.
func (w *spanWorld) loseNode(ctx context.Context) (time.Duration, error) {
	gone := w.hosts[len(w.hosts)-1]
	gone.gone = true
	w.hosts = w.hosts[:len(w.hosts)-1]
	began := w.now()
	w.step(maintainer.NodesWatched{Nodes: w.feed.nodesWithout(gone.id)})
	err := w.until(ctx, "the spans of a lost node run elsewhere", w.settled)
	return w.now().Sub(began), err
}
