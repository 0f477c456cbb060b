package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"fencerow/change"
)

const (
	// exportMax bounds the making of a slot, for which the server waits until all transactions have ended that ran when it began.
	exportMax = 30 * time.Minute
	// exportShown is how long a reader waits for that before it says what it waits for. The making goes on meanwhile, and the
	// next reader finds it further on.
	exportShown = 10 * time.Second
	// exportIdle is how long a snapshot is kept that nobody reads: as long as a reader that failed takes to come again.
	exportIdle = 30 * time.Second
	// goodbyeMax bounds the end of a connection.
	goodbyeMax = 2 * time.Second
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
	snapshotConfig
	group  sync.WaitGroup
	life   context.Context //nolint:containedctx // from the source's making until its Close
	cancel context.CancelFunc

	mu      sync.Mutex
	current *export
}

// dial opens a connection with settings beside those that all have.
type dial func(ctx context.Context, settings map[string]string) (*pgconn.PgConn, error)

// export is a snapshot that other connections may take part in.
type export struct {
	made chan struct{} // closed when what follows is known
	err  error
	name string
	done change.Position // everything at or below it is in the snapshot

	wake chan struct{} // whether it is used has changed

	// guarded by the exporter
	users   int
	spoiled bool   // it can't be read to its end: no new users
	pid     uint32 // of the server's process that makes it; 0 while there is none
}

func newExporter(config snapshotConfig) *exporter {
	e := &exporter{snapshotConfig: config}
	e.life, e.cancel = context.WithCancel(context.Background())
	return e
}

// close ends what the exporter has, and waits for it.
func (e *exporter) close() {
	e.cancel()
	e.group.Wait()
}

// acquire returns a snapshot, which must be released. The error says what is waited for where that takes long.
func (e *exporter) acquire(ctx context.Context) (*export, error) {
	x := e.join()
	shown := time.NewTimer(exportShown)
	defer shown.Stop()
	var err error
	select {
	case <-x.made:
		if err = x.err; err == nil {
			return x, nil
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.life.Done():
		err = errClosed
	case <-shown.C:
		err = e.waits(ctx, x)
	}
	e.release(x)
	return nil, err
}

// join makes the caller a user of the current snapshot, or of a new one.
func (e *exporter) join() *export {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.current; x != nil && !x.spoiled {
		x.users++
		return x
	}
	x := &export{made: make(chan struct{}), wake: make(chan struct{}, 1), users: 1}
	e.current = x
	e.group.Go(func() { e.run(x) })
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
func (e *exporter) run(x *export) {
	conn, err := e.make(x)
	if err != nil {
		x.err = err
		e.spoil(x)
		close(x.made)
		return
	}
	defer goodbye(conn)
	e.logger.Info("snapshot begun", zap.Stringer("position", x.done))
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
		case <-e.life.Done():
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
func (e *exporter) make(x *export) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(e.life, exportMax)
	defer cancel()
	conn, err := e.dial(ctx, map[string]string{
		"replication": "database", "application_name": e.application, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
	})
	if err != nil {
		return nil, fmt.Errorf("open a connection for replication: %w", err)
	}
	e.mu.Lock()
	x.pid = conn.PID()
	e.mu.Unlock()
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	// In the words that every version understands.
	rows, err := ask(ctx, conn, "CREATE_REPLICATION_SLOT "+quoted("fencerow_snapshot_"+hex.EncodeToString(name))+
		" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT")
	if err == nil && (len(rows) != 1 || len(rows[0]) < 3) {
		err = errors.New("the server gave no snapshot")
	}
	if err != nil {
		goodbye(conn)
		return nil, fmt.Errorf("create a slot for a snapshot: %w", err)
	}
	point, err := parsePoint(rows[0][1])
	if err != nil {
		goodbye(conn)
		return nil, err
	}
	x.name, x.done = rows[0][2], point-1
	return conn, nil
}

// parsePoint reads a place in the log as the server writes it: two hexadecimal numbers of 32 bits.
func parsePoint(text string) (change.Position, error) {
	var high, low uint32
	if n, err := fmt.Sscanf(text, "%X/%X", &high, &low); n != 2 || err != nil {
		return 0, fmt.Errorf("%.40q is no place in a log", text)
	}
	return change.Position(high)<<32 | change.Position(low), nil
}

// blockers are the transactions that a process of the server waits for, the oldest first. Those that were prepared have no process.
const blockers = `SELECT b.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
	coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, 0), coalesce(a.state, '')
	FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY a.xact_start LIMIT 1`

// waits says what the making of a snapshot waits for.
func (e *exporter) waits(ctx context.Context, x *export) error {
	e.mu.Lock()
	pid := x.pid
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	conn, err := e.dial(ctx, map[string]string{"application_name": e.application})
	if err != nil {
		return fmt.Errorf("ask what a snapshot waits for: %w", err)
	}
	defer goodbye(conn)
	rows, err := ask(ctx, conn, blockers, strconv.FormatUint(uint64(pid), 10))
	if err != nil {
		return fmt.Errorf("ask what a snapshot waits for: %w", err)
	}
	if len(rows) == 0 {
		return waitFault(e.where, "")
	}
	row := rows[0]
	if row[0] == "0" {
		return waitFault(e.where, " for a prepared transaction")
	}
	return waitFault(e.where, fmt.Sprintf(" for the transaction of process %s (user %q, application %q, %s), which began %s s ago",
		row[0], row[2], row[1], row[4], row[3]))
}

// ask runs one statement and returns its rows as text. Without arguments it may be a command for replication.
func ask(ctx context.Context, conn *pgconn.PgConn, statement string, args ...string) ([][]string, error) {
	var reader *pgconn.ResultReader
	if len(args) == 0 {
		several := conn.Exec(ctx, statement)
		results, err := several.ReadAll()
		if err != nil || len(results) == 0 {
			return nil, err
		}
		return texts(results[len(results)-1].Rows), nil
	}
	values := make([][]byte, len(args))
	for i, arg := range args {
		values[i] = []byte(arg)
	}
	reader = conn.ExecParams(ctx, statement, values, nil, nil, []int16{pgproto3.TextFormat})
	result := reader.Read()
	return texts(result.Rows), result.Err
}

func texts(rows [][][]byte) [][]string {
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			out[i] = append(out[i], string(cell))
		}
	}
	return out
}

// goodbye ends a connection, in bounded time, and waits until nothing of it is left.
func goodbye(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeMax)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.CleanupDone():
	case <-ctx.Done():
	}
}
