package sim

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/record"
	"fencerow/sink"
)

// This file turns what was committed into facts, by reading bytes as anybody could.

// observe is called after every transaction of a server, with its events.
func (w *World) observe(s *server, by actor, events []kv.Event) {
	if s == w.target {
		w.observeTarget(by, events)
		return
	}
	var node changefeed.NodeID
	if by.life != nil {
		node = by.life.id
	}
	// The epoch record first: the others of its transaction speak of it.
	slices.SortStableFunc(events, func(a, b kv.Event) int { return rankOf(a) - rankOf(b) })
	for _, event := range events {
		w.see(w.recordFact(event, node))
	}
	w.see(CommitFact{By: node})
}

func (w *World) see(fact Fact) {
	if fact != nil {
		w.fail(w.checker.See(fact))
	}
}

// rankOf puts what ended before what begins, and epochs before what is told of them. Deletions of a changefeed's epoch
// come before that of its spec.
func rankOf(event kv.Event) int {
	switch {
	case strings.Contains(event.Pair.Key, "/epochs/"):
		return 0
	case strings.Contains(event.Pair.Key, "/specs/"):
		return 1
	default:
		return 2
	}
}

func (w *World) recordFact(event kv.Event, by changefeed.NodeID) Fact {
	ref, err := w.plan.Keys.Parse(event.Pair.Key)
	if err != nil {
		w.fail(err)
		return nil
	}
	var decoded record.Record
	if !event.Deleted {
		if _, decoded, err = w.plan.Keys.Decode(event.Pair.Key, event.Pair.Value); err != nil {
			w.fail(err)
			return nil
		}
	}
	w.tellRecord(event, ref, by)
	switch ref.Kind {
	case record.KindEpoch:
		put, _ := decoded.(*record.Epoch)
		if put != nil {
			w.census.Bumps++
		}
		return EpochFact{ID: ref.ID, Put: put}
	case record.KindStatus:
		put, _ := decoded.(*record.Status)
		return StatusFact{ID: ref.ID, By: by, Put: put}
	case record.KindSpec:
		put, _ := decoded.(*record.Spec)
		return SpecFact{ID: ref.ID, Put: put, Revision: event.Pair.ModRevision}
	case record.KindHandoff:
		put, _ := decoded.(*record.Handoff)
		return HandoffFact{ID: ref.ID, Put: put}
	case record.KindHistory:
		put, _ := decoded.(*record.History)
		return HistoryFact{ID: ref.ID, Put: put}
	case record.KindCandidate:
		return CandidateFact{Key: event.Pair.Key, Revision: event.Pair.CreateRevision}
	case record.KindNode:
		return NodeFact{Node: ref.Node, Gone: event.Deleted}
	case record.KindMeta, record.KindName, record.KindDrain, record.KindEviction:
	}
	return nil
}

func (w *World) tellRecord(event kv.Event, ref record.Ref, by changefeed.NodeID) {
	if w.out == nil {
		return
	}
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
		pair, _ := s.machine.Range(kv.Range{Key: compare.Key})
		var stored kv.Pair
		if len(pair.Pairs) > 0 {
			stored = pair.Pairs[0]
		}
		if compare.Target == kv.ModRevision && stored.ModRevision == compare.Number ||
			compare.Target == kv.CreateRevision && stored.CreateRevision == compare.Number {
			continue
		}
		fenceNumber := fenceOf(compare.Key, by.txn)
		if fenceNumber > 0 {
			w.census.Fences[fenceNumber]++
		}
		if fenceNumber == 23 {
			w.census.Late++
		}
		w.say("%-9s refused %s of %s: %s is at %d", s.name, nameOfFence(fenceNumber), who(by), compare.Key, stored.ModRevision)
	}
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

// fenceOf says which fence a compare is, by the key that it is about and by what the transaction writes.
func fenceOf(key string, txn kv.Txn) int {
	puts := func(folder string) bool {
		return slices.ContainsFunc(txn.Then, func(op kv.Op) bool { return op.Kind == kv.OpPut && strings.Contains(op.Key, folder) })
	}
	switch {
	case strings.HasPrefix(key, claimsRoot) && strings.Contains(key, "/claims/"):
		return 23
	case strings.HasPrefix(key, claimsRoot):
		return 22
	case strings.Contains(key, "/coordinator/") && len(txn.Then) > 0 && !puts("/coordinator/"):
		return 1
	case strings.Contains(key, "/epochs/") && puts("/epochs/"):
		return 2
	case strings.Contains(key, "/specs/") && puts("/epochs/"):
		return 3
	case strings.Contains(key, "/epochs/") && puts("/status/"):
		return 4
	case strings.Contains(key, "/status/") && puts("/status/"):
		return 5
	case strings.Contains(key, "/specs/") && puts("/specs/"):
		return 25
	default:
		return 0
	}
}

// claimsRoot is where the etcd sink keeps heads and claims.
const claimsRoot = "/cdc-claims/"

// targetView is what was read of one changefeed's claims in the target.
type targetView struct {
	uid   changefeed.UID
	marks map[uint64][]SpanMark
	rest  []SpanMark
}

