package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
)

const (
	// exportMax bounds the making of a slot, for which the server waits until all transactions have ended that ran when it began.
	exportMax = 30 * time.Minute
	// exportSays is how often a reader looks what is waited for.
	exportSays = 5 * time.Second
	// exportPatience is how long a reader waits before it fails with that. The making goes on meanwhile, and the next reader finds it
	// further on.
	exportPatience = 2 * time.Minute
	// exportIdle is how long a snapshot is kept that nobody reads: as long as a reader that failed takes to come again.
	exportIdle = 30 * time.Second
	// exportJoin is for how long further readers may come to a snapshot: what they read is then followed from its place in the log,
	// which must not be long ago.
	exportJoin = time.Minute
	// askMax bounds a question about the server's state.
	askMax = 5 * time.Second
)

// exporter makes the snapshots that all readers of one source on this node share: one slot and one walsender of the server,
// whatever the number of spans.
//
// Why a page of a snapshot is done at C-1, where C is the consistent point that the server gives with the snapshot. A position
// is where a transaction's commit record begins. C is where the record begins that follows the last which the server has seen
// while it made the slot. So the snapshot shows exactly the transactions whose commit records begin below C: those at or below
// position C-1. The log is then followed above C-1, which begins with the first that the snapshot does not show. It is the log
// of the changefeed's own slot, which was made before and so keeps all of it; the slot that is made here keeps the log only as
// long as the snapshot is read, and goes with its connection.
type exporter struct {
	*Source
	sayEvery, failAfter time.Duration
	group               sync.WaitGroup
	life                context.Context //nolint:containedctx // from the first use until close
	cancel              context.CancelFunc

	mu      sync.Mutex
	current *export
}

// export is a snapshot that other connections may take part in.
type export struct {
	made chan struct{} // closed when what follows is known
	err  error
	name string
	done change.Position // everything at or below it is in the snapshot

	wake chan struct{} // whether it is used has changed

	// guarded by the exporter
	users   int
	since   time.Time // when it was made; zero before
	spoiled bool      // it can't be read to its end: no new users
	pid     uint32    // of the server's process that makes it; 0 while there is none
}

func newExporter(of *Source) *exporter {
	return &exporter{Source: of, sayEvery: exportSays, failAfter: exportPatience}
}

// close ends what the exporter has, and waits for it.
func (e *exporter) close() {
	e.mu.Lock()
	if e.cancel != nil {
		e.cancel()
	}
	e.mu.Unlock()
	e.group.Wait()
}

// acquire returns a snapshot, which must be released. Where that takes long, say is told what is waited for, and at last the error.
func (e *exporter) acquire(ctx context.Context, say func(string)) (*export, error) {
	x := e.join(ctx)
	err := e.await(ctx, x, say)
	say("")
	if err != nil {
		e.release(x)
		return nil, err
	}
	return x, nil
}

func (e *exporter) await(ctx context.Context, x *export, say func(string)) error {
	began := time.Now()
	ticker := time.NewTicker(e.sayEvery)
	defer ticker.Stop()
	for {
		select {
		case <-x.made:
			return x.err
		case <-ctx.Done():
			return ctx.Err()
		case <-e.life.Done():
			return errClosed
		case <-ticker.C:
		}
		subject, err := e.waitsFor(ctx, x)
		switch {
		case err != nil:
			return err
		case time.Since(began) > e.failAfter:
			return e.hindrance("can't be read yet: the snapshot waits "+subject,
				"wait, or end that transaction with SELECT pg_terminate_backend(pid); prepared ones are in pg_prepared_xacts", errWaits)
		}
		say("its snapshot, which waits " + subject)
	}
}

