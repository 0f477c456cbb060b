package serial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"fencerow/changefeed"
	"fencerow/source"
)

// stream is the dispatcher's end of one subscription, wherever the log is read.
type stream interface {
	box() *inbox
	grant(bytes int)
	hurry()
	close()
}

// local is a stream to a hub of the same node: the hub's end itself.
type local struct {
	hub *Hub
	sub *subscription
}

func (l local) box() *inbox     { return l.sub.inbox }
func (l local) grant(bytes int) { l.sub.grant(bytes) }
func (l local) hurry()          { l.hub.hurry() }
func (l local) close()          { l.hub.leave(l.sub) }

// reader follows the log for one dispatcher. It subscribes at whoever owns the changefeed, and again after any doubt, from
// what it has delivered.
type reader struct {
	node   *Node
	id     changefeed.ID
	uid    changefeed.UID
	credit int
	span   changefeed.Span
	pieces []source.Piece

	owner   Owner
	changed <-chan struct{} // of the owner
	stream  stream          // nil between two subscriptions
	due     continuity
	taken   []Message // out of the inbox, and not delivered yet
	spent   int       // credit that was not given back yet
	pause   *backoff.ExponentialBackOff
	failed  error // for good

	waits  atomic.Pointer[string] // what it waits for, for people
	opened atomic.Pointer[stream] // the same as stream, for any goroutine
}

// newReader follows pieces that are all beyond their snapshot.
func (n *Node) newReader(id changefeed.ID, uid changefeed.UID, request source.Request) *reader {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = retryFirst, retryLongest
	return &reader{
		node: n, id: id, uid: uid, credit: min(max(request.BufferBytes, creditMin), creditMax), span: spanOf(request.Pieces),
		pieces: slices.Clone(request.Pieces), pause: pause,
	}
}

// Next implements source.Reader.
func (r *reader) Next(ctx context.Context) (source.Event, error) {
	for r.failed == nil {
		if len(r.taken) > 0 {
			if event, ok := r.deliver(); ok {
				return event, nil
			}
			continue
		}
		if err := r.receive(ctx); err != nil {
			if ctx.Err() != nil {
				return source.Event{}, fmt.Errorf("serial: %w", context.Cause(ctx))
			}
			r.drop()
			r.failed = err
		}
	}
	return source.Event{}, r.failed
}

// deliver takes the next message; false if it was not the one that is due, and the subscription is given up.
func (r *reader) deliver() (source.Event, bool) {
	m := &r.taken[0]
	if !r.due.admits(m) {
		r.drop()
		return source.Event{}, false
	}
	event := m.Event
	event.Span = r.span
	r.spent += m.Cost
	r.taken[0] = Message{}
	r.taken = r.taken[1:]
	if len(r.taken) == 0 || r.spent >= r.credit/grantParts {
		r.stream.grant(r.spent)
		r.spent = 0
	}
	advance(r.pieces, event.To)
	r.pause.Reset()
	return event, true
}

// grantParts is in how many parts a credit is given back.
const grantParts = 8

// receive waits until messages have come. An error is one for the dispatcher.
func (r *reader) receive(ctx context.Context) error {
	if r.stream == nil {
		return r.subscribe(ctx)
	}
	box := r.stream.box()
	messages, over := box.take()
	if over != nil {
		return r.over(ctx, over)
	}
	if r.taken = messages; len(messages) > 0 {
		r.says("")
		return nil
	}
	r.says(box.said())
	select {
	case <-box.ready:
	case <-r.changed:
		owner, changed := r.node.owner(r.id, r.uid)
		r.changed = changed
		if owner != r.owner {
			r.drop()
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// over takes in that the subscription has ended: with a fault, which is the dispatcher's, or to be opened again.
func (r *reader) over(ctx context.Context, err error) error {
	r.drop()
	if !again(err) {
		return err
	}
	return r.rest(ctx, err)
}

// subscribe opens a subscription at the owner from what was delivered.
func (r *reader) subscribe(ctx context.Context) error {
	r.owner, r.changed = r.node.owner(r.id, r.uid)
	if r.owner.Node == "" {
		return r.rest(ctx, nil)
	}
	request := Request{
		Changefeed: r.id, UID: r.uid, Epoch: r.owner.Epoch, ID: uuid.NewString(), Pieces: slices.Clone(r.pieces), Credit: r.credit,
	}
	r.says(whose(r.owner.Node))
	opened, err := r.open(ctx, &request)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !again(err):
		return err
	case err != nil:
		return r.rest(ctx, err)
	}
	r.stream, r.taken, r.spent = opened, nil, 0
	r.due = continuity{next: 1, at: lowest(r.pieces)}
	r.opened.Store(&opened)
	return nil
}

// open subscribes at the owner's node. Another owner cuts the wait for this one's hub short.
func (r *reader) open(ctx context.Context, request *Request) (stream, error) {
	if r.owner.Node != r.node.config.Self {
		return r.node.dial(ctx, r.owner.Node, request)
	}
	hub, sub, err := r.node.subscribe(ctx, request)
	if err != nil {
		return nil, err
	}
	return local{hub: hub, sub: sub}, nil
}

// whose names whom the readers of a changefeed wait for that a node owns.
func whose(owner changefeed.NodeID) string {
	if owner == "" {
		return "an owner of the changefeed"
	}
	return fmt.Sprintf("the reader of the log on node %s", owner)
}

// rest waits before the next try, until the owner changes.
func (r *reader) rest(ctx context.Context, why error) error {
	what := whose(r.owner.Node)
	if why != nil {
		what += ": " + strings.TrimPrefix(why.Error(), errPipe.Error()+": ")
	}
	r.says(what)
	timer := time.NewTimer(r.pause.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.changed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// drop gives the subscription up, with what came on it and was not delivered.
func (r *reader) drop() {
	r.opened.Store(nil)
	if r.stream != nil {
		r.stream.close()
	}
	r.stream, r.taken = nil, nil
}

func (r *reader) says(what string) { r.waits.Store(&what) }

// Waits implements source.Waiting.
func (r *reader) Waits() string {
	if what := r.waits.Load(); what != nil {
		return *what
	}
	return ""
}

// Hurry implements source.Hurrying.
func (r *reader) Hurry() {
	if open := r.opened.Load(); open != nil {
		(*open).hurry()
	}
}

// Close implements source.Reader.
func (r *reader) Close() error {
	r.drop()
	if r.failed == nil {
		r.failed = errClosed
	}
	return nil
}

var errClosed = errors.New("serial: the reader is closed")

// marks returns how far each part of the span was delivered.
func (r *reader) marks() []source.Piece { return slices.Clone(r.pieces) }

var (
	_ source.Reader   = (*reader)(nil)
	_ source.Hurrying = (*reader)(nil)
	_ source.Waiting  = (*reader)(nil)
)
