package epochstore

import (
	"errors"
	"fmt"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// StatusesPerTxnMax bounds the statuses of one transaction: each brings two compares, and etcd takes 128.
const StatusesPerTxnMax = 60

// ErrCheckpointBack says that a status would take a checkpoint back. It was not sent.
var ErrCheckpointBack = fmt.Errorf("%w: the checkpoint would go back", ErrRefused)

// StatusWrite is one status under one ownership.
type StatusWrite struct {
	ID        changefeed.ID
	Ownership Seen[record.Epoch]  // the record that made the writer the owner
	Last      Seen[record.Status] // the stored status; the zero value if there is none
	Status    record.Status
}

// StatusResult is what became of one status.
type StatusResult struct {
	// Status is the one that is in the store now, as far as is known: what was written if Err is nil, else what was
	// read back. It is the Last of the next write. It is the zero value if nothing was read.
	Status Seen[record.Status]
	// Err is ErrFenced (for good), ErrConflict (an earlier write of this owner was applied after all: go on from
	// Status), [fence.ErrUnknown] (it may still be applied; go on from Status), or an error that time may heal.
	Err error
}

// checkStatus refuses a status that contradicts its ownership or takes a checkpoint back.
func checkStatus(write StatusWrite) error {
	owned, last := write.Ownership.Record, write.Last.Record
	switch {
	case owned == nil || owned.Owner == "":
		return fmt.Errorf("%w: status of %s without an ownership", ErrRefused, write.ID)
	case write.Status.UID != owned.UID || owned.Epoch.Confirm(write.Status.Epoch) != nil:
		return fmt.Errorf("%w: status of %s is not of its ownership", ErrRefused, write.ID)
	case write.Last.Exists() && last == nil:
		return fmt.Errorf("status of %s over one that does not parse: %w", write.ID, write.Last.Err)
	default:
	}
	if last == nil || last.UID != owned.UID {
		return nil
	}
	if write.Status.Checkpoint < last.Checkpoint { // fence:F5
		return fmt.Errorf("%w: %s from %s to %s", ErrCheckpointBack, write.ID, last.Checkpoint, write.Status.Checkpoint)
	}
	return nil
}

// statusPart is the compares and the put of one status.
func statusPart(keys record.Keys, write StatusWrite) (part, []byte, error) {
	if err := checkStatus(write); err != nil {
		return part{}, nil, err
	}
	value, err := record.Encode(record.Ref{Kind: record.KindStatus, ID: write.ID}, &write.Status)
	if err != nil {
		return part{}, nil, fmt.Errorf("status of %s: %w", write.ID, err)
	}
	epochKey, statusKey := keys.Epoch(write.ID), keys.Status(write.ID)
	return part{
		key: statusKey,
		ifs: append(ownershipCompares(epochKey, write.Ownership),
			kv.ModIs(statusKey, write.Last.ModRevision), // fence:F5
		),
		thens: []kv.Op{kv.Put(statusKey, value)},
		reads: []kv.Op{kv.Get(epochKey), kv.Get(statusKey)},
	}, value, nil
}

// ownershipCompares is the condition of every write of a maintainer.
func ownershipCompares(epochKey string, ownership Seen[record.Epoch]) []kv.Compare {
	return []kv.Compare{
		kv.ModIs(epochKey, ownership.ModRevision), // fence:F4
	}
}

// StatusPlan is some statuses on their way. The outcomes of Exchanges[i] belong to the writes whose indexes Members[i]
// lists.
type StatusPlan struct {
	Exchanges []*Exchange
	Members   [][]int
	Refused   map[int]error // by write: not sent
	writes    []StatusWrite
}

// StatusExchanges packs statuses into few transactions. After a lost answer a status is read, never sent again: a late
// duplicate must not take a checkpoint back.
func StatusExchanges(keys record.Keys, writes []StatusWrite) StatusPlan {
	plan := StatusPlan{Refused: map[int]error{}, writes: writes}
	parts, values := make([]part, len(writes)), make([][]byte, len(writes))
	var indexes []int
	for i, write := range writes {
		built, value, err := statusPart(keys, write)
		if err != nil {
			plan.Refused[i] = err
			continue
		}
		parts[i], values[i] = built, value
		indexes = append(indexes, i)
	}
	for _, p := range packParts(part{}, parts, indexes, StatusesPerTxnMax) {
		packed := p.members
		own := make([]part, len(packed))
		for i, member := range packed {
			own[i] = parts[member]
		}
		judge := func(member int, _, reads []kv.Response) (verdict, int64, error) {
			index := packed[member]
			return judgeStatus(writes[index], values[index], reads)
		}
		plan.Exchanges = append(plan.Exchanges, newExchange(part{}, own, resendNot, judge))
		plan.Members = append(plan.Members, packed)
	}
	return plan
}

func judgeStatus(write StatusWrite, value []byte, reads []kv.Response) (verdict, int64, error) {
	epoch, status := firstPair(reads[0]), firstPair(reads[1])
	switch {
	case status.ModRevision != write.Last.ModRevision && string(status.Value) == string(value):
		return verdictDone, status.ModRevision, nil
	case epoch.ModRevision != write.Ownership.ModRevision:
		return verdictStale, 0, ErrFenced
	case status.ModRevision != write.Last.ModRevision:
		return verdictStale, 0, by(refusedStatus, ErrConflict)
	default:
		return verdictAgain, 0, nil
	}
}

// Results returns what became of the writes, once all exchanges are through.
func (p StatusPlan) Results(keys record.Keys) []StatusResult {
	results := make([]StatusResult, len(p.writes))
	for index, err := range p.Refused {
		results[index] = StatusResult{Err: err}
	}
	for e, exchange := range p.Exchanges {
		for i, outcome := range exchange.Outcomes() {
			index := p.Members[e][i]
			results[index] = statusResult(keys, p.writes[index], outcome)
		}
	}
	return results
}

func statusResult(keys record.Keys, write StatusWrite, outcome Outcome) StatusResult {
	if outcome.Err == nil {
		stored := write.Status
		seen := Seen[record.Status]{
			Record: &stored, ModRevision: outcome.ModRevision, CreateRevision: write.Last.CreateRevision,
		}
		if !write.Last.Exists() {
			seen.CreateRevision = outcome.ModRevision
		}
		return StatusResult{Status: seen}
	}
	result := StatusResult{Err: fmt.Errorf("epochstore: status of %s: %w", write.ID, outcome.Err)}
	if len(outcome.reads) > 0 && !errors.Is(outcome.Err, ErrFenced) {
		result.Status = seenOne[record.Status](keys, outcome.reads[1])
	}
	return result
}

// EvictionWrite voids every token of a changefeed up to Token on a node.
type EvictionWrite struct {
	ID        changefeed.ID
	Ownership Seen[record.Epoch]
	Node      changefeed.NodeID
	Token     fence.Token
	Last      Seen[record.Eviction] // the stored one; the zero value if there is none
}

func evictionPart(keys record.Keys, write EvictionWrite, eviction record.Eviction) (part, []byte, error) {
	owned, last := write.Ownership.Record, write.Last.Record
	switch {
	case owned == nil || owned.Owner == "":
		return part{}, nil, fmt.Errorf("%w: eviction of %s without an ownership", ErrRefused, write.ID)
	case last != nil && write.Token.OlderThan(fence.Mint(last.Epoch, last.Seq)):
		return part{}, nil, fmt.Errorf("%w: eviction of %s below the stored one", ErrRefused, write.ID)
	default:
	}
	ref := record.Ref{Kind: record.KindEviction, UID: owned.UID, Node: write.Node}
	value, err := record.Encode(ref, &eviction)
	if err != nil {
		return part{}, nil, fmt.Errorf("eviction of %s: %w", write.ID, err)
	}
	epochKey, key := keys.Epoch(write.ID), keys.Eviction(owned.UID, write.Node)
	return part{
		key:   key,
		ifs:   append(ownershipCompares(epochKey, write.Ownership), kv.ModIs(key, write.Last.ModRevision)),
		thens: []kv.Op{kv.Put(key, value)},
		reads: []kv.Op{kv.Get(epochKey), kv.Get(key)},
	}, value, nil
}

// evictionExchange puts an eviction, or deletes it where value is nil.
func evictionExchange(own part, ownership Seen[record.Epoch], last int64, value []byte) *Exchange {
	return newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		epoch, stored := firstPair(reads[0]), firstPair(reads[1])
		switch {
		case stored.ModRevision != last && string(stored.Value) == string(value):
			return verdictDone, stored.ModRevision, nil
		case epoch.ModRevision != ownership.ModRevision:
			return verdictStale, 0, ErrFenced
		case stored.ModRevision != last:
			return verdictStale, 0, ErrConflict
		case len(reads) > 2 && firstPair(reads[2]).ModRevision != 0: // the node that must be gone is there
			return verdictStale, 0, ErrConflict
		default:
			return verdictAgain, 0, nil
		}
	})
}
