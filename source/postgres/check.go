package postgres

import (
	"context"
	"errors"
	"fmt"

	"fencerow/changefeed"
)

// Check looks whether a changefeed could be made of this, and returns every fault that it finds, as people are shown them. It
// changes nothing at the server.
func (s *Source) Check(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return s.fault(err)
	}
	defer c.close() //nolint:contextcheck // a goodbye has its own time
	if err := s.suits(ctx, c); err != nil {
		return s.fault(err)
	}
	tables, err := s.candidates(ctx, c)
	if err != nil {
		return s.fault(err)
	}
	return s.fault(errors.Join(s.fit(tables), s.room(ctx, c), s.rights(ctx, c), s.canReplicate(ctx)))
}

// suits returns why this server can't be a source at all.
func (s *Source) suits(ctx context.Context, c *connection) error {
	answer, err := c.query(ctx, `SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('server_encoding')`)
	if answer, err = answer.one(err); err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	switch {
	case version(c) < versionMin:
		return s.refusal(changefeed.CodeRequestInvalid,
			fmt.Sprintf("runs PostgreSQL %s", c.conn.ParameterStatus("server_version")), fmt.Sprintf("use %d or later", versionMin/10000))
	case answer.bool(0, 0):
		return s.hindrance("is a standby", "name the primary, or all hosts with commas between", nil)
	case answer.text(0, 1) != "logical":
		return s.hindrance("has wal_level="+answer.text(0, 1), "set wal_level=logical, which needs a restart of the server", nil)
	case answer.text(0, 2) == "SQL_ASCII":
		return s.refusal(changefeed.CodeRequestInvalid, "has the encoding SQL_ASCII, so nobody knows what its text means",
			"move the data into a database with an encoding")
	}
	return nil
}

// room returns a fault if no slot or sender is left for one more changefeed.
func (s *Source) room(ctx context.Context, c *connection) error {
	answer, err := c.query(ctx, `SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots WHERE slot_name <> $1),
		current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)`, s.slotName())
	if answer, err = answer.one(err); err != nil {
		return fmt.Errorf("look at the slots: %w", err)
	}
	var faults []error
	if most, used := answer.number(0, 0), answer.number(0, 1); used >= most {
		faults = append(faults, s.hindrance(fmt.Sprintf("has no replication slot left: %d of %d are in use", used, most),
			"raise max_replication_slots, which needs a restart, or drop slots that nobody needs", nil))
	}
	if most, used := answer.number(0, 2), answer.number(0, 3); used >= most {
		faults = append(faults, s.hindrance(fmt.Sprintf("has no sender of its log left: %d of %d are in use", used, most),
			"raise max_wal_senders, which needs a restart", nil))
	}
	return errors.Join(faults...)
}

// rights returns which are missing for publications.
func (s *Source) rights(ctx context.Context, c *connection) error {
	answer, err := c.query(ctx, `SELECT has_database_privilege(current_database(), 'CREATE')`)
	if answer, err = answer.one(err); err != nil {
		return fmt.Errorf("look at the rights: %w", err)
	}
	if !answer.bool(0, 0) {
		database, user := quoteName(string(s.server.URI.Path)), quoteName(s.server.URI.User)
		return s.hindrance(user+" may not make publications", fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", database, user), nil)
	}
	return nil
}

// canReplicate opens a connection for the log and ends it: only that tells whether we may.
func (s *Source) canReplicate(ctx context.Context) error {
	conn, err := s.dial(ctx, map[string]string{"replication": "database"})
	if err != nil {
		if codeOf(err) == codeDenied {
			user := quoteName(s.server.URI.User)
			return s.hindrance(user+" may not read the log", "ALTER ROLE "+user+" REPLICATION", err)
		}
		return err
	}
	(&connection{conn: conn}).close() //nolint:contextcheck // a goodbye has its own time
	return nil
}
