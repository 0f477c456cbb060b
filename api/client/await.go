package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
)

// awaitEvery is how often somebody who waits asks.
const awaitEvery = 200 * time.Millisecond

// ErrFailed says that what was waited for can't come: the changefeed failed.
var ErrFailed = errors.New("the changefeed failed")

// ErrPaused says that what was waited for does not come by itself: the changefeed is paused.
var ErrPaused = errors.New("the changefeed is paused, and its checkpoint stands still")

// Progress is told of each answer while somebody waits. target is 0 while not known.
type Progress func(feed shape.Changefeed, target change.Position)

// AwaitCaughtUp waits until the checkpoint is where the source's head is now. It does not wait for what is paused.
func (c *Client) AwaitCaughtUp(ctx context.Context, id changefeed.ID, progress Progress) error {
	var head change.Position
	err := c.await(ctx, id, func(feed shape.Changefeed) (bool, error) {
		if head == 0 {
			found, err := c.Head(ctx, id)
			if err != nil && !transient(err) {
				return false, err
			}
			head = found // 0: the source can't be asked yet
		}
		progress(feed, head)
		return advanced(feed, head)
	})
	return err
}

// AwaitCheckpoint waits until everything at or below the position is in the sink. It does not wait for what is paused.
func (c *Client) AwaitCheckpoint(ctx context.Context, id changefeed.ID, position change.Position, progress Progress) error {
	return c.await(ctx, id, func(feed shape.Changefeed) (bool, error) {
		progress(feed, position)
		return advanced(feed, position)
	})
}

func advanced(feed shape.Changefeed, position change.Position) (bool, error) {
	done := reached(feed, position)
	if !done && feed.State == changefeed.StatePaused {
		return false, fmt.Errorf("%s: %w; resume it first (cdc-node changefeed resume)", feed.ID(), ErrPaused)
	}
	return done, nil
}

func reached(feed shape.Changefeed, position change.Position) bool {
	return position > 0 && feed.Checkpoint != nil && *feed.Checkpoint >= position
}

// AwaitRemoved waits until the changefeed of that uid is gone.
func (c *Client) AwaitRemoved(ctx context.Context, id changefeed.ID, uid changefeed.UID, progress Progress) error {
	err := c.await(ctx, id, func(feed shape.Changefeed) (bool, error) {
		progress(feed, 0)
		return feed.UID != uid, nil
	})
	var answered *Error
	if errors.As(err, &answered) && answered.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// await asks until done says so. The first answer has to come; later ones may fail for a while.
func (c *Client) await(ctx context.Context, id changefeed.ID, done func(shape.Changefeed) (bool, error)) error {
	ticker := time.NewTicker(awaitEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		answer, err := c.Changefeed(ctx, id)
		switch {
		case ctx.Err() != nil:
			return tooLong(ctx)
		case err != nil && (first || !transient(err)):
			return err
		case err == nil:
			finished, err := done(answer.Value)
			if finished || err != nil {
				return err
			}
			if answer.Value.State == changefeed.StateFailed && answer.Value.Desired == changefeed.DesiredRunning {
				return failed(answer.Value)
			}
		}
		select {
		case <-ctx.Done():
			return tooLong(ctx)
		case <-ticker.C:
		}
	}
}

func tooLong(ctx context.Context) error {
	return fmt.Errorf("it took longer than asked for (%w); look at its state, or give a longer --timeout", ctx.Err())
}

func failed(feed shape.Changefeed) error {
	id := feed.ID()
	if feed.Error == nil {
		return fmt.Errorf("%s: %w", id, ErrFailed)
	}
	return fmt.Errorf("%s: %w: %s (%s)", id, ErrFailed, feed.Error.Message, feed.Error.Code)
}

// transient reports whether asking again may help: a node restarts, or etcd elects.
func transient(err error) bool {
	if answered, ok := errors.AsType[*Error](err); ok {
		return answered.Status >= http.StatusInternalServerError
	}
	return errors.Is(err, ErrUnreachable) || errors.Is(err, context.DeadlineExceeded)
}
