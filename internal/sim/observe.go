package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// newObserver returns what turns this world's commits into facts.
func (w *World) newObserver() *Observer {
	return &Observer{
		Keys: w.plan.Keys, Claims: claimsRoot + clusterID + "/", See: w.see,
		Data: func(id changefeed.ID, key string) (string, bool) {
			rest, found := strings.CutPrefix(key, targetPrefix(id))
			return sourcePrefix + rest, found
		},
		Position: func(_ string, value []byte) (change.Position, error) { return change.ParsePosition(string(value)) },
	}
}

// observe is called after every transaction of a server, with its events.
func (w *World) observe(s *server, by actor, events []kv.Event) {
	var node changefeed.NodeID
	if by.life != nil {
		node = by.life.id
	}
	if s != w.target {
		w.tellRecords(events, node)
		w.fail(w.observer.Records(node, events))
		return
	}
	if !by.done {
		by.txn = kv.Txn{}
	}
	w.author = who(by)
	w.fail(w.observer.Target(by.txn, events))
}

func (w *World) see(fact Fact) {
	switch fact := fact.(type) {
	case EpochFact:
		if fact.Put != nil {
			w.census.Bumps++
		}
	case WriteFact:
		w.census.Written += len(fact.Changes)
		for _, move := range fact.Moves {
			if move.page() {
				w.census.Pages++
			}
		}
	case SyncFact:
		w.census.Syncs++
	case EvictionFact:
		if fact.Put != nil && fact.Put.AcknowledgedAt != nil {
			w.census.Evictions++
		} else if fact.Put != nil {
			w.overtake(fact)
		}
	case StatusFact:
		if fact.Put != nil && fact.Put.Error != nil && fact.Put.Error.Code == changefeed.CodeEpochBehindSink {
			w.census.Behind++
		}
	}
	if w.out != nil {
		w.tellTarget(fact)
	}
	w.fail(w.checker.See(fact))
}

func (w *World) tellTarget(fact Fact) {
	switch fact := fact.(type) {
	case HeadFact:
		w.say("target    head of %v: uid %s, floor %d, removed %t", fact.ID, fact.UID, fact.Floor, fact.Removed)
	case ClaimFact:
		w.say("target    claim %d of uid %s: %v by %v", fact.Claim, fact.UID, fact.Span, fact.Token)
	case SyncFact:
		w.say("target    sync point %d of uid %s by %s", fact.At, fact.UID, w.author)
	case WriteFact:
		w.say("target    write of uid %s under claim %d by %s: %v", fact.UID, fact.Claim, w.author, fact.Changes)
	}
}

func (w *World) tellRecords(events []kv.Event, by changefeed.NodeID) {
	if w.out == nil {
		return
	}
	for _, event := range events {
		ref, err := w.plan.Keys.Parse(event.Pair.Key)
		if err != nil {
			w.fail(fmt.Errorf("sim: %w", err))
			return
		}
		w.tellRecord(event, ref, by)
	}
}

func (w *World) tellRecord(event kv.Event, ref record.Ref, by changefeed.NodeID) {
	if event.Deleted {
		w.say("etcd      %d deleted %v %s by %s", event.Pair.ModRevision, ref.Kind, strings.TrimPrefix(event.Pair.Key, w.plan.Keys.Of(ref.Kind)), by)
		return
	}
	w.say("etcd      %d %v %s by %s", event.Pair.ModRevision, ref.Kind, event.Pair.Value, by)
}

// judged counts what a transaction's compares refused, by the fence that each stands for.
func (w *World) judged(s *server, by actor, result kv.Result, err error) {
	if err != nil || result.Succeeded || len(by.txn.If) == 0 {
		return
	}
	for _, compare := range by.txn.If {
		if compare.End != "" && !s.movedSince(compare) {
			continue
		}
		pair, _ := s.machine.Range(kv.Range{Key: compare.Key})
		var stored kv.Pair
		if len(pair.Pairs) > 0 {
			stored = pair.Pairs[0]
		}
		if compare.Target == kv.ModRevision && stored.ModRevision == compare.Number ||
			compare.Target == kv.CreateRevision && stored.CreateRevision == compare.Number {
			continue
		}
		fenceNumber := FenceOf(compare.Key, by.txn)
		if fenceNumber > 0 {
			w.census.Fences[fenceNumber]++
		}
		if fenceNumber == 23 {
			w.census.Late++
		}
		w.say("%-9s refused %s of %s: %s is at %d", s.name, nameOfFence(fenceNumber), who(by), compare.Key, stored.ModRevision)
	}
}

// movedSince reports whether a key of the compare's range was written at its revision or later.
func (s *server) movedSince(compare kv.Compare) bool {
	found, err := s.machine.Range(kv.Range{Key: compare.Key, End: compare.End})
	return err == nil && slices.ContainsFunc(found.Pairs, func(pair kv.Pair) bool { return pair.ModRevision >= compare.Number })
}

func who(by actor) string {
	if by.life == nil {
		return "operators"
	}
	return string(by.life.id)
}

func nameOfFence(number int) string {
	if number == 0 {
		return "a write"
	}
	return "F" + strconv.Itoa(number)
}
