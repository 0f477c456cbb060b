package epochstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/wait"
	"fencerow/kv"
	"fencerow/record"
)

// electionLookMax is how long a candidate relies on its watch of the one before it, until it looks again: a silent
// watch is not a healthy one.
const electionLookMax = 3 * time.Second

// electionRetry is the pause after a request that failed.
const electionRetry = 200 * time.Millisecond

// Campaign waits until this node is the coordinator, and returns its term. It ends with an error when ctx ends or the
// session is over; then the node is no candidate any more. While it waits it watches only the candidate before it.
func (s *Store) Campaign(ctx context.Context, session *Session, node changefeed.NodeID) (*Lead, error) {
	campaign, cancel := session.Context(ctx)
	defer cancel()
	lead, err := s.campaign(campaign, session, node)
	if err != nil {
		s.withdraw(ctx, session)
	}
	return lead, err
}

// withdrawMax bounds the deletion of the key of a candidate that gave up.
const withdrawMax = time.Second

// withdraw deletes the candidate's key, so that nobody waits for one who gave up. If that fails, the key goes with the
// lease.
func (s *Store) withdraw(ctx context.Context, session *Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawMax)
	defer cancel()
	key := s.keys.Candidate(int64(session.Lease()))
	_, _ = s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Delete(key)}}) //nolint:errcheck // the key goes with the lease anyway
}

func (s *Store) campaign(ctx context.Context, session *Session, node changefeed.NodeID) (*Lead, error) {
	for {
		lead, err := s.campaignOnce(ctx, session, node)
		if err == nil {
			return lead, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("epochstore: campaign: %w", context.Cause(ctx))
		}
		if errors.Is(err, ErrSessionOver) {
			return nil, err
		}
		if !wait.For(ctx, electionRetry) {
			return nil, fmt.Errorf("epochstore: campaign: %w", context.Cause(ctx))
		}
	}
}

// campaignOnce puts the candidate's key, waits until it is the first, and claims the term.
func (s *Store) campaignOnce(ctx context.Context, session *Session, node changefeed.NodeID) (*Lead, error) {
	term, err := s.stand(ctx, session, node)
	if err != nil {
		return nil, err
	}
	for {
		before, revision, err := s.candidateBefore(ctx, term)
		if err != nil {
			return nil, err
		}
		if before == "" {
			break
		}
		s.waitGone(ctx, before, revision)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return s.claimTerm(ctx, session, term)
}

// claimTerm makes a candidate that is the first the coordinator.
func (s *Store) claimTerm(ctx context.Context, session *Session, term Term) (*Lead, error) {
	lead := &Lead{store: s, session: session, term: term}
	// Won by a session that is dead already? The first act of the term is under its guard.
	if err := lead.refreshMeta(ctx); err != nil {
		return nil, err
	}
	if !session.Alive() {
		return nil, session.Err()
	}
	return lead, nil
}

// stand puts the key of this session if it is not there, and returns it with its create revision.
func (s *Store) stand(ctx context.Context, session *Session, node changefeed.NodeID) (Term, error) {
	key := s.keys.Candidate(int64(session.Lease()))
	ref := record.Ref{Kind: record.KindCandidate, Lease: int64(session.Lease())}
	value, err := record.Encode(ref, &record.Candidate{Node: node})
	if err != nil {
		return Term{}, fmt.Errorf("epochstore: campaign: %w", err)
	}
	// At most once by its compare, so that after an unknown outcome it is simply done again.
	result, err := s.kv.Txn(ctx, kv.Txn{
		If:   []kv.Compare{kv.CreateIs(key, 0)},
		Then: []kv.Op{kv.PutLeased(key, value, session.Lease())},
		Else: []kv.Op{kv.Get(key)},
	})
	switch {
	case errors.Is(err, kv.ErrLeaseNotFound):
		session.lose(fmt.Errorf("%w: the lease has ended", ErrSessionOver))
		return Term{}, session.Err()
	case err != nil:
		return Term{}, fmt.Errorf("epochstore: campaign: %w", err)
	case result.Succeeded:
		return Term{Key: key, Revision: result.Revision}, nil
	default:
		return Term{Key: key, Revision: firstPair(result.Responses[0]).CreateRevision}, nil
	}
}

// candidateBefore returns the key of the candidate right before the given one, "" if that is the first, and the
// revision at which that was so.
func (s *Store) candidateBefore(ctx context.Context, term Term) (string, int64, error) {
	prefix := s.keys.Of(record.KindCandidate)
	result, err := s.kv.Range(ctx, kv.Range{Key: prefix, End: kv.PrefixEnd(prefix)})
	if err != nil {
		return "", 0, fmt.Errorf("epochstore: campaign: %w", err)
	}
	var before kv.Pair
	standing := false
	for _, pair := range result.Pairs {
		switch {
		case pair.Key == term.Key:
			standing = pair.CreateRevision == term.Revision
		case pair.CreateRevision < term.Revision && pair.CreateRevision > before.CreateRevision:
			before = pair
		}
	}
	if !standing {
		return "", 0, fmt.Errorf("epochstore: campaign: %w", ErrTermOver)
	}
	return before.Key, result.Revision, nil
}

// waitGone waits until the key is deleted after the revision, the watch breaks, or it is time to look again.
func (s *Store) waitGone(ctx context.Context, key string, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, electionLookMax)
	defer cancel()
	watch := s.kv.Watch(ctx, kv.WatchRequest{Key: key, From: revision + 1})
	for {
		select {
		case <-ctx.Done():
			return
		case response, open := <-watch.Responses():
			if !open || response.Err != nil {
				wait.For(ctx, electionRetry)
				return
			}
			for _, event := range response.Events {
				if event.Deleted {
					return
				}
			}
		}
	}
}

