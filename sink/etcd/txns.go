package etcd

import (
	"encoding/json"
	"errors"
	"slices"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/sink"
)

// fencedMax is how many writers one transaction fences out or retires: two operations each, and one for the head and one
// for the rest, within kv.TxnOpsMax.
const fencedMax = 60

// txn begins a transaction of the control side: it compares the head that was read, and moves it.
func (s *state) txn(head headRecord) kv.Txn {
	return kv.Txn{
		If:   []kv.Compare{kv.ModIs(s.layout.head(), s.headAt)}, // fence:F22 etcd
		Then: []kv.Op{kv.Put(s.layout.head(), head.encode())},
	}
}

// fenceOut rewrites claim keys, whose mod revisions are the incarnations of their writers, and reads marks, which nobody
// can move after it. A busy writer can't hold it up, since it compares nothing that writers write.
//
// Crash after it: those writers are fenced, nobody has their spans; tokens and marks stand as they were. Whoever claims
// next goes on from there.
func (s *state) fenceOut(writers []sink.Incarnation) kv.Txn {
	txn := s.txn(s.head)
	for _, n := range writers {
		txn.Then = append(txn.Then, kv.Put(s.layout.claim(n), s.claims[n]))
	}
	for _, n := range writers {
		txn.Then = append(txn.Then, kv.Get(s.layout.marks(n)))
	}
	return txn
}

// fenced takes in the answer to fenceOut.
func (s *state) fenced(writers []sink.Incarnation, result kv.Result) error {
	var held []sink.Held
	for _, piece := range s.held.Held() {
		if !slices.Contains(writers, piece.Incarnation) {
			held = append(held, piece)
		}
	}
	answers := result.Responses[1+len(writers):]
	for i, n := range writers {
		if len(answers[i].Pairs) == 0 {
			return broken(s.layout.marks(n), errors.New("it is missing"))
		}
		marks, err := decodeMarks(answers[i].Pairs[0])
		if err != nil {
			return err
		}
		pieces, err := piecesOf(s.layout, n, s.claims[n], marks)
		if err != nil {
			return err
		}
		held = append(held, pieces...)
	}
	var err error
	s.held, err = sink.NewMap(held)
	s.headAt = result.Revision
	return err
}

// retire moves the pieces of writers that are fenced out to the rest: they keep marks and tokens. It is only needed when
// one claim supersedes more than one transaction can.
//
// Crash after it: as after fenceOut, and those claims are gone.
func (s *state) retire(writers []sink.Incarnation) (kv.Txn, sink.Map) {
	txn := s.txn(s.head)
	held := s.held.Release(writers...)
	txn.Then = append(txn.Then, s.forget(writers)...)
	txn.Then = append(txn.Then, s.putRest(held)...)
	return txn, held
}

// forget deletes claims.
func (s *state) forget(writers []sink.Incarnation) []kv.Op {
	var ops []kv.Op
	for _, n := range writers {
		ops = append(ops, kv.Delete(s.layout.claim(n)), kv.Delete(s.layout.marks(n)))
	}
	return ops
}

// putRest stores the pieces without writer.
func (s *state) putRest(held sink.Map) []kv.Op {
	rest := held.Rest()
	if len(rest.Held()) > 0 {
		return []kv.Op{kv.Put(s.layout.rest(), encode(rest))}
	}
	if s.rest {
		return []kv.Op{kv.Delete(s.layout.rest())}
	}
	return nil
}

// claim supersedes writers that are fenced out, and stores the new claim. Its incarnation is the revision of the answer.
//
// Crash after it, or an answer that is lost: the claim stands, with nobody to write under it. A claim of the same token
// supersedes it like any other.
func (s *state) claim(as sink.Identity, claim sink.Claim) (kv.Txn, sink.Map, error) {
	n := s.head.NextClaim
	held, err := s.held.Claim(s.head.Head, as, claim, n)
	if err != nil {
		return kv.Txn{}, sink.Map{}, err
	}
	head := s.head
	head.NextClaim++
	txn := s.txn(head)
	txn.Then = append(txn.Then, s.forget(s.held.Writers(claim.Span))...)
	txn.Then = append(txn.Then, s.putRest(held)...)
	txn.Then = append(txn.Then,
		kv.Put(s.layout.claim(n), encodeClaim(claim)),
		kv.Put(s.layout.marks(n), encodeMarks(held.Pieces(n))))
	return txn, held, nil
}

// registration is what was read of the prefixes in use.
type registration struct {
	lockAt  int64 // mod revision of the lock; 0 if there is none
	targets []kv.Pair
}

// check refuses a prefix that overlaps one of another changefeed.
func (r registration) check(l layout) error {
	for _, pair := range r.targets {
		var record targetRecord
		if err := json.Unmarshal(pair.Value, &record); err != nil {
			return broken(pair.Key, err)
		}
		if pair.Key != l.entry && prefixesOverlap(string(record.Target), l.target) {
			return sink.InUse(record.identity())
		}
	}
	return nil
}

// raise returns the head to be stored.
func (s *state) raise(as sink.Identity, epoch fence.Epoch, known sink.Known) (headRecord, error) {
	head, err := s.head.Raise(as, epoch, known)
	if err != nil {
		return headRecord{}, err
	}
	if s.head.Exists() && !head.Succeeds(s.head.Head) && s.head.Target != s.layout.target {
		return headRecord{}, moved(s.head.Target, s.layout.target)
	}
	return headRecord{Head: head, Target: s.layout.target, NextClaim: max(s.head.NextClaim, 1)}, nil
}

// raiseTxn stores a head. The first one of a creation registers the prefix, in the same transaction, and forgets what an
// older creation left of claims.
func (s *state) raiseTxn(head headRecord, registered registration) kv.Txn {
	txn := s.txn(head)
	if s.head.Exists() && !head.Succeeds(s.head.Head) {
		return txn
	}
	txn.If = append(txn.If, kv.ModIs(targetsLock, registered.lockAt))
	txn.Then = append(txn.Then,
		kv.Put(targetsLock, encode(struct{}{})),
		kv.Put(s.layout.entry, encode(targetOf(head.Identity, s.layout.target))))
	txn.Then = append(txn.Then, s.clear()...)
	return txn
}

// remove stores the head that stays, and forgets everything else, in one step: there is nothing to clean up after it.
func (s *state) remove(head sink.Head) kv.Txn {
	txn := s.txn(headRecord{Head: head, Target: s.layout.target, NextClaim: max(s.head.NextClaim, 1)})
	txn.Then = append(txn.Then, s.clear()...)
	txn.Then = append(txn.Then, kv.Delete(s.layout.entry))
	return txn
}

func (s *state) clear() []kv.Op {
	return []kv.Op{
		kv.DeletePrefix(s.layout.claimsPrefix()), kv.DeletePrefix(s.layout.marksPrefix()), kv.Delete(s.layout.rest()),
		kv.DeletePrefix(s.layout.syncsPrefix()),
	}
}

// dataTxn stores data and marks under a claim. What it compares is what fenceOut and forget write.
func dataTxn(l layout, n sink.Incarnation, incarnation int64, ops []kv.Op, pieces []sink.Piece) kv.Txn {
	return kv.Txn{
		If:   []kv.Compare{kv.ModIs(l.claim(n), incarnation)}, // fence:F23 etcd
		Then: append(ops, kv.Put(l.marks(n), encodeMarks(pieces))),
	}
}
