package epochstore

import (
	"context"
	"fmt"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// This file has the single steps of what waits in a loop, for callers that wait in a way of their own, as a simulator
// does.

// TryCampaign stands for election, and returns the term if nobody stands before; nil if somebody does.
func (s *Store) TryCampaign(ctx context.Context, session *Session, node changefeed.NodeID) (*Lead, error) {
	term, err := s.stand(ctx, session, node)
	if err != nil {
		return nil, err
	}
	before, _, err := s.candidateBefore(ctx, term)
	if err != nil || before != "" {
		return nil, err
	}
	return s.claimTerm(ctx, session, term)
}

// Check returns [ErrTermOver] if the election key of the term is gone, nil if it is there, and another error if that
// could not be read.
func (l *Lead) Check(ctx context.Context) error {
	result, err := l.store.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(l.term.Key)}})
	if err != nil {
		return fmt.Errorf("epochstore: term %d: %w", l.term.Revision, err)
	}
	if firstPair(result.Responses[0]).CreateRevision != l.term.Revision {
		return fmt.Errorf("epochstore: term %d: %w", l.term.Revision, ErrTermOver)
	}
	return nil
}

// TryJoin is Join that does not wait for a name that another lease holds: that is [ErrConflict].
func (s *Store) TryJoin(ctx context.Context, session *Session, node record.Node) (Registration, error) {
	exchange, err := joinExchange(s.keys, session.Lease(), node)
	if err != nil {
		return Registration{}, err
	}
	registration, outcome := s.joinOnce(ctx, session, node, exchange())
	return registration, outcome.Err
}

// Tracker is the memory of a [Watch] without its stream: it turns listings and events into updates. It is owned by one
// goroutine.
type Tracker struct{ watch Watch }

// Track returns a tracker of the records of some kinds.
func (s *Store) Track(kinds ...record.Kind) *Tracker {
	return &Tracker{watch: Watch{
		store: s.kv, keys: s.keys, config: WatchConfig{Kinds: kinds}, known: map[string]revisions{},
	}}
}

// Revision returns the revision up to which everything was taken in; 0 before the first listing.
func (t *Tracker) Revision() int64 { return t.watch.revision }

// Scope returns the range to be watched.
func (t *Tracker) Scope() (key, end string) { return t.watch.scope() }

// Listed takes in all pairs of the kinds, as they were read at one revision.
func (t *Tracker) Listed(pairs []kv.Pair, revision int64) (Update, error) {
	update, err := t.watch.listed(pairs, revision)
	if err == nil {
		t.watch.revision = update.Revision
	}
	return update, err
}

// Events takes in events that were watched, whole revisions of them.
func (t *Tracker) Events(events []kv.Event) Update {
	update := t.watch.update(events)
	t.watch.revision = update.Revision
	return update
}
