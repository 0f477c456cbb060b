package postgres

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"fencerow/fence"
)

// vacatePoll is how often is looked whether the slot is free.
const vacatePoll = 50 * time.Millisecond

// vacate has nobody else follow the slot, if they are of ours and of an epoch that is not newer. Ending the connection of an
// owner that comes after us would be taking the log away from it: that is [fence.ErrStale].
func (s *Source) vacate(ctx context.Context, c *connection) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.takeover)
	defer cancel()
	ticker := time.NewTicker(vacatePoll)
	defer ticker.Stop()
	for ended := ""; ; {
		there, err := s.slot(ctx, c)
		if err != nil {
			return err
		}
		if there.pid == "" {
			return nil
		}
		if err := s.mayEnd(there); err != nil {
			return err
		}
		if ended != there.pid+there.started {
			if err := s.endFollower(ctx, c, there); err != nil {
				return err
			}
			ended = there.pid + there.started
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for connection %s to leave the slot: %w", there.pid, ctx.Err())
		}
	}
}

// mayEnd returns why a follower of the slot must be left alone.
func (s *Source) mayEnd(there slot) error {
	epoch, ours := epochOf(there.follower)
	switch {
	case there.started == "" && there.follower == "": // gone from the list of connections, and about to leave the slot
		return nil
	case !ours:
		return s.hindrance(fmt.Sprintf("has our replication slot %s in use by process %s, named %.63q", s.slotName(), there.pid, there.follower),
			"end that process: the slot is this changefeed's alone", nil)
	case s.config.Epoch.OlderThan(fence.Epoch(epoch)):
		return fmt.Errorf("%w: epoch %d follows the slot", fence.ErrStale, epoch)
	}
	return nil
}

// endFollower ends a connection, if it is still the one that was seen, after the record was confirmed: it may be our own from
// before, or an older owner's.
func (s *Source) endFollower(ctx context.Context, c *connection, there slot) error {
	if err := s.confirm(ctx); err != nil {
		return err
	}
	s.logger.Info("ending an older reader of the slot", zap.String("slot", s.slotName()), zap.String("connection", there.follower))
	_, err := c.query(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE pid::text = $1 AND application_name = $2 AND backend_start::text = $3`, there.pid, there.follower, there.started)
	if err != nil {
		return fmt.Errorf("end the reader before us: %w", err)
	}
	return nil
}
