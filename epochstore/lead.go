package epochstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// TxnsInFlightMax bounds the transactions that one coordinator has under way: enough to hide the network, few enough
// not to push out the statuses of everybody else.
const TxnsInFlightMax = 8

// Lead is one term of one coordinator: the writes that only the coordinator may do, each of which compares its
// election key. It is made by [Store.Campaign]; a new term is a new Lead. It is safe for concurrent use.
type Lead struct {
	store   *Store
	session *Session
	term    Term

	mu   sync.Mutex
	meta Seen[record.Meta] // as last read
}

// Term returns the term: the create revision of the election key.
func (l *Lead) Term() int64 { return l.term.Revision }

// Guard returns what the writes of this term compare.
func (l *Lead) Guard() Term { return l.term }

// Meta returns the cluster's record as this term last read it.
func (l *Lead) Meta() Seen[record.Meta] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta
}

func (l *Lead) setMeta(meta Seen[record.Meta]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meta = meta
}

// BumpResult is what became of one bump.
type BumpResult struct {
	// Epoch is the new record, and the revision that pins it, if Err is nil.
	Epoch Seen[record.Epoch]
	// Err is ErrTermOver, ErrConflict (read and decide afresh), [fence.ErrUnknown], or an error that time may heal.
	Err error
}

// Bump gives each changefeed its next epoch and owner. The changefeeds are independent of one another; the results
// are in the order of the bumps.
func (l *Lead) Bump(ctx context.Context, bumps []Bump) []BumpResult {
	results := make([]BumpResult, len(bumps))
	stamps := make([]Stamp, len(bumps))
	todo := make([]int, len(bumps))
	now := l.store.now()
	for i := range bumps {
		stamps[i], todo[i] = Stamp{At: now, Nonce: cmp.Or(bumps[i].Nonce, uuid.NewString())}, i
	}
	for range attemptsMax {
		again := l.bumpRound(ctx, bumpRound{bumps: bumps, stamps: stamps, results: results}, todo)
		if len(again) == 0 {
			break
		}
		// The floor may have been raised: same decision, same nonce, an epoch above the new floor.
		todo = again
		if err := l.refreshMeta(ctx); err != nil {
			for _, i := range todo {
				results[i].Err = err
			}
			break
		}
	}
	return results
}

type bumpRound struct {
	bumps   []Bump
	stamps  []Stamp
	results []BumpResult
}

// bumpChunk is how many bumps are decided and encoded at a time, while those before them are under way: some whole
// transactions, whether 42 bumps fit into one (which end an epoch) or 63 (the first of their changefeeds).
const bumpChunk = 2 * 42 * 3

// sentBumps are some bumps on their way, and their indexes.
type sentBumps struct {
	at    []int
	bumps []Bump
	plan  BumpPlan
}

// bumpRound sends the bumps of the given indexes, and returns those whose meta record was changed meanwhile.
func (l *Lead) bumpRound(ctx context.Context, round bumpRound, todo []int) (again []int) {
	meta := l.Meta()
	var flight flight
	var sent []sentBumps
	for at := range slices.Chunk(todo, bumpChunk) {
		bumps, stamps := make([]Bump, len(at)), make([]Stamp, len(at))
		for i, index := range at {
			bumps[i], stamps[i] = round.bumps[index], round.stamps[index]
		}
		plan := BumpExchanges(l.store.keys, l.term, meta, bumps, stamps)
		flight.drive(ctx, l.store, plan.Exchanges)
		sent = append(sent, sentBumps{at: at, bumps: bumps, plan: plan})
	}
	flight.wait()
	for _, s := range sent {
		for i, err := range s.plan.Refused {
			round.results[s.at[i]] = BumpResult{Err: err}
		}
		for e, exchange := range s.plan.Exchanges {
			for i, outcome := range exchange.Outcomes() {
				index := s.plan.Members[e][i]
				if errors.Is(outcome.Err, errMetaChanged) {
					again = append(again, s.at[index])
				}
				round.results[s.at[index]] = bumpResult(s.plan.Decided[index], s.bumps[index], outcome)
			}
		}
	}
	return again
}

func bumpResult(decided record.Epoch, bump Bump, outcome Outcome) BumpResult {
	if outcome.Err != nil {
		return BumpResult{Err: fmt.Errorf("epochstore: bump %s: %w", bump.ID, outcome.Err)}
	}
	seen := Seen[record.Epoch]{Record: &decided, ModRevision: outcome.ModRevision, CreateRevision: outcome.ModRevision}
	if bump.Previous.Exists() {
		seen.CreateRevision = bump.Previous.CreateRevision
	}
	return BumpResult{Epoch: seen}
}

// flight is independent exchanges under way, a bounded number of them at a time. The zero value is ready.
type flight struct {
	group errgroup.Group
	begun bool
}

// drive begins exchanges. It waits while there are too many under way.
func (f *flight) drive(ctx context.Context, store *Store, exchanges []*Exchange) {
	if !f.begun {
		f.begun = true
		f.group.SetLimit(TxnsInFlightMax)
	}
	for _, exchange := range exchanges {
		if store.inTurn {
			store.drive(ctx, exchange)
			continue
		}
		f.group.Go(func() error {
			store.drive(ctx, exchange)
			return nil
		})
	}
}

