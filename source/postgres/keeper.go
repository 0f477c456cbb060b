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
		head, err := l.askHead(ctx, c)
		if err != nil {
			return err
		}
		l.head.Store(uint64(head))
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

// askHead asks the server for its head, and is the one who notices that the link was lost without a word: the log's own connection
// looks the same whether nothing is written or nothing comes through.
func (l *Log) askHead(ctx context.Context, c *connection) (change.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, l.source.patience.request)
	defer cancel()
	return headOf(ctx, c)
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
