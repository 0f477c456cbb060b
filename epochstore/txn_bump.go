package epochstore

import (
	"fmt"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// Term is the proof that a node is the coordinator: its election key and the create revision of it.
type Term struct {
	Key      string
	Revision int64 // the term
}

// Bump is one decision to give a changefeed its next epoch. Everything in it was seen at or before SeenRevision, and
// held at SeenRevision.
type Bump struct {
	ID           changefeed.ID
	Previous     Seen[record.Epoch] // the epoch record; the zero value if there is none
	Spec         Seen[record.Spec]
	SeenRevision int64
	Owner        changefeed.NodeID // "" for nobody
	OwnerName    string
	Reason       changefeed.Reason
	// Status is the last status that was seen. Its checkpoint goes to the history.
	Status Seen[record.Status]
	// Planned says that the bump follows the release in Status, which is compared too.
	Planned bool
	// Unanswered says that the owner of Previous was asked to release and did not in time; for the history.
	Unanswered bool
	// Nonce is the decision's own, by which its record is known again; "" draws one.
	Nonce string
}

// bumpDecision is a bump with all that a re-send keeps: nonce, epoch and value.
type bumpDecision struct {
	bump Bump
	next record.Epoch
	part part
}

// The else branch of a bump reads, in this order, first shared, then for each changefeed.
const (
	bumpReadElection = iota
	bumpReadMeta
)

const (
	bumpReadEpoch = iota
	bumpReadSpec
)

// bumpShared is what all bumps of one transaction have in common.
func bumpShared(keys record.Keys, term Term, meta Seen[record.Meta]) part {
	return part{
		// Of meta, since the epochs were made with its floor.
		ifs:   append(termCompares(term), kv.ModIs(keys.Meta(), meta.ModRevision)),
		reads: []kv.Op{kv.Get(term.Key), kv.Get(keys.Meta())},
	}
}

// decideBump turns a bump into the values that are sent, and sent again.
func decideBump(keys record.Keys, term Term, meta Seen[record.Meta], bump Bump, stamp Stamp) (bumpDecision, error) {
	if err := checkBump(bump, meta); err != nil {
		return bumpDecision{}, err
	}
	var persisted fence.Epoch
	if bump.Previous.Record != nil {
		persisted = bump.Previous.Record.Epoch
	}
	next := record.Epoch{
		UID:          bump.Spec.Record.UID,
		Epoch:        fence.Next(persisted, uint64(bump.SeenRevision), meta.Record.EpochFloor),
		Owner:        bump.Owner,
		OwnerName:    bump.OwnerName,
		Term:         term.Revision,
		SpecRevision: bump.Spec.ModRevision,
		Reason:       bump.Reason,
		Nonce:        stamp.Nonce,
		At:           stamp.At,
	}
	built, err := bumpPart(keys, bump, next)
	if err != nil {
		return bumpDecision{}, err
	}
	return bumpDecision{bump: bump, next: next, part: built}, nil
}

// Stamp is what a decision draws from the world: when it was made, and a word that no other decision has.
type Stamp struct {
	At    time.Time
	Nonce string
}

func checkBump(bump Bump, meta Seen[record.Meta]) error {
	switch {
	case meta.Record == nil:
		return fmt.Errorf("%w: bump %s without the cluster's meta record", ErrRefused, bump.ID)
	case bump.Spec.Record == nil:
		return fmt.Errorf("%w: bump %s without a spec", ErrRefused, bump.ID)
	case bump.Previous.Exists() && bump.Previous.Record == nil:
		// Its epoch is not known, so that a next one can't be above it for certain.
		return fmt.Errorf("bump %s over an epoch record that does not parse: %w", bump.ID, bump.Previous.Err)
	case bump.SeenRevision < max(bump.Previous.ModRevision, bump.Spec.ModRevision):
		return fmt.Errorf("%w: bump %s decided at revision %d, before what it was decided on", ErrRefused, bump.ID,
			bump.SeenRevision)
	case bump.Planned && !bump.Status.Exists():
		return fmt.Errorf("%w: planned bump %s without the status that released it", ErrRefused, bump.ID)
	default:
		return nil
	}
}

// bumpPart is the compares and puts of one bump.
func bumpPart(keys record.Keys, bump Bump, next record.Epoch) (part, error) {
	epochKey, specKey := keys.Epoch(bump.ID), keys.Spec(bump.ID)
	value, err := record.Encode(record.Ref{Kind: record.KindEpoch, ID: bump.ID}, &next)
	if err != nil {
		return part{}, fmt.Errorf("bump %s: %w", bump.ID, err)
	}
	out := part{
		key: epochKey,
		ifs: []kv.Compare{
			kv.ModIs(epochKey, bump.Previous.ModRevision), // fence:F2
			kv.ModIs(specKey, bump.Spec.ModRevision),      // fence:F3
		},
		thens: []kv.Op{kv.Put(epochKey, value)},
		reads: []kv.Op{kv.Get(epochKey), kv.Get(specKey)},
	}
	if bump.Planned {
		statusKey := keys.Status(bump.ID)
		out.ifs = append(out.ifs, kv.ModIs(statusKey, bump.Status.ModRevision))
		out.reads = append(out.reads, kv.Get(statusKey))
	}
	if bump.Previous.Record == nil {
		return out, nil
	}
	ended, err := historyPut(keys, bump.ID, *bump.Previous.Record, ending{
		until: next.At, checkpoint: finalCheckpoint(bump), why: string(bump.Reason), unanswered: bump.Unanswered,
	})
	if err != nil {
		return part{}, fmt.Errorf("bump %s: %w", bump.ID, err)
	}
	out.thens = append(out.thens, ended, kv.Delete(keys.Handoff(bump.ID)))
	return out, nil
}

// finalCheckpoint is the checkpoint of the last status, if it is of the changefeed that is bumped.
func finalCheckpoint(bump Bump) change.Position {
	status := bump.Status.Record
	if status == nil || status.UID != bump.Spec.Record.UID {
		return 0
	}
	return status.Checkpoint
}

// ending says how an ownership ended.
type ending struct {
	until      time.Time
	checkpoint change.Position
	why        string
	unanswered bool
}

func historyPut(keys record.Keys, id changefeed.ID, epoch record.Epoch, end ending) (kv.Op, error) {
	history := record.History{
		Epoch: epoch, Until: end.until, FinalCheckpoint: end.checkpoint, Ended: end.why, Unanswered: end.unanswered,
	}
	ref := record.Ref{Kind: record.KindHistory, ID: id, Epoch: epoch.Epoch}
	value, err := record.Encode(ref, &history)
	if err != nil {
		return kv.Op{}, err
	}
	return kv.Put(keys.History(id, epoch.Epoch), value), nil
}

// errMetaChanged says that the floor may have been raised: the bump is decided again with the same nonce.
var errMetaChanged = fmt.Errorf("%w: meta", ErrConflict)

// BumpExchanges packs bumps into few transactions. stamps has one for each bump; a bump that is decided again keeps its
// nonce.
func BumpExchanges(keys record.Keys, term Term, meta Seen[record.Meta], bumps []Bump, stamps []Stamp) BumpPlan {
	plan := BumpPlan{Decided: make([]record.Epoch, len(bumps)), Refused: map[int]error{}}
	decisions := make([]bumpDecision, len(bumps))
	parts := make([]part, len(bumps))
	var indexes []int
	for i, bump := range bumps {
		decision, err := decideBump(keys, term, meta, bump, stamps[i])
		if err != nil {
			plan.Refused[i] = err
			continue
		}
		decisions[i], parts[i], plan.Decided[i] = decision, decision.part, decision.next
		indexes = append(indexes, i)
	}
	shared := bumpShared(keys, term, meta)
	for _, p := range packParts(shared, parts, indexes, kv.TxnOpsMax) {
		members := p.members
		own := make([]part, len(members))
		for i, member := range members {
			own[i] = parts[member]
		}
		exchange := newExchange(shared, own, resendSame,
			func(member int, shared, reads []kv.Response) (verdict, int64, error) {
				return judgeBump(keys, judgedBump{decisions[members[member]], term, meta}, shared, reads)
			})
		plan.Exchanges = append(plan.Exchanges, exchange)
		plan.Members = append(plan.Members, members)
	}
	return plan
}

// BumpPlan is some bumps on their way. The outcomes of Exchanges[i] belong to the bumps whose indexes Members[i] lists.
// Exchanges are independent of one another.
type BumpPlan struct {
	Exchanges []*Exchange
	Members   [][]int
	Decided   []record.Epoch // by bump: the record that is put
	Refused   map[int]error  // by bump: it contradicts itself and is not sent
}

type judgedBump struct {
	bumpDecision
	term Term
	meta Seen[record.Meta]
}

// judgeBump says what the answer of the else branch means for one bump. The nonce is looked at first: the compare may
// have failed because our own first attempt was applied.
func judgeBump(keys record.Keys, d judgedBump, shared, own []kv.Response) (verdict, int64, error) {
	stored := firstPair(own[bumpReadEpoch])
	if seen := seenOne[record.Epoch](keys, own[bumpReadEpoch]); seen.Record != nil && seen.Record.Nonce == d.next.Nonce {
		return verdictDone, stored.ModRevision, nil
	}
	planned := d.bump.Planned && firstPair(own[len(own)-1]).ModRevision != d.bump.Status.ModRevision
	switch {
	case firstPair(shared[bumpReadElection]).CreateRevision != d.term.Revision:
		return verdictStale, 0, ErrTermOver
	case stored.ModRevision != d.bump.Previous.ModRevision:
		return verdictStale, 0, by(refusedEpoch, ErrConflict)
	case firstPair(own[bumpReadSpec]).ModRevision != d.bump.Spec.ModRevision:
		return verdictStale, 0, by(refusedSpec, ErrConflict)
	case planned:
		return verdictStale, 0, ErrConflict
	case firstPair(shared[bumpReadMeta]).ModRevision != d.meta.ModRevision:
		return verdictStale, 0, errMetaChanged
	default:
		return verdictAgain, 0, nil
	}
}
