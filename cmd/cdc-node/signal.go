package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// exitSignal and the signal's number is the code after a second signal: 130 or 143.
const exitSignal = 128

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. A second one ends the process at once, after
// what is given here as last.
func untilSignal(parent context.Context, last ...func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for asked := false; ; asked = true {
			select {
			case <-done:
				return
			case s := <-signals:
				if number, known := s.(syscall.Signal); asked && known {
					for _, do := range last {
						do()
					}
					os.Exit(exitSignal + int(number))
				}
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}
