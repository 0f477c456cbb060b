package sim

import (
	"encoding/json"
	"fmt"
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

// Observer turns what was committed to the records, and to an etcd that is a sink, into facts, by reading bytes as
// anybody could. The simulation and the suites on real processes use the same one, so that one checker judges both.
type Observer struct {
	Keys   record.Keys
	Claims string // the prefix of all claims in the target that are of this cluster
	// Data says which key of the source a key of the target stands for; false if it is none of the changefeed's.
	Data func(id changefeed.ID, key string) (string, bool)
	// Position is where in the source a value comes from that was put in the target.
	Position func(key string, value []byte) (change.Position, error)
	See      func(Fact)

	views map[changefeed.ID]*targetView
}

// targetView is what was read of one changefeed's claims in the target.
type targetView struct {
	uid   changefeed.UID
	marks map[uint64][]SpanMark
	rest  []SpanMark
}

// Records takes in what one transaction did to the records. By is who sent it.
func (o *Observer) Records(by changefeed.NodeID, events []kv.Event) error {
	// The epoch record first: the others of its transaction speak of it.
	slices.SortStableFunc(events, func(a, b kv.Event) int { return rankOf(a) - rankOf(b) })
	for _, event := range events {
		fact, err := o.recordFact(event, by)
		if err != nil {
			return err
		}
		if fact != nil {
			o.See(fact)
		}
	}
	o.See(CommitFact{By: by})
	return nil
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

func (o *Observer) recordFact(event kv.Event, by changefeed.NodeID) (Fact, error) {
	ref, err := o.Keys.Parse(event.Pair.Key)
	if err != nil {
		return nil, err
	}
	var decoded record.Record
	if !event.Deleted {
		if _, decoded, err = o.Keys.Decode(event.Pair.Key, event.Pair.Value); err != nil {
			return nil, err
		}
	}
	switch ref.Kind {
	case record.KindEpoch:
		put, _ := decoded.(*record.Epoch)
		return EpochFact{ID: ref.ID, Put: put}, nil
	case record.KindStatus:
		put, _ := decoded.(*record.Status)
		return StatusFact{ID: ref.ID, By: by, Put: put}, nil
	case record.KindSpec:
		put, _ := decoded.(*record.Spec)
		return SpecFact{ID: ref.ID, Put: put, Revision: event.Pair.ModRevision}, nil
	case record.KindHandoff:
		put, _ := decoded.(*record.Handoff)
		return HandoffFact{ID: ref.ID, Put: put}, nil
	case record.KindHistory:
		put, _ := decoded.(*record.History)
		return HistoryFact{ID: ref.ID, Put: put}, nil
	case record.KindCandidate:
		return CandidateFact{Key: event.Pair.Key, Revision: event.Pair.CreateRevision}, nil
	case record.KindNode:
		return NodeFact{Node: ref.Node, Gone: event.Deleted}, nil
	case record.KindEviction:
		put, _ := decoded.(*record.Eviction)
		return EvictionFact{UID: ref.UID, Node: ref.Node, By: by, Put: put}, nil
	case record.KindMeta, record.KindName, record.KindDrain:
	}
	return nil, nil
}

// Target takes in what one transaction, whose compares held, did to the target.
func (o *Observer) Target(txn kv.Txn, events []kv.Event) error {
	touched := map[changefeed.ID]bool{}
	var before []SpanMark
	if id, _, found := o.Write(txn); found {
		before = o.view(id).all()
	}
	for _, event := range events {
		id, rest, found := o.claimKey(event.Pair.Key)
		if !found {
			continue
		}
		view := o.view(id)
		folder, number, _ := strings.Cut(rest, "/")
		n, _ := strconv.ParseUint(number, 10, 64)
		switch folder {
		case "head":
			if err := o.seeHead(id, view, event); err != nil {
				return err
			}
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
		if id, rest, found := o.claimKey(event.Pair.Key); found && strings.HasPrefix(rest, "claims/") && event.Pair.Version == 1 && !event.Deleted {
			if err := o.seeClaim(id, strings.TrimPrefix(rest, "claims/"), event); err != nil {
				return err
			}
		}
	}
	if err := o.seeWrite(txn, before); err != nil {
		return err
	}
	if err := o.seeSyncs(events); err != nil {
		return err
	}
	for _, id := range sortedIDs(touched) {
		o.See(MarksFact{UID: o.view(id).uid, Marks: o.view(id).all()})
	}
	return nil
}

func (o *Observer) view(id changefeed.ID) *targetView {
	if o.views == nil {
		o.views = map[changefeed.ID]*targetView{}
	}
	if o.views[id] == nil {
		o.views[id] = &targetView{marks: map[uint64][]SpanMark{}}
	}
	return o.views[id]
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
func (o *Observer) claimKey(key string) (changefeed.ID, string, bool) {
	rest, found := strings.CutPrefix(key, o.Claims)
	parts := strings.SplitN(rest, "/", 3)
	if !found || len(parts) < 3 {
		return changefeed.ID{}, "", false
	}
	return changefeed.ID{Namespace: parts[0], Name: parts[1]}, parts[2], true
}

func (o *Observer) seeHead(id changefeed.ID, view *targetView, event kv.Event) error {
	var stored struct {
		Head sink.Head `json:"head"`
	}
	if err := json.Unmarshal(event.Pair.Value, &stored); err != nil {
		return fmt.Errorf("sim: head of %v: %w", id, err)
	}
	view.uid = stored.Head.Identity.UID
	o.See(HeadFact{ID: id, UID: view.uid, Floor: stored.Head.Floor, Removed: stored.Head.Removed})
	return nil
}

func (o *Observer) seeClaim(id changefeed.ID, number string, event kv.Event) error {
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
		return fmt.Errorf("sim: claim %s of %v: %w", number, id, err)
	}
	span := changefeed.Span{Start: stored.Start, End: stored.End}
	o.See(ClaimFact{UID: o.view(id).uid, Claim: n, Span: span, Token: fence.Mint(stored.Epoch, stored.Seq)})
	return nil
}

// seeWrite looks at a transaction that wrote data, and at the marks that stood before.
func (o *Observer) seeWrite(txn kv.Txn, before []SpanMark) error {
	id, n, found := o.Write(txn)
	if !found {
		return nil
	}
	fact := WriteFact{UID: o.view(id).uid, Claim: n, Moves: movesOf(before, o.view(id).marks[n])}
	for _, op := range txn.Then {
		key, isData := o.Data(id, op.Key)
		if !isData {
			continue
		}
		written := Written{Key: key, Deleted: op.Kind == kv.OpDelete}
		if !written.Deleted {
			position, err := o.Position(key, op.Value)
			if err != nil {
				return err
			}
			written.Position = position
		}
		fact.Changes = append(fact.Changes, written)
	}
	o.See(fact)
	return nil
}

// seeSyncs looks for sync points, after everything else that the transaction did.
func (o *Observer) seeSyncs(events []kv.Event) error {
	for _, event := range events {
		id, rest, found := o.claimKey(event.Pair.Key)
		digits, isSync := strings.CutPrefix(rest, "syncs/")
		if !found || !isSync || event.Deleted {
			continue
		}
		at, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return fmt.Errorf("sim: sync point of %v: %w", id, err)
		}
		o.See(SyncFact{UID: o.view(id).uid, At: change.Position(at)})
	}
	return nil
}

// movesOf returns what stood at one mark, and now stands at a later one.
func movesOf(before, after []SpanMark) []Move {
	var out []Move
	for _, was := range before {
		for _, is := range after {
			if part, overlaps := is.Span.Intersect(was.Span); overlaps && was.Mark.Before(is.Mark) {
				out = append(out, Move{Span: part, From: was.Mark, To: is.Mark})
			}
		}
	}
	return out
}

// Write says which claim a transaction writes data under; false if it is no such transaction. It puts the claim's marks,
// and touches neither the head nor a claim.
func (o *Observer) Write(txn kv.Txn) (id changefeed.ID, claim uint64, found bool) {
	for _, op := range txn.Then {
		of, rest, isClaim := o.claimKey(op.Key)
		folder, number, _ := strings.Cut(rest, "/")
		switch {
		case !isClaim:
		case folder == "head", folder == "claims", folder == "rest":
			return changefeed.ID{}, 0, false
		case folder == "marks" && op.Kind == kv.OpPut:
			n, err := strconv.ParseUint(number, 10, 64)
			id, claim, found = of, n, err == nil
		}
	}
	return id, claim, found
}

// FenceOf says which fence a compare of a key stands for, by what its transaction writes; 0 if none.
func FenceOf(key string, txn kv.Txn) int {
	puts := func(folder string) bool {
		return slices.ContainsFunc(txn.Then, func(op kv.Op) bool { return op.Kind == kv.OpPut && strings.Contains(op.Key, folder) })
	}
	switch {
	case strings.HasPrefix(key, claimsRoot) && puts("/syncs/"):
		return 24
	case strings.HasPrefix(key, claimsRoot) && strings.Contains(key, "/claims/"):
		return 23
	case strings.HasPrefix(key, claimsRoot) && puts("/syncs/"):
		return 24
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