// join makes the caller a user of the current snapshot, or of a new one.
func (e *exporter) join(ctx context.Context) *export { //nolint:contextcheck // a snapshot outlives who asks for it first
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life == nil {
		e.life, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	if x := e.current; x != nil && !x.spoiled && (x.since.IsZero() || time.Since(x.since) < exportJoin) {
		x.users++
		return x
	}
	x := &export{made: make(chan struct{}), wake: make(chan struct{}, 1), users: 1}
	e.current = x
	life := e.life
	e.group.Go(func() { e.run(life, x) })
	return x
}

func (e *exporter) release(x *export) {
	e.mu.Lock()
	x.users--
	e.mu.Unlock()
	x.notify()
}

// spoil lets no one else use the snapshot.
func (e *exporter) spoil(x *export) {
	e.mu.Lock()
	x.spoiled = true
	e.mu.Unlock()
	x.notify()
}

func (x *export) notify() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// run makes a snapshot and keeps it while it is used.
func (e *exporter) run(ctx context.Context, x *export) {
	c, err := e.make(ctx, x)
	if err != nil {
		x.err = err
		e.spoil(x)
		close(x.made)
		return
	}
	defer c.goodbye(ctx)
	e.logger.Info("snapshot begun", zap.Stringer("position", x.done))
	e.mu.Lock()
	x.since = time.Now()
	e.mu.Unlock()
	close(x.made)
	idle := time.NewTimer(exportIdle)
	defer idle.Stop()
	for {
		e.mu.Lock()
		unused, over := x.users == 0, x.users == 0 && x.spoiled
		e.mu.Unlock()
		if over {
			return
		}
		var idleC <-chan time.Time
		if unused {
			idle.Reset(exportIdle)
			idleC = idle.C
		}
		select {
		case <-x.wake:
		case <-ctx.Done():
			return
		case <-idleC:
			if e.retire(x) {
				return
			}
		}
	}
}

// retire spoils a snapshot unless it is used again.
func (e *exporter) retire(x *export) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.spoiled = x.spoiled || x.users == 0
	return x.users == 0
}

// make creates a slot that lives as long as its connection, with a snapshot that lives as long as nothing else is asked there.
func (e *exporter) make(ctx context.Context, x *export) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, exportMax)
	defer cancel()
	c, err := e.open(ctx, map[string]string{
		"replication": "database", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
	})
	if err != nil {
		return nil, err
	}
	if err := e.sameSystem(ctx, c.conn); err != nil {
		c.goodbye(ctx)
		return nil, err
	}
	e.mu.Lock()
	x.pid = c.conn.PID()
	e.mu.Unlock()
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	// In the words that every version understands.
	answer, err := c.conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+quoteName("fencerow_snapshot_"+hex.EncodeToString(name))+
		" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT").ReadAll()
	if err == nil && (len(answer) != 1 || len(answer[0].Rows) != 1 || len(answer[0].Rows[0]) < 3) {
		err = errNoAnswer
	}
	if err != nil {
		c.goodbye(ctx)
		return nil, fmt.Errorf("create a slot for a snapshot: %w", err)
	}
	given := rows(answer[0].Rows)
	point, err := given.lsn(1)
	if err != nil {
		c.goodbye(ctx)
		return nil, err
	}
	x.name, x.done = given.text(0, 2), below(point)
	return c, nil
}

// blockers are the transactions that a process of the server waits for, the oldest first. Those that were prepared have no process.
const blockers = `SELECT b.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
	coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, 0), coalesce(a.state, '')
	FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY a.xact_start LIMIT 1`

// waitsFor says what the making of a snapshot waits for.
func (e *exporter) waitsFor(ctx context.Context, x *export) (string, error) {
	e.mu.Lock()
	pid := x.pid
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	c, err := e.open(ctx, nil)
	if err != nil {
		return "", err
	}
	defer c.goodbye(ctx)
	answer, err := c.query(ctx, blockers, strconv.FormatUint(uint64(pid), 10))
	switch {
	case err != nil:
		return "", fmt.Errorf("ask what a snapshot waits for: %w", err)
	case len(answer) == 0:
		return "for running transactions to end", nil
	case answer.text(0, 0) == "0":
		return "for a prepared transaction", nil
	}
	return fmt.Sprintf("for the transaction of process %s (user %q, application %q, %s), which began %s s ago",
		answer.text(0, 0), answer.text(0, 2), answer.text(0, 1), answer.text(0, 4), answer.text(0, 3)), nil
}

// errWaits is for a snapshot that is being made.
var errWaits = errors.New("it shows what is committed when all transactions that ran at its beginning have ended")

// open opens a connection whose name is the changefeed's.
func (e *exporter) open(ctx context.Context, settings map[string]string) (*connection, error) {
	const what = " snapshot"
	name := connectionName(e.config.Changefeed.String(), 0)
	all := map[string]string{"application_name": name[:min(len(name), nameMax-len(what))] + what}
	maps.Copy(all, settings)
	conn, err := e.dial(ctx, all)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn}, nil
}

// goodbye ends a connection, and waits until nothing of it is left.
func (c *connection) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMax)
	defer cancel()
	_ = c.conn.Close(ctx) //nolint:errcheck // it is gone either way, and nothing is open in it
	select {
	case <-c.conn.CleanupDone():
	case <-ctx.Done():
	}
}
