package epochstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/kv"
	"fencerow/record"
)

// Bounds of waiting for a name that another lease holds.
const (
	nameLook       = 250 * time.Millisecond
	nameRenewals   = 2 // a lease that was seen renewed that often is alive; once may be a new leader of etcd
	nameWaitFactor = 2
	nameWaitSlack  = 3 * time.Second // whole seconds are rounded down, and etcd ends leases a little late
)

// LeaseReader is what a kv.Store may offer beside its methods: how long a lease lives on, without renewing it.
type LeaseReader interface {
	// TimeToLive returns the lease with the remaining time as TTL. [kv.ErrLeaseNotFound] if it has ended.
	TimeToLive(ctx context.Context, id kv.LeaseID) (kv.Lease, error)
}

// Registration is a node that joined: its record under its lease, guarded by the create revision of that.
type Registration struct {
	Node     record.Node
	Revision int64 // create revision of the node record; nothing is admitted before a listing at or after it
	stored   int64 // mod revision of the node record
	lease    kv.LeaseID
	unsure   bool // an update has failed since, and may have been done
}

// Join puts the node's record and reserves its name, under the session's lease. If another lease holds the name, Join
// waits for that to end, and refuses with code node.name_taken only when it sees it renewed: so a restart after a
// crash succeeds.
func (s *Store) Join(ctx context.Context, session *Session, node record.Node) (Registration, error) {
	ctx, cancel := session.Context(ctx)
	defer cancel()
	exchange, err := joinExchange(s.keys, session.Lease(), node)
	if err != nil {
		return Registration{}, err
	}
	holder := nameHolder{store: s.kv, ttl: session.TTL()}
	for {
		registration, outcome := s.joinOnce(ctx, session, node, exchange())
		if !errors.Is(outcome.Err, errNameTaken) {
			return registration, outcome.Err
		}
		if err := holder.wait(ctx, node.Name, firstPair(outcome.reads[1]).Lease); err != nil {
			return Registration{}, err
		}
	}
}

// joinOnce tries to register the node.
func (s *Store) joinOnce(ctx context.Context, session *Session, node record.Node, exchange *Exchange) (Registration, Outcome) {
	outcome := s.driveOne(ctx, exchange)
	if outcome.Err != nil {
		outcome.Err = fmt.Errorf("epochstore: join as %s: %w", node.Name, classify(outcome.Err))
		return Registration{}, outcome
	}
	return Registration{
		Node: node, Revision: outcome.ModRevision, stored: outcome.ModRevision, lease: session.Lease(),
	}, outcome
}

var errNameTaken = fmt.Errorf("%w: the name is taken", ErrConflict)

// joinExchange returns a maker of the transaction that registers the node.
func joinExchange(keys record.Keys, lease kv.LeaseID, node record.Node) (func() *Exchange, error) {
	nodeKey, nameKey := keys.Node(node.ID), keys.Name(node.Name)
	value, err := record.Encode(record.Ref{Kind: record.KindNode, Node: node.ID}, &node)
	if err != nil {
		return nil, fmt.Errorf("epochstore: join: %w", err)
	}
	name, err := record.Encode(record.Ref{Kind: record.KindName, Name: node.Name}, &record.Name{Node: node.ID})
	if err != nil {
		return nil, fmt.Errorf("epochstore: join: %w", err)
	}
	own := part{
		key:   nodeKey,
		ifs:   []kv.Compare{kv.CreateIs(nodeKey, 0), kv.CreateIs(nameKey, 0)},
		thens: []kv.Op{kv.PutLeased(nodeKey, value, lease), kv.PutLeased(nameKey, name, lease)},
		reads: []kv.Op{kv.Get(nodeKey), kv.Get(nameKey)},
	}
	judge := func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		mine, held := firstPair(reads[0]), firstPair(reads[1])
		switch {
		case mine.Lease == lease && held.Lease == lease && held.ModRevision == mine.CreateRevision:
			return verdictDone, mine.CreateRevision, nil
		case mine.ModRevision != 0:
			return verdictStale, 0, fmt.Errorf("%w: node id %s is in use", ErrRefused, node.ID)
		case held.ModRevision != 0:
			return verdictStale, 0, errNameTaken
		default:
			return verdictAgain, 0, nil
		}
	}
	return func() *Exchange { return newExchange(part{}, []part{own}, resendSame, judge) }, nil
}

// nameHolder watches the lease that holds a name.
type nameHolder struct {
	store    kv.Store
	ttl      time.Duration // of our own session
	lease    kv.LeaseID
	left     time.Duration // of the holder's lease, when last seen
	renewals int
	looks    int
	limit    time.Time // when the lease must have ended if nobody renews it
}

