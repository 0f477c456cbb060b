package client

import (
	"context"
	"time"
)

// followEvery is how often somebody who follows asks.
const followEvery = time.Second

// Follow asks again and again and tells each answer, until ctx ends, which is no error. The first answer has to come;
// later ones may fail for a while: missed is told why, each time.
func Follow[T any](ctx context.Context, fetch func(context.Context) (Answer[T], error), tell func(Answer[T]) error, missed func(error)) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for first := true; ; first = false {
		answer, err := fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (first || !transient(err)):
			return err
		case err != nil:
			missed(err)
		default:
			if err := tell(answer); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
