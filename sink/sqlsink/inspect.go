package sqlsink

import (
	"context"

	"fencerow/change"
	"fencerow/sink"
)

var (
	_ sink.Inspector = (*Sink)(nil)
	_ sink.Syncing   = (*Sink)(nil)
)

// LastSync implements [sink.Syncing].
func (s *Sink) LastSync(ctx context.Context) (change.Position, error) {
	var last change.Position
	err := s.with(ctx, "read the sync points", func(session Session) error {
		results, err := session.Do(ctx, s.statements.readHead())
		if reasonOf(err) == RefusedMissing {
			return nil
		}
		if err != nil {
			return err
		}
		head, err := headOf(results[0])
		if err != nil || !head.Exists() || head.Identity.UID != s.config.Identity.UID {
			return err
		}
		if results, err = session.Do(ctx, s.statements.readSyncs(head.id)); err != nil {
			return err
		}
		held, err := readSyncs(results[0])
		if n := len(held); n > 0 {
			last = held[n-1]
		}
		return err
	})
	return last, err
}

// Inspect implements [sink.Inspector]. It reads only.
func (s *Sink) Inspect(ctx context.Context) (sink.Kept, error) {
	kept := sink.Kept{Live: true}
	err := s.with(ctx, "inspect", func(session Session) error {
		results, err := session.Do(ctx, s.statements.readHead(), s.statements.readHeads())
		if reasonOf(err) == RefusedMissing {
			return nil
		}
		if err != nil {
			return err
		}
		head, err := headOf(results[0])
		if err != nil {
			return err
		}
		for _, row := range results[1].Rows {
			other, err := readHead(row)
			if err != nil {
				return broken("heads", err)
			}
			kept.Others = append(kept.Others, other.Head)
		}
		if results, err = session.Do(ctx, s.statements.readClaims(head.id)); err != nil {
			return err
		}
		held, err := readState(head, results[0].Rows)
		if err != nil {
			return err
		}
		kept.Head, kept.Map = head.Head, held.held
		return nil
	})
	return kept, err
}
