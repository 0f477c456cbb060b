package epochstore

import (
	"fmt"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
)

// termCompares is the condition of every write of a coordinator.
func termCompares(term Term) []kv.Compare {
	return []kv.Compare{
		kv.CreateIs(term.Key, term.Revision), // fence:F1
	}
}

// claimTerm is the first act of a winner: a transaction under its own term, which fails if the session that won the
// campaign was dead already.
func claimTerm(keys record.Keys, term Term) *Exchange {
	own := part{
		key:   term.Key,
		ifs:   termCompares(term),
		thens: []kv.Op{kv.Get(keys.Meta())},
		reads: []kv.Op{kv.Get(term.Key)},
	}
	return newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		if firstPair(reads[0]).CreateRevision != term.Revision {
			return verdictStale, 0, ErrTermOver
		}
		return verdictAgain, 0, nil
	})
}

// handoffExchanges packs requests for handoff. refused holds the errors of those that contradict themselves.
func handoffExchanges(keys record.Keys, term Term, handoffs []Handoff, at time.Time) (
	exchanges []*Exchange, members [][]int, refused []error,
) {
	refused = make([]error, len(handoffs))
	parts, values := make([]part, len(handoffs)), make([][]byte, len(handoffs))
	var indexes []int
	for i, handoff := range handoffs {
		built, value, err := handoffPart(keys, handoff, at)
		if err != nil {
			refused[i] = err
			continue
		}
		parts[i], values[i] = built, value
		indexes = append(indexes, i)
	}
	shared := part{ifs: termCompares(term), reads: []kv.Op{kv.Get(term.Key)}}
	for _, p := range packParts(shared, parts, indexes, kv.TxnOpsMax) {
		own := make([]part, len(p.members))
		for i, member := range p.members {
			own[i] = parts[member]
		}
		packed := p.members
		judge := func(member int, shared, reads []kv.Response) (verdict, int64, error) {
			index := packed[member]
			switch stored := firstPair(reads[1]); {
			case string(stored.Value) == string(values[index]):
				return verdictDone, stored.ModRevision, nil
			case firstPair(shared[0]).CreateRevision != term.Revision:
				return verdictStale, 0, ErrTermOver
			case firstPair(reads[0]).ModRevision != handoffs[index].Epoch.ModRevision:
				return verdictStale, 0, ErrConflict
			default:
				return verdictAgain, 0, nil
			}
		}
		exchanges = append(exchanges, newExchange(shared, own, resendSame, judge))
		members = append(members, packed)
	}
	return exchanges, members, refused
}

func handoffPart(keys record.Keys, handoff Handoff, at time.Time) (part, []byte, error) {
	epoch := handoff.Epoch.Record
	if epoch == nil || epoch.Owner == "" {
		return part{}, nil, fmt.Errorf("%w: handoff of %s, which nobody owns", ErrRefused, handoff.ID)
	}
	value, err := record.Encode(record.Ref{Kind: record.KindHandoff, ID: handoff.ID}, &record.Handoff{
		UID: epoch.UID, Epoch: epoch.Epoch, To: handoff.To, ToName: handoff.ToName, Reason: handoff.Reason, At: at,
	})
	if err != nil {
		return part{}, nil, err
	}
	epochKey, key := keys.Epoch(handoff.ID), keys.Handoff(handoff.ID)
	return part{
		key:   key,
		ifs:   []kv.Compare{kv.ModIs(epochKey, handoff.Epoch.ModRevision)},
		thens: []kv.Op{kv.Put(key, value)},
		reads: []kv.Op{kv.Get(epochKey), kv.Get(key)},
	}, value, nil
}

// Removal is a changefeed whose records are to be deleted, as it was seen.
type Removal struct {
	ID     changefeed.ID
	Spec   Seen[record.Spec]
	Epoch  Seen[record.Epoch] // the zero value if there is none
	Status Seen[record.Status]
}

// checkRemoval allows an orderly removal only.
func checkRemoval(removal Removal) error {
	spec, epoch := removal.Spec.Record, removal.Epoch.Record
	switch {
	case spec == nil || spec.Desired != changefeed.DesiredRemoved:
		return fmt.Errorf("%w: removal of %s, which users want to stay", ErrRefused, removal.ID)
	case removal.Epoch.Exists() && (epoch == nil || epoch.Owner != ""):
		return fmt.Errorf("%w: removal of %s, which has an owner", ErrRefused, removal.ID)
	default:
		return nil
	}
}

