package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"fencerow/change"
)

// Versions of the server.
const (
	versionMin      = 140000 // the first that sends the messages that a table joins with
	versionFailover = 170000 // the first with slots that a standby keeps too
)

// slot is ours as the server has it.
type slot struct {
	found     bool
	lost      bool // what it kept was thrown away
	why       string
	confirmed change.Position // transactions whose commit begins at or above it are sent
	restart   change.Position // the log from here on is kept
	follower  holder
}

func (s *Source) slot(ctx context.Context, c *connection) (slot, error) {
	answer, err := c.query(ctx, `SELECT s.plugin, s.database = current_database(), s.wal_status, s.confirmed_flush_lsn, s.restart_lsn,
		s.active_pid, a.application_name, a.backend_start
		FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1`, s.slotName())
	if err != nil {
		return slot{}, fmt.Errorf("look at the slot: %w", err)
	}
	if len(answer) == 0 {
		return slot{}, nil
	}
	out := slot{found: true, follower: holder{pid: answer.text(0, 5), name: answer.text(0, 6), started: answer.text(0, 7)}}
	if out.confirmed, err = answer.lsn(3); err != nil {
		return slot{}, err
	}
	if out.restart, err = answer.lsn(4); err != nil {
		return slot{}, err
	}
	switch {
	case answer.text(0, 0) != "pgoutput" || !answer.bool(0, 1):
		out.lost, out.why = true, "is one of another plugin or database"
	case answer.text(0, 2) == "lost":
		out.lost, out.why = true, "was invalidated, since the server kept no more log for it"
	}
	return out, nil
}

// Prepare makes publications and slot, or finds them.
//
// The publications come first: a slot decodes with the catalog as it was when the log was written, and a publication that did not
// exist then is an error. A crash in between leaves publications without a slot, which the next Prepare revises; a crash after the
// slot leaves one that was never acknowledged, and its place is still the one it was made at.
func (s *Source) Prepare(ctx context.Context, begun bool) (change.Position, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return 0, s.fault(err)
	}
	defer c.close() //nolint:contextcheck // a goodbye has its own time
	position, err := s.prepare(ctx, c, begun)
	return position, s.fault(err)
}

func (s *Source) prepare(ctx context.Context, c *connection, begun bool) (change.Position, error) {
	if err := s.suits(ctx, c); err != nil {
		return 0, err
	}
	identity, err := identify(ctx, c)
	if err != nil {
		return 0, err
	}
	if err := s.same(identity); err != nil {
		return 0, err
	}
	if err := s.sit(ctx, c, 0); err != nil {
		return 0, err
	}
	defer s.rise(ctx, c)
	there, err := s.slot(ctx, c)
	if err != nil {
		return 0, err
	}
	switch {
	case there.found && !there.lost:
		return below(there.confirmed), s.publish(ctx, c)
	case begun && !s.Resnapshot && !there.found:
		return 0, s.slotLost("has no replication slot " + s.slotName() + " any more")
	case begun && !s.Resnapshot:
		return 0, s.slotLost("has a replication slot " + s.slotName() + " that " + there.why)
	}
	if err := s.confirm(ctx); err != nil {
		return 0, err
	}
	if there.found {
		s.logger.Warn("replication slot is lost, making a new one", zap.String("slot", s.slotName()), zap.String("why", there.why))
		if err := s.dropSlot(ctx, c); err != nil {
			return 0, err
		}
	}
	if err := s.publish(ctx, c); err != nil {
		return 0, err
	}
	return s.createSlot(ctx, c)
}

func (s *Source) confirm(ctx context.Context) error {
	if s.config.Confirm == nil {
		return fmt.Errorf("%w: nobody owns it here", errUnconfirmed)
	}
	if err := s.config.Confirm(ctx); err != nil {
		return fmt.Errorf("%w: %w", errUnconfirmed, err)
	}
	return nil
}

// errUnconfirmed says that nothing was made and nobody's connection ended, since the record does not say that we may. It is no
// fault of the server's.
var errUnconfirmed = errors.New("postgres: the ownership is not confirmed")

// publish makes the publications if they are missing. Once they are there, the log's keeper revises them.
func (s *Source) publish(ctx context.Context, c *connection) error {
	now, err := s.publications(ctx, c)
	if err != nil || now.main && now.append {
		return err
	}
	if err := s.confirm(ctx); err != nil {
		return err
	}
	tables, err := s.candidates(ctx, c)
	if err != nil {
		return err
	}
	if err := s.fit(tables); err != nil {
		return err
	}
	todo := s.revise(now, tables)
	// What was renamed stays as it is, with its old name kept: it comes whole when the keeper sees it.
	joining := slices.DeleteFunc(todo.join, func(table listed) bool { return now.members[table.oid] != nil })
	kept, _ := now.named()
	for _, table := range joining {
		kept = kept.with(table)
	}
	statements := slices.Concat(todo.create, todo.alter, s.add(joining), []string{kept.keep(quoteName(s.slotName()))})
	if err := c.exec(ctx, strings.Join(statements, "; ")); err != nil {
		return fmt.Errorf("make the publications: %w", err)
	}
	return nil
}

// createSlot returns the position below the place from which on the new slot sends everything. The server waits for the
// transactions that are open now.
func (s *Source) createSlot(ctx context.Context, c *connection) (change.Position, error) {
	call := `pg_create_logical_replication_slot($1, 'pgoutput', false, false)`
	if version(c) >= versionFailover {
		call = `pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)`
	}
	answer, err := c.query(ctx, `SELECT lsn FROM `+call, s.slotName())
	if codeOf(err) == codeCanceled || ctx.Err() != nil {
		return 0, s.hindrance("has not made the replication slot: it waits for the transactions to end that were open before",
			"end what has been open for long: SELECT pid, xact_start, usename, state, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start", err)
	}
	if answer, err = answer.one(err); err != nil {
		return 0, fmt.Errorf("make the slot: %w", err)
	}
	consistent, err := answer.lsn(0)
	if err != nil {
		return 0, err
	}
	s.logger.Info("made a replication slot", zap.String("slot", s.slotName()), zap.Stringer("position", below(consistent)))
	return below(consistent), nil
}

// Drop removes slot and publications, after it ended whoever follows the slot or might make them anew.
func (s *Source) Drop(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return s.fault(err)
	}
	defer c.close() //nolint:contextcheck // a goodbye has its own time
	if err := s.sit(ctx, c, 0); err != nil {
		return s.fault(err)
	}
	defer s.rise(ctx, c)
	if err := s.dropSlot(ctx, c); err != nil {
		return s.fault(err)
	}
	for _, name := range []string{s.slotName(), s.appendName()} {
		if err := c.exec(ctx, "DROP PUBLICATION IF EXISTS "+quoteName(name)); err != nil {
			return s.fault(fmt.Errorf("drop a publication: %w", err))
		}
	}
	return nil
}

// dropSlot removes the slot, if it is there. The slot is the changefeed's own, so whoever follows it goes, unless it is an owner
// that came later.
func (s *Source) dropSlot(ctx context.Context, c *connection) error {
	if err := s.vacate(ctx, c); err != nil {
		return err
	}
	_, err := c.query(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, s.slotName())
	if err != nil && codeOf(err) != codeMissing {
		return fmt.Errorf("drop the slot: %w", err)
	}
	return nil
}

// version returns the server's version as a number, 150004 for 15.4; 0 if it does not say.
func version(c *connection) int {
	var major, minor int
	if _, err := fmt.Sscanf(c.conn.ParameterStatus("server_version"), "%d.%d", &major, &minor); err != nil && major == 0 {
		return 0
	}
	return major*10000 + minor
}
