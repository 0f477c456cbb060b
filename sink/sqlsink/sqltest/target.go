package sqltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/dbtest"
	"fencerow/sink"
	"fencerow/sink/sinktest"
	"fencerow/sink/sqlsink"
)

// Wrap gets in between of a sink and its connections.
type Wrap func(sqlsink.Session) sqlsink.Session

// Target is a database of its own on a real server.
type Target interface {
	// Host is where the server is, as host:port.
	Host() string
	// Open opens the target by way of a host, which may be a proxy, as another node would.
	Open(t testing.TB, as sink.Identity, way Way) sink.Sink
	// Exec executes SQL as an administrator.
	Exec(t testing.TB, text string)
	// Log returns the keys of a log in order of positions.
	Log(t testing.TB) []string
	// Keys returns the keys of a copy in order.
	Keys(t testing.TB) []string
	// Backends counts the connections that are open under names of ours.
	Backends(t testing.TB) int
}

// Way is how a sink gets to its target.
type Way struct {
	Host    string // empty: directly
	User    string // empty: the administrator
	Options changefeed.Options
	Layout  sqlsink.Layout
	Wrap    Wrap
}

// Harness makes targets.
type Harness struct {
	New     func(t testing.TB) Target
	Dialect sqlsink.Dialect
	// Poor makes a user without rights of its own.
	Poor func(t testing.TB, target Target) string
	// Certified makes the user of the server's certificates, who gets in with them alone and may do everything.
	Certified func(t testing.TB, target Target) string
	// Certs are the server's.
	Certs dbtest.Certs
}

// Crashing are the connections of a node that dies at one of its commits.
type Crashing struct {
	crash sinktest.Crash
	mu    sync.Mutex // guards what follows
	count int
	fired bool
}

// NewCrashing makes the connections of such a node.
func NewCrashing(crash sinktest.Crash) *Crashing { return &Crashing{crash: crash} }

// Fired reports whether it came to the crash.
func (c *Crashing) Fired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fired
}

// Wrap is the [Wrap] of the node.
func (c *Crashing) Wrap(session sqlsink.Session) sqlsink.Session {
	return &dying{Session: session, node: c}
}

var errCrashed = errors.New("crashed")

type dying struct {
	sqlsink.Session
	node *Crashing
}

// Do implements [sqlsink.Session].
func (d *dying) Do(ctx context.Context, statements ...sqlsink.Statement) ([]sqlsink.Result, error) {
	if d.node.Fired() {
		return nil, errCrashed
	}
	return d.Session.Do(ctx, statements...)
}

// Commit implements [sqlsink.Session].
func (d *dying) Commit(ctx context.Context, statements ...sqlsink.Statement) error {
	c := d.node
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	switch {
	case c.fired:
		return errCrashed
	case c.count < c.crash.At:
		return d.Session.Commit(ctx, statements...)
	}
	c.fired = true
	err := errCrashed
	if c.crash.When == sinktest.AfterEffect {
		err = errors.Join(err, d.Session.Commit(ctx, statements...))
	}
	return fmt.Errorf("%w: %w", err, fence.ErrUnknown)
}
