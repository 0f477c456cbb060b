package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"go.uber.org/zap"

	"fencerow/fence"
)

// courtesy is how long the log waits for a connection of its own epoch.
const courtesy = time.Second

// vacatePoll is how often is looked whether somebody's connection has gone.
const vacatePoll = 50 * time.Millisecond

// holder is a connection that has what only one of ours can have.
type holder struct {
	pid     string // "": nobody
	name    string
	started string
}

// leaving reports whether it has gone from the list of connections, and is about to let go.
func (h holder) leaving() bool { return h.pid != "" && h.name == "" && h.started == "" }

// of reports whether it is a connection of an owner's epoch.
func (h holder) of(epoch fence.Epoch) bool {
	its, ours := epochOf(h.name)
	return ours && epoch.Compare(fence.Epoch(its)) == 0
}

// vacate has nobody else follow the slot, if they are of ours and of an epoch that is not newer.
func (s *Source) vacate(ctx context.Context, c *connection) error {
	return s.oust(ctx, c, "replication slot "+s.slotName(), 0, func(ctx context.Context) (holder, error) {
		there, err := s.slot(ctx, c)
		return there.follower, err
	})
}

// sit has the connection be the only one that may change what the server keeps for the changefeed, until it gives that up or ends:
// slot and publications can't compare an epoch, so who changes them holds a lock, and has the record confirmed while it does. An
// owner before, which was paused between its confirmation and what it was about to change, has its connection ended here, and can't
// change anything any more; when it comes back, the record is against it. A connection of the same epoch is given some time to leave:
// the log comes back by itself when it has lost its connection, and must not end one of its own owner that is about to drop the slot.
func (s *Source) sit(ctx context.Context, c *connection, courtesy time.Duration) error {
	key := s.seat()
	err := s.oust(ctx, c, "lock for the changefeed", courtesy, func(ctx context.Context) (holder, error) { return trySeat(ctx, c, key) })
	if err != nil {
		return err
	}
	return s.confirm(ctx)
}

// rise gives up the seat, where the connection has it.
func (s *Source) rise(ctx context.Context, c *connection) {
	if _, err := c.query(ctx, `SELECT pg_advisory_unlock_all()`); err != nil {
		s.logger.Debug("the lock goes with the connection", zap.Error(err))
	}
}

// seat is the key of the advisory lock.
func (s *Source) seat() uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte("fencerow seat " + s.slotName()))
	return hash.Sum64()
}

// trySeat takes the lock, or returns who has it.
func trySeat(ctx context.Context, c *connection, key uint64) (holder, error) {
	answer, err := c.query(ctx, `SELECT pg_try_advisory_lock($1)`, strconv.FormatInt(int64(key), 10))
	if answer, err = answer.one(err); err != nil {
		return holder{}, fmt.Errorf("take the lock: %w", err)
	}
	if answer.bool(0, 0) {
		return holder{}, nil
	}
	var halves [8]byte
	binary.BigEndian.PutUint64(halves[:], key)
	high, low := binary.BigEndian.Uint32(halves[:4]), binary.BigEndian.Uint32(halves[4:])
	answer, err = c.query(ctx, `SELECT l.pid, a.application_name, a.backend_start FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::text = $1 AND l.objid::text = $2
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		strconv.FormatUint(uint64(high), 10), strconv.FormatUint(uint64(low), 10))
	switch {
	case err != nil:
		return holder{}, fmt.Errorf("look who has the lock: %w", err)
	case len(answer) == 0:
		return holder{pid: "?"}, nil // it has gone since
	}
	return holder{pid: answer.text(0, 0), name: answer.text(0, 1), started: answer.text(0, 2)}, nil
}

// oust waits until nobody holds what look tells of, and ends who does, if it is of ours and of an epoch that is not newer; of the same
// epoch, when it is still there after a while. Ending the connection of an owner that comes after us would be taking the log away from it: that is [fence.ErrStale].
func (s *Source) oust(ctx context.Context, c *connection, held string, courtesy time.Duration, look func(context.Context) (holder, error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.takeover)
	defer cancel()
	ticker := time.NewTicker(vacatePoll)
	defer ticker.Stop()
	began := time.Now()
	for ended := (holder{}); ; {
		there, err := look(ctx)
		if err != nil {
			return err
		}
		if there.pid == "" {
			return nil
		}
		if err := s.mayEnd(there, held); err != nil {
			return err
		}
		polite := there.of(s.config.Epoch) && time.Since(began) < courtesy
		if !there.leaving() && there != ended && !polite {
			if err := s.end(ctx, c, there); err != nil {
				return err
			}
			ended = there
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for connection %s to leave the %s: %w", there.pid, held, ctx.Err())
		}
	}
}

// mayEnd returns why a holder must be left alone.
func (s *Source) mayEnd(there holder, held string) error {
	epoch, ours := epochOf(there.name)
	switch {
	case there.leaving():
		return nil
	case !ours:
		return s.hindrance(fmt.Sprintf("has our %s in use by process %s, named %.63q", held, there.pid, there.name),
			"end that process: it is this changefeed's alone", nil)
	case s.config.Epoch.OlderThan(fence.Epoch(epoch)):
		return fmt.Errorf("%w: epoch %d has the %s", fence.ErrStale, epoch, held)
	}
	return nil
}

// end ends a connection, if it is still the one that was seen, after the record was confirmed: it may be our own from before, or
// an older owner's.
func (s *Source) end(ctx context.Context, c *connection, there holder) error {
	if err := s.confirm(ctx); err != nil {
		return err
	}
	s.logger.Info("ending an older owner's connection", zap.String("slot", s.slotName()), zap.String("connection", there.name))
	_, err := c.query(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE pid::text = $1 AND application_name = $2 AND backend_start::text = $3`, there.pid, there.name, there.started)
	if err != nil {
		return fmt.Errorf("end the connection before ours: %w", err)
	}
	return nil
}