// wait returns when all have ended. Their outcomes are in the exchanges.
func (f *flight) wait() {
	_ = f.group.Wait() //nolint:errcheck // none returns one
}

// driveAll drives independent exchanges to their ends.
func (l *Lead) driveAll(ctx context.Context, exchanges []*Exchange) {
	var flight flight
	flight.drive(ctx, l.store, exchanges)
	flight.wait()
}

// refreshMeta reads the meta record under the term.
func (l *Lead) refreshMeta(ctx context.Context) error {
	if outcome := l.store.driveOne(ctx, claimTerm(l.store.keys, l.term)); outcome.Err != nil {
		return fmt.Errorf("epochstore: term %d: %w", l.term.Revision, outcome.Err)
	}
	meta, err := l.store.Meta(ctx)
	if err != nil {
		return err
	}
	l.setMeta(meta)
	return nil
}

// Handoff asks the owner of an epoch to release.
type Handoff struct {
	ID     changefeed.ID
	Epoch  Seen[record.Epoch] // the ownership that is asked to end
	To     changefeed.NodeID  // "" for whomever
	ToName string
	Reason changefeed.Reason
}

// RequestHandoffs asks the owners of those epochs to release. Results are in the order of the requests.
func (l *Lead) RequestHandoffs(ctx context.Context, handoffs []Handoff) []error {
	exchanges, members, results := handoffExchanges(l.store.keys, l.term, handoffs, l.store.now())
	l.driveAll(ctx, exchanges)
	for e, exchange := range exchanges {
		for i, outcome := range exchange.Outcomes() {
			index := members[e][i]
			if outcome.Err != nil {
				results[index] = fmt.Errorf("epochstore: request handoff of %s: %w", handoffs[index].ID, outcome.Err)
			}
		}
	}
	return results
}

// Remove deletes all records of a changefeed that nobody owns and that users want removed, history aside. Only then is
// its name free.
func (l *Lead) Remove(ctx context.Context, removal Removal) error {
	if err := checkRemoval(removal); err != nil {
		return err
	}
	if outlives(removal.Epoch) {
		if err := l.RaiseFloor(ctx, removal.Epoch.Record.Epoch); err != nil {
			return err
		}
	}
	exchange, err := removeExchange(l.store.keys, &l.term, removal, l.store.now())
	if err != nil {
		return err
	}
	if outcome := l.store.driveOne(ctx, exchange); outcome.Err != nil {
		return fmt.Errorf("epochstore: remove %s: %w", removal.ID, outcome.Err)
	}
	return nil
}

// ForceRemove is Remove whatever the records of owner and desired state say. Who owns the changefeed learns of it by
// its watch; until then it may still write to a sink that cannot compare tokens.
func (l *Lead) ForceRemove(ctx context.Context, removal Removal) error {
	if outlives(removal.Epoch) {
		if err := l.RaiseFloor(ctx, removal.Epoch.Record.Epoch); err != nil {
			return err
		}
	}
	exchange, err := removeExchange(l.store.keys, &l.term, removal, l.store.now())
	if err != nil {
		return err
	}
	if outcome := l.store.driveOne(ctx, exchange); outcome.Err != nil {
		return fmt.Errorf("epochstore: force removal of %s: %w", removal.ID, outcome.Err)
	}
	return nil
}

// RaiseFloor makes all epochs from now on lie above the given one, for all changefeeds.
func (l *Lead) RaiseFloor(ctx context.Context, above fence.Epoch) error {
	return l.changeMeta(ctx, func(meta *record.Meta) bool { return raiseFloor(meta, above) })
}

// RaiseLevel raises the cluster's feature level, if every node has it. It never falls. A node that joins meanwhile makes it
// an [ErrConflict]: either the raise sees that node, or the node, which reads the level after it joined, sees the raise.
func (l *Lead) RaiseLevel(ctx context.Context, level int) error {
	if level > record.LevelCurrent {
		return fmt.Errorf("%w: feature level %d is above %d, the highest that this version knows", ErrRefused, level,
			record.LevelCurrent)
	}
	view, err := l.store.Cluster(ctx)
	if err != nil {
		return err
	}
	for _, node := range view.Nodes {
		if node.Record == nil || node.Record.Level < level {
			return fmt.Errorf("%w: not every node has the feature level %d", ErrConflict, level)
		}
	}
	nodes := kv.ModAtMost(l.store.keys.Of(record.KindNode), view.Revision)
	meta, err := l.store.changeMeta(ctx, &l.term, func(meta *record.Meta) bool {
		raised := level > meta.Level
		meta.Level = max(meta.Level, level)
		return raised
	}, nodes)
	if err == nil {
		l.setMeta(meta)
	}
	return err
}

// changeMeta writes what change makes of the meta record, unless it reports that nothing is to be done.
func (l *Lead) changeMeta(ctx context.Context, change func(*record.Meta) bool) error {
	for range attemptsMax {
		meta, err := l.store.changeMeta(ctx, &l.term, change)
		if err == nil {
			l.setMeta(meta)
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("epochstore: change meta: %w", ErrConflict)
}