// removeExchange deletes spec, epoch, status, handoff and evictions, and puts the last ownership into the history.
// term is nil for a removal that a person forces on any node.
func removeExchange(keys record.Keys, term *Term, removal Removal, at time.Time) (*Exchange, error) {
	id := removal.ID
	if !removal.Spec.Exists() {
		return nil, fmt.Errorf("%w: removal of %s without its spec", ErrRefused, id)
	}
	specKey, epochKey := keys.Spec(id), keys.Epoch(id)
	own := part{
		key: specKey,
		ifs: []kv.Compare{
			kv.ModIs(specKey, removal.Spec.ModRevision),
			kv.ModIs(epochKey, removal.Epoch.ModRevision),
		},
		thens: []kv.Op{
			kv.Delete(specKey), kv.Delete(epochKey), kv.Delete(keys.Status(id)), kv.Delete(keys.Handoff(id)),
		},
		reads: []kv.Op{kv.Get(specKey), kv.Get(epochKey)},
	}
	if spec := removal.Spec.Record; spec != nil {
		own.thens = append(own.thens, kv.DeletePrefix(keys.EvictionsOf(spec.UID)))
	}
	if epoch := removal.Epoch.Record; epoch != nil {
		end := ending{until: at, why: string(changefeed.ReasonRemoved)}
		if status := removal.Status.Record; status != nil && status.UID == epoch.UID {
			end.checkpoint = status.Checkpoint
		}
		ended, err := historyPut(keys, id, *epoch, end)
		if err != nil {
			return nil, fmt.Errorf("remove %s: %w", id, err)
		}
		own.thens = append(own.thens, ended)
	}
	if term != nil {
		own.ifs = append(own.ifs, termCompares(*term)...)
		own.reads = append(own.reads, kv.Get(term.Key))
	}
	return newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		return judgeRemoval(term, removal, reads)
	}), nil
}

func judgeRemoval(term *Term, removal Removal, reads []kv.Response) (verdict, int64, error) {
	spec, epoch := firstPair(reads[0]), firstPair(reads[1])
	switch {
	case spec.CreateRevision != removal.Spec.CreateRevision:
		// This creation of the name is gone, and nothing else deletes it.
		return verdictDone, 0, nil
	case term != nil && firstPair(reads[2]).CreateRevision != term.Revision:
		return verdictStale, 0, ErrTermOver
	case spec.ModRevision != removal.Spec.ModRevision || epoch.ModRevision != removal.Epoch.ModRevision:
		return verdictStale, 0, ErrConflict
	default:
		return verdictAgain, 0, nil
	}
}

// raiseFloor makes epochs lie above the given one, and reports whether that changed anything.
func raiseFloor(meta *record.Meta, above fence.Epoch) bool {
	floor := fence.Next(above, 0, 0)
	if !meta.EpochFloor.OlderThan(floor) {
		return false
	}
	meta.EpochFloor = floor
	return true
}

// putExchange puts one record if it is as it was seen, and, for a coordinator, under its term. A re-send is safe, since
// the put changes the mod revision that it compares. It is not for what is created and may be deleted: see createExchange.
func putExchange(key string, value []byte, seenRevision int64, term *Term, also ...kv.Compare) *Exchange {
	return put{key: key, value: value, seen: seenRevision, term: term, also: also, resend: resendSame}.exchange()
}

// createExchange puts one record if there is none. It is not sent again: when what it made was deleted its compare holds
// once more, and a first attempt that was held up would bring back what is gone.
func createExchange(key string, value []byte) *Exchange {
	return put{key: key, value: value, resend: resendNot}.exchange()
}

// put is one record that is stored over what was seen of it; seen is a mod revision, 0 for none.
type put struct {
	key    string
	value  []byte
	seen   int64
	term   *Term
	also   []kv.Compare
	resend resend
}

func (p put) exchange() *Exchange {
	own := part{
		key: p.key,
		ifs: append([]kv.Compare{
			kv.ModIs(p.key, p.seen), // fence:F25
		}, p.also...),
		thens: []kv.Op{kv.Put(p.key, p.value)},
		reads: []kv.Op{kv.Get(p.key)},
	}
	if p.term != nil {
		own.ifs = append(own.ifs, termCompares(*p.term)...)
		own.reads = append(own.reads, kv.Get(p.term.Key))
	}
	return newExchange(part{}, []part{own}, p.resend, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		stored := firstPair(reads[0])
		switch {
		case stored.ModRevision != p.seen && string(stored.Value) == string(p.value):
			return verdictDone, stored.ModRevision, nil
		case p.term != nil && firstPair(reads[1]).CreateRevision != p.term.Revision:
			return verdictStale, 0, ErrTermOver
		case stored.ModRevision != p.seen:
			return verdictStale, 0, ErrConflict
		default:
			return verdictAgain, 0, nil
		}
	})
}
