package postgres

import (
	"context"

	"fencerow/change"
)

// Followed is a table that the changefeed follows, as it is now.
type Followed struct {
	Relation *change.Relation
	// Partitioned says that its rows are those of its partitions.
	Partitioned bool
	// Unread says that the user may not read it.
	Unread bool
}

// Followed returns the tables whose changes the log has for the changefeed: those in its publications, in the order of their names. A
// table that is about to join is none yet.
func (s *Source) Followed(ctx context.Context) ([]Followed, error) {
	var out []Followed
	err := s.ask(ctx, func(ctx context.Context, c *connection) error {
		now, err := s.publications(ctx, c)
		if err != nil {
			return err
		}
		if !now.main {
			return s.hindrance("has nothing of the changefeed yet", "wait until it runs, and see what `cdc-node changefeed get` says", nil)
		}
		oids := make([]uint32, 0, len(now.members))
		for oid := range now.members {
			oids = append(oids, oid)
		}
		tables, err := describe(ctx, c, oids...)
		if err != nil {
			return err
		}
		out, err = followedOf(ctx, c, tables)
		return err
	})
	return out, err
}

func followedOf(ctx context.Context, c *connection, tables map[uint32]*catalogTable) ([]Followed, error) {
	answer, err := c.query(ctx, `SELECT oid, relkind = 'p', NOT has_table_privilege(oid, 'SELECT') FROM pg_class
		WHERE relkind IN ('r', 'p') ORDER BY relnamespace::regnamespace::text, relname`)
	if err != nil {
		return nil, err
	}
	var out []Followed
	for i := range answer {
		if table := tables[uint32(answer.number(i, 0))]; table != nil {
			out = append(out, Followed{Relation: table.relation(), Partitioned: answer.bool(i, 1), Unread: answer.bool(i, 2)})
		}
	}
	return out, nil
}
