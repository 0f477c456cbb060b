package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/sink"
)

var (
	_ sink.Syncing    = (*Sink)(nil)
	_ sink.SyncWriter = (*writer)(nil)
)

// syncRecord is the value of syncs/<position>. Its own mod revision is the revision at which the target is the cut.
type syncRecord struct {
	Position change.Position `json:"position"`
	Epoch    fence.Epoch     `json:"epoch"`
	Seq      fence.Seq       `json:"seq"`
}

func (l layout) syncsPrefix() string { return l.root + "syncs/" }

// sync is the key of a sync point, so padded that keys are in the order of positions.
func (l layout) sync(at change.Position) string { return fmt.Sprintf("%s%020d", l.syncsPrefix(), at) }

// parseSync reads the position from the key of a sync point.
func (l layout) parseSync(key string) (change.Position, error) {
	at, err := strconv.ParseUint(strings.TrimPrefix(key, l.syncsPrefix()), 10, 64)
	if err != nil || at == 0 {
		return 0, broken(key, errors.New("it does not name a position"))
	}
	return change.Position(at), nil
}

// LastSync implements [sink.Syncing].
func (s *Sink) LastSync(ctx context.Context) (change.Position, error) {
	var last change.Position
	err := s.alone(ctx, "read the sync points", func(store kv.Store) error {
		result, err := store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.layout.head()), kv.GetPrefix(s.layout.syncsPrefix())}})
		if err != nil {
			return failed("read the sync points", err)
		}
		held, err := decodeState(s.layout, slices.Concat(result.Responses[0].Pairs, result.Responses[1].Pairs))
		if err != nil {
			return err
		}
		if n := len(held.syncs); n > 0 && held.head.Identity.UID == s.config.Identity.UID {
			last = held.syncs[n-1]
		}
		return nil
	})
	return last, err
}

// Sync implements [sink.SyncWriter]. It reads how far everything is, and records the sync point in a transaction that
// holds only if no mark has moved since: at the revision of that transaction the target is the cut.
//
// Crash before it: nothing happened, and the next who tries finds the marks as they are. Crash after it, or an answer that is
// lost: the key is there, and whoever reads it knows.
func (w *writer) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	if w.ended != nil {
		return w.ended
	}
	err := w.sync(ctx, whole, at)
	if err != nil && !errors.Is(err, sink.ErrApart) && !errors.Is(err, sink.ErrSynced) {
		w.ended = named(err, w.name)
		return w.ended
	}
	return err
}

func (w *writer) sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	read, err := w.store.Range(ctx, kv.Range{Key: w.layout.root, End: kv.PrefixEnd(w.layout.root)})
	if err != nil {
		return failed("read how far the target is", err)
	}
	held, err := decodeState(w.layout, read.Pairs)
	if err != nil {
		return err
	}
	if err := held.held.StandsAt(whole, at); err != nil {
		if _, mine := held.claims[w.n]; !mine {
			return superseded(w.layout.claim(w.n))
		}
		return err
	}
	result, err := w.store.Txn(ctx, w.syncTxn(held, at, read.Revision))
	if err != nil {
		return failed("record a sync point", err)
	}
	if result.Succeeded {
		return nil
	}
	switch claim, key := result.Responses[0].Pairs, result.Responses[1].Pairs; {
	case len(claim) == 0 || claim[0].ModRevision != w.incarnation:
		return superseded(w.layout.claim(w.n))
	case len(key) > 0:
		return sink.ErrSynced
	default:
		return fmt.Errorf("%w %d: something moved meanwhile", sink.ErrApart, at)
	}
}

// syncTxn records a sync point under the claim, if it is not there, and if no mark was written since the revision at which
// they were read. Sync points that are too many go.
func (w *writer) syncTxn(held *state, at change.Position, revision int64) kv.Txn {
	l := w.layout
	token := held.tokenOf(w.n)
	txn := kv.Txn{
		If: []kv.Compare{
			kv.ModIs(l.claim(w.n), w.incarnation), kv.ModIs(l.sync(at), 0), kv.ModAtMost(l.marksPrefix(), revision), // fence:F24 etcd
		},
		Then: []kv.Op{kv.Put(l.sync(at), encode(syncRecord{Position: at, Epoch: token.Epoch(), Seq: token.Seq()}))},
		Else: []kv.Op{kv.Get(l.claim(w.n)), kv.Get(l.sync(at))},
	}
	for _, old := range held.syncs[:max(len(held.syncs)+1-sink.SyncPointsMax, 0)] {
		if old != at {
			txn.Then = append(txn.Then, kv.Delete(l.sync(old)))
		}
	}
	return txn
}

// tokenOf returns the token of a claim.
func (s *state) tokenOf(n sink.Incarnation) fence.Token {
	for _, piece := range s.held.Held() {
		if piece.Incarnation == n {
			return piece.Token
		}
	}
	return fence.Token{}
}