// wait returns nil when it is time to try again, and an error when the holder is alive or ctx has ended.
func (h *nameHolder) wait(ctx context.Context, name string, lease kv.LeaseID) error {
	if h.looks == 0 || lease != h.lease {
		*h = nameHolder{store: h.store, ttl: h.ttl, lease: lease}
	}
	h.looks++
	if lease == 0 || h.alive(ctx) {
		return &changefeed.Fault{
			Code: changefeed.CodeNameTaken, Field: "name", Value: name, Detail: "is held by a node that is alive",
			Cure: "give this node another --name, or stop the other one", Permanent: true,
		}
	}
	if !wait.For(ctx, nameLook) {
		return fmt.Errorf("epochstore: wait for the name %s: %w", name, context.Cause(ctx))
	}
	return nil
}

// alive reports whether the holder's lease was seen renewed: its time grew, or it outlived what it had.
func (h *nameHolder) alive(ctx context.Context) bool {
	now := time.Now()
	left := h.ttl
	if reader, ok := h.store.(LeaseReader); ok {
		lease, err := reader.TimeToLive(ctx, h.lease)
		if err != nil {
			return false // ended, or not known: look again
		}
		left = lease.TTL
		if !h.limit.IsZero() && left > h.left {
			h.renewals++
		}
		h.left = left
	}
	if h.limit.IsZero() {
		// Twice, since a new leader of etcd renews all leases once.
		h.limit = now.Add(nameWaitFactor*left + nameWaitSlack)
	}
	return h.renewals >= nameRenewals || now.After(h.limit)
}

// UpdateNode stores what the node says of itself anew, if its record is still the one that it joined with, and returns
// the registration for the next update, also with an error. The error is ErrSessionOver if the record is gone.
func (s *Store) UpdateNode(ctx context.Context, registration Registration, node record.Node) (Registration, error) {
	if node.ID != registration.Node.ID || node.Name != registration.Node.Name {
		return registration, fmt.Errorf("%w: a node record of another node", ErrRefused)
	}
	value, err := record.Encode(record.Ref{Kind: record.KindNode, Node: node.ID}, &node)
	if err != nil {
		return registration, fmt.Errorf("epochstore: update node: %w", err)
	}
	for range attemptsMax {
		outcome := s.driveOne(ctx, updateNodeExchange(s.keys.Node(node.ID), value, registration))
		switch {
		case outcome.Err == nil:
			registration.Node, registration.stored, registration.unsure = node, outcome.ModRevision, false
			return registration, nil
		case !errors.Is(outcome.Err, ErrConflict):
			registration.unsure = true
			return registration, fmt.Errorf("epochstore: update node %s: %w", node.Name, classify(outcome.Err))
		}
		// An earlier update, whose outcome was unknown, was applied after all.
		registration.stored = firstPair(outcome.reads[0]).ModRevision
	}
	registration.unsure = true
	return registration, fmt.Errorf("epochstore: update node %s: %w", node.Name, ErrConflict)
}

// Says reports whether the stored record is known to have the node's liveness and unreachable peers. After an update that
// failed it is not known, since that may have been done: what was true before it has to be stored again.
func (r Registration) Says(node record.Node) bool {
	return !r.unsure && node.Liveness == r.Node.Liveness && slices.Equal(node.Unreachable, r.Node.Unreachable)
}

func updateNodeExchange(key string, value []byte, registration Registration) *Exchange {
	own := part{
		key: key,
		ifs: []kv.Compare{
			kv.CreateIs(key, registration.Revision),
			kv.ModIs(key, registration.stored),
		},
		thens: []kv.Op{kv.PutLeased(key, value, registration.lease)},
		reads: []kv.Op{kv.Get(key)},
	}
	return newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		stored := firstPair(reads[0])
		switch {
		case stored.CreateRevision != registration.Revision:
			return verdictStale, 0, fmt.Errorf("%w: the node record is gone", ErrSessionOver)
		case stored.ModRevision != registration.stored && string(stored.Value) == string(value):
			return verdictDone, stored.ModRevision, nil
		case stored.ModRevision != registration.stored:
			return verdictStale, 0, ErrConflict
		default:
			return verdictAgain, 0, nil
		}
	})
}

// PutDrain says that the node of that name is to be emptied, until DeleteDrain, over restarts. A drain that is there
// stays as it is.
func (s *Store) PutDrain(ctx context.Context, name, by string) error {
	key := s.keys.Drain(name)
	value, err := record.Encode(record.Ref{Kind: record.KindDrain, Name: name}, &record.Drain{At: s.now(), By: by})
	if err != nil {
		return fmt.Errorf("epochstore: drain %s: %w", name, err)
	}
	outcome := s.driveOne(ctx, createExchange(key, value))
	if outcome.Err != nil && !errors.Is(outcome.Err, ErrConflict) {
		return fmt.Errorf("epochstore: drain %s: %w", name, outcome.Err)
	}
	return nil
}

// DeleteDrain ends a drain. It reports whether there was one.
func (s *Store) DeleteDrain(ctx context.Context, name string) (bool, error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Delete(s.keys.Drain(name))}})
	if err != nil {
		return false, fmt.Errorf("epochstore: undrain %s: %w", name, err)
	}
	return result.Responses[0].Deleted > 0, nil
}