func (w *World) observeTarget(by actor, events []kv.Event) {
	touched := map[changefeed.ID]bool{}
	for _, event := range events {
		id, rest, found := claimKey(event.Pair.Key)
		if !found {
			continue
		}
		view := w.plan.views[id]
		if view == nil {
			view = &targetView{marks: map[uint64][]SpanMark{}}
			w.plan.views[id] = view
		}
		folder, number, _ := strings.Cut(rest, "/")
		n, _ := strconv.ParseUint(number, 10, 64)
		switch folder {
		case "head":
			w.seeHead(id, view, event)
		case "rest":
			view.rest = decodeRest(event)
			touched[id] = true
		case "marks":
			delete(view.marks, n)
			if !event.Deleted {
				view.marks[n] = decodeMarks(event)
			}
			touched[id] = true
		}
	}
	for _, event := range events {
		if id, rest, found := claimKey(event.Pair.Key); found && strings.HasPrefix(rest, "claims/") && event.Pair.Version == 1 && !event.Deleted {
			w.seeClaim(id, strings.TrimPrefix(rest, "claims/"), event)
		}
	}
	w.seeWrite(by)
	for _, id := range sortedIDs(touched) {
		w.see(MarksFact{UID: w.plan.views[id].uid, Marks: w.plan.views[id].all()})
	}
}

func sortedIDs(set map[changefeed.ID]bool) []changefeed.ID {
	var out []changefeed.ID
	for id := range set {
		out = append(out, id)
	}
	slices.SortFunc(out, changefeed.ID.Compare)
	return out
}

func (v *targetView) all() []SpanMark {
	out := slices.Clone(v.rest)
	for _, marks := range v.marks { // sorted below
		out = append(out, marks...)
	}
	slices.SortFunc(out, func(a, b SpanMark) int { return a.Span.Compare(b.Span) })
	return out
}

// claimKey cuts the key of a claim into the changefeed and the rest.
func claimKey(key string) (changefeed.ID, string, bool) {
	rest, found := strings.CutPrefix(key, claimsRoot+clusterID+"/")
	parts := strings.SplitN(rest, "/", 3)
	if !found || len(parts) < 3 {
		return changefeed.ID{}, "", false
	}
	return changefeed.ID{Namespace: parts[0], Name: parts[1]}, parts[2], true
}

func (w *World) seeHead(id changefeed.ID, view *targetView, event kv.Event) {
	var stored struct {
		Head sink.Head `json:"head"`
	}
	if err := json.Unmarshal(event.Pair.Value, &stored); err != nil {
		w.fail(err)
		return
	}
	view.uid = stored.Head.Identity.UID
	w.say("target    head of %v: uid %s, floor %d, removed %t", id, view.uid, stored.Head.Floor, stored.Head.Removed)
	w.see(HeadFact{ID: id, UID: view.uid, Floor: stored.Head.Floor, Removed: stored.Head.Removed})
}

func (w *World) seeClaim(id changefeed.ID, number string, event kv.Event) {
	var stored struct {
		Epoch fence.Epoch    `json:"epoch"`
		Seq   fence.Seq      `json:"seq"`
		Start changefeed.Key `json:"start"`
		End   changefeed.Key `json:"end"`
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err == nil {
		err = json.Unmarshal(event.Pair.Value, &stored)
	}
	if err != nil {
		w.fail(err)
		return
	}
	span := changefeed.Span{Start: stored.Start, End: stored.End}
	token := fence.Mint(stored.Epoch, stored.Seq)
	w.say("target    claim %d of %v: %v by %v", n, id, span, token)
	w.see(ClaimFact{UID: w.plan.views[id].uid, Claim: n, Span: span, Token: token})
}

// seeWrite looks at a transaction that wrote data.
func (w *World) seeWrite(by actor) {
	if len(by.txn.If) != 1 || !by.done {
		return
	}
	id, rest, found := claimKey(by.txn.If[0].Key)
	number, isClaim := strings.CutPrefix(rest, "claims/")
	if !found || !isClaim {
		return
	}
	n, _ := strconv.ParseUint(number, 10, 64)
	fact := WriteFact{UID: w.plan.views[id].uid, Claim: n}
	prefix := targetPrefix(id)
	for _, op := range by.txn.Then {
		key, isData := strings.CutPrefix(op.Key, prefix)
		if !isData {
			continue
		}
		written := Written{Key: sourcePrefix + key, Deleted: op.Kind == kv.OpDelete}
		if !written.Deleted {
			position, err := change.ParsePosition(string(op.Value))
			w.fail(err)
			written.Position = position
		}
		fact.Changes = append(fact.Changes, written)
	}
	w.census.Written += len(fact.Changes)
	if w.out != nil {
		w.say("target    write of %v under claim %d by %s: %v", id, n, who(by), fact.Changes)
	}
	w.see(fact)
}

func decodeRest(event kv.Event) []SpanMark {
	if event.Deleted {
		return nil
	}
	var held sink.Map
	if err := json.Unmarshal(event.Pair.Value, &held); err != nil {
		return nil
	}
	var out []SpanMark
	for _, piece := range held.Held() {
		out = append(out, SpanMark{Span: piece.Span, Mark: piece.Mark})
	}
	return out
}

func decodeMarks(event kv.Event) []SpanMark {
	var stored []struct {
		Start    changefeed.Key  `json:"start"`
		End      changefeed.Key  `json:"end"`
		Position change.Position `json:"position"`
		Index    uint32          `json:"index"`
	}
	if err := json.Unmarshal(event.Pair.Value, &stored); err != nil {
		return nil
	}
	var out []SpanMark
	for _, piece := range stored {
		out = append(out, SpanMark{
			Span: changefeed.Span{Start: piece.Start, End: piece.End},
			Mark: change.Mark{Position: piece.Position, Index: piece.Index},
		})
	}
	return out
}
