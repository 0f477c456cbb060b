package postgres

import (
	"context"
	"fmt"
	"time"

	"fencerow/change"
)

const (
	// headEvery is how often the server is asked for its head.
	headEvery = time.Second
	// heartbeatEvery is how often something is written into the log of a server whose log moves on without the slot doing so.
	heartbeatEvery = 10 * time.Second
)

// tablesEvery is how often is looked for tables that the patterns match and that are new, or are wanted no more.
const tablesEvery = 5 * time.Second

// keep looks after what is beside the log, until it fails.
func (l *Log) keep(ctx context.Context, c *connection) error {
	ticker := time.NewTicker(headEvery)
	defer ticker.Stop()
	looked := time.Time{}
	beat := heartbeat{at: time.Now(), acknowledged: change.Position(l.acknowledged.Load())}
	for {
		head, retained, err := l.look(ctx, c)
		if err != nil {
			return err
		}
		l.head.Store(uint64(head))
		l.retained.Store(retained + 1)
		if beat.due(time.Now(), head, change.Position(l.acknowledged.Load())) {
			if err := emitHeartbeat(ctx, c); err != nil {
				return err
			}
		}
		if now := time.Now(); now.Sub(looked) >= tablesEvery {
			looked = now
			if err := l.source.reviseTables(ctx, c); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look asks the server for its head and for how much of its log it keeps for the slot. It is the one who notices that the link was
// lost without a word: the log's own connection looks the same whether nothing is written or nothing comes through.
func (l *Log) look(ctx context.Context, c *connection) (head change.Position, retained int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.source.patience.request)
	defer cancel()
	answer, err := c.query(ctx, `SELECT pg_current_wal_flush_lsn(),
		(SELECT greatest(pg_current_wal_flush_lsn() - restart_lsn, 0)::int8 FROM pg_replication_slots WHERE slot_name = $1)`, l.source.slotName())
	if answer, err = answer.one(err); err != nil {
		return 0, 0, fmt.Errorf("look at the head and the slot: %w", err)
	}
	flushed, err := answer.lsn(0)
	return below(flushed), answer.number(0, 1), err
}

// heartbeat decides when one is due: nothing was acknowledged for a while although the head is beyond it. Then a transaction of our
// own gives the server something to send to the end, and us something to acknowledge, so that it can forget the log before.
type heartbeat struct {
	at           time.Time
	acknowledged change.Position
}

func (h *heartbeat) due(now time.Time, head, acknowledged change.Position) bool {
	if acknowledged != h.acknowledged || head <= acknowledged {
		h.at, h.acknowledged = now, acknowledged
		return false
	}
	if now.Sub(h.at) < heartbeatEvery {
		return false
	}
	h.at = now
	return true
}

func emitHeartbeat(ctx context.Context, c *connection) error {
	if _, err := c.query(ctx, `SELECT pg_logical_emit_message(true, '`+messagePrefix+`', '')`); err != nil {
		return fmt.Errorf("write a heartbeat: %w", err)
	}
	return nil
}
