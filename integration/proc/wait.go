package proc

import (
	"context"
	"fmt"
	"net"
	"time"
)

// tick is how often a condition is looked at.
const tick = 10 * time.Millisecond

// Until waits until condition returns nil or ctx ends; then its last error is told too.
func Until(ctx context.Context, condition func(context.Context) error) error {
	return UntilEvery(ctx, tick, condition)
}

// UntilEvery is Until, for who looks less often.
func UntilEvery(ctx context.Context, every time.Duration, condition func(context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// Await waits at most limit until condition returns nil, and returns its last error.
func Await(limit time.Duration, condition func() error) error {
	began := time.Now()
	ticker := time.NewTicker(2 * tick)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil || time.Since(began) > limit {
			return err
		}
		<-ticker.C
	}
}

// FreeAddr returns a loopback address that nobody listens on.
func FreeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a port, to be had at once
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}
