package sqlsink

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"fencerow/sink"
)

// Claim implements [sink.Sink]. The connection that claims is the writer's.
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	session, err := s.open(ctx, claim.Token.String())
	if err != nil {
		return nil, err
	}
	var w *writer
	err = s.again(ctx, session, "claim", func() error {
		var err error
		w, err = s.claim(ctx, session, claim)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return w, nil
}

// claim takes a span, in one transaction: it keeps other claims out, waits for the transactions of those whom it
// supersedes, reads how far they came, and stores the new claim. A transaction that does not end in time is ended.
func (s *Sink) claim(ctx context.Context, session Session, claim sink.Claim) (*writer, error) {
	for try := 1; ; try++ {
		before, err := s.admitted(ctx, session, claim)
		if err != nil {
			return nil, err
		}
		writers := before.held.Writers(claim.Span)
		if len(writers) > 0 {
			before, err = s.shutOut(ctx, session, before, writers)
		}
		if reasonOf(err) == RefusedLocked && try < triesMax {
			if err := s.endBackends(ctx, session, before.backends(writers)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		return s.take(ctx, session, before, claim)
	}
}

// admitted begins the transaction of a claim and reads everything. A claim that is refused touches nothing.
func (s *Sink) admitted(ctx context.Context, session Session, claim sink.Claim) (*state, error) {
	head, err := s.lockedHead(ctx, session)
	if reasonOf(err) == RefusedMissing { // our tables: nobody raised here, or they are gone
		head, err = headRow{}, nil
	}
	if err != nil {
		return nil, err
	}
	var rows [][]string
	if head.Exists() {
		results, err := session.Do(ctx, s.statements.readClaims(head.id))
		if err != nil {
			return nil, err
		}
		rows = results[0].Rows
	}
	before, err := readState(head, rows)
	if err != nil {
		return nil, err
	}
	_, err = before.held.Claim(head.Head, s.config.Identity, claim, max(head.next, 1))
	return before, err
}

// shutOut waits until the writers have no transaction open, from where on they can't begin one that counts, and reads how
// far they came. When it could not, it returns what it was given.
func (s *Sink) shutOut(ctx context.Context, session Session, before *state, writers []sink.Incarnation) (*state, error) {
	id := before.head.id
	results, err := session.Do(ctx, s.statements.lockClaims(id, writers), s.statements.readClaims(id))
	if err != nil {
		return before, err
	}
	return readState(before.head, results[1].Rows)
}

// endBackends ends the connections of writers that keep a transaction open.
func (s *Sink) endBackends(ctx context.Context, session Session, backends []string) error {
	if _, err := session.Do(ctx, rollback()); err != nil {
		return err
	}
	for _, backend := range backends {
		s.config.Logger.Info("a superseded writer keeps a transaction open: its connection is ended",
			zap.Stringer("changefeed", s.config.Identity.Changefeed), zap.String("connection", backend))
		if err := session.End(ctx, backend); err != nil {
			return err
		}
	}
	return nil
}

// take stores the claim.
func (s *Sink) take(ctx context.Context, session Session, before *state, claim sink.Claim) (*writer, error) {
	n := before.head.next
	after, err := before.held.Claim(before.head.Head, s.config.Identity, claim, n)
	if err != nil {
		return nil, err
	}
	do, err := s.statements.take(before, claim, after, session.Backend())
	if err != nil {
		return nil, err
	}
	if _, err := session.Do(ctx, do...); err != nil {
		return nil, err
	}
	if err := s.commit(ctx, session, "claim"); err != nil {
		return nil, err
	}
	w := &writer{
		sink: s, session: session, head: before.head.id, n: n, token: claim.Token,
		claimed: after.Pieces(n), held: after.Only(n),
	}
	if s.config.Layout == LayoutTables {
		w.tables = &tableWriter{writer: w, places: make(map[TableName]*place)}
	}
	return w, nil
}