// Wait returns when the term is over: ErrTermOver if the election key is gone, the session's cause if that is over, or
// ctx's.
func (l *Lead) Wait(ctx context.Context) error {
	ctx, cancel := l.session.Context(ctx)
	defer cancel()
	revision := l.term.Revision
	for {
		l.store.waitGone(ctx, l.term.Key, revision)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		result, err := l.store.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(l.term.Key)}})
		switch {
		case err != nil:
			wait.For(ctx, electionRetry)
		case firstPair(result.Responses[0]).CreateRevision != l.term.Revision:
			return fmt.Errorf("epochstore: term %d: %w", l.term.Revision, ErrTermOver)
		default:
			revision = result.Revision
		}
	}
}

// Resign ends the term, so that the next candidate wins at once.
func (l *Lead) Resign(ctx context.Context) error {
	return l.store.resign(ctx, l.term)
}

// ResignCoordinator ends the term of whoever is the coordinator now. It reports who that was.
func (s *Store) ResignCoordinator(ctx context.Context) (Coordinator, error) {
	coordinator, err := s.Coordinator(ctx)
	if err != nil || coordinator.Term == 0 {
		return coordinator, err
	}
	return coordinator, s.resign(ctx, Term{Key: coordinator.Key, Revision: coordinator.Term})
}

func (s *Store) resign(ctx context.Context, term Term) error {
	own := part{
		key: term.Key, ifs: termCompares(term),
		thens: []kv.Op{kv.Delete(term.Key)}, reads: []kv.Op{kv.Get(term.Key)},
	}
	exchange := newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		if firstPair(reads[0]).CreateRevision != term.Revision {
			return verdictDone, 0, nil
		}
		return verdictAgain, 0, nil
	})
	if outcome := s.driveOne(ctx, exchange); outcome.Err != nil {
		return fmt.Errorf("epochstore: resign: %w", outcome.Err)
	}
	return nil
}

// Coordinator is who leads, as the records say. The zero value is nobody.
type Coordinator struct {
	Node  changefeed.NodeID
	Term  int64
	Key   string
	Lease kv.LeaseID
}

// Coordinator reads who the coordinator is.
func (s *Store) Coordinator(ctx context.Context) (Coordinator, error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.GetPrefix(s.keys.Of(record.KindCandidate))}})
	if err != nil {
		return Coordinator{}, fmt.Errorf("epochstore: read the coordinator: %w", err)
	}
	return firstCandidate(s.keys, result.Responses[0].Pairs), nil
}

// firstCandidate returns the candidate with the lowest create revision.
func firstCandidate(keys record.Keys, pairs []kv.Pair) Coordinator {
	var out Coordinator
	for _, pair := range pairs {
		if out.Term != 0 && pair.CreateRevision > out.Term {
			continue
		}
		out = Coordinator{Term: pair.CreateRevision, Key: pair.Key, Lease: pair.Lease}
		if candidate := seenPair[record.Candidate](keys, pair); candidate.Record != nil {
			out.Node = candidate.Record.Node
		}
	}
	return out
}

// classify makes a lost lease a stale session, and leaves other errors.
func classify(err error) error {
	if errors.Is(err, kv.ErrLeaseNotFound) && !errors.Is(err, fence.ErrUnknown) {
		return fmt.Errorf("%w: %w", ErrSessionOver, err)
	}
	return err
}
