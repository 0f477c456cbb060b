package epochstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// Bounds of reads.
const (
	PageMax    = 1000 // changefeeds of one page of a list
	HistoryMax = 64   // ownerships that are kept of a changefeed
	listPage   = 1000 // records of one request while all are read
)

// View is everything about one changefeed at one revision.
type View struct {
	ID       changefeed.ID
	Spec     Seen[record.Spec]
	Epoch    Seen[record.Epoch]
	Status   Seen[record.Status]
	Handoff  Seen[record.Handoff]
	Revision int64 // of the store when it was read
}

// Changefeed reads one changefeed, linearizably, at one revision. A name without a spec has code changefeed.not_found.
// A record that does not parse is in its field's Err.
func (s *Store) Changefeed(ctx context.Context, id changefeed.ID) (View, error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{
		kv.Get(s.keys.Spec(id)), kv.Get(s.keys.Epoch(id)), kv.Get(s.keys.Status(id)), kv.Get(s.keys.Handoff(id)),
	}})
	if err != nil {
		return View{}, fmt.Errorf("epochstore: read %s: %w", id, err)
	}
	view := View{
		ID:       id,
		Spec:     seenOne[record.Spec](s.keys, result.Responses[0]),
		Epoch:    seenOne[record.Epoch](s.keys, result.Responses[1]),
		Status:   seenOne[record.Status](s.keys, result.Responses[2]),
		Handoff:  seenOne[record.Handoff](s.keys, result.Responses[3]),
		Revision: result.Revision,
	}
	if !view.Spec.Exists() {
		return view, notFound(id)
	}
	return view, nil
}

// Epoch reads a changefeed's ownership linearizably, with the revision of the store: what a host does that must confirm
// an owner.
func (s *Store) Epoch(ctx context.Context, id changefeed.ID) (Seen[record.Epoch], int64, error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Get(s.keys.Epoch(id))}})
	if err != nil {
		return Seen[record.Epoch]{}, 0, fmt.Errorf("epochstore: read the epoch of %s: %w", id, err)
	}
	return seenOne[record.Epoch](s.keys, result.Responses[0]), result.Revision, nil
}

// Page is part of the list of changefeeds, in order of namespace and name.
type Page struct {
	Items    []View
	More     bool
	Revision int64
}

// List reads up to limit changefeeds after the given one (the zero value: from the beginning), all at one revision. With
// a namespace only those of it.
func (s *Store) List(ctx context.Context, namespace string, after changefeed.ID, limit int) (Page, error) {
	limit = min(max(limit, 1), PageMax)
	for range attemptsMax {
		page, err := s.listOnce(ctx, namespace, after, int64(limit))
		if !errors.Is(err, kv.ErrCompacted) {
			return page, err
		}
	}
	return Page{}, fmt.Errorf("epochstore: list changefeeds: %w", kv.ErrCompacted)
}

func (s *Store) listOnce(ctx context.Context, namespace string, after changefeed.ID, limit int64) (Page, error) {
	scope := ""
	if namespace != "" {
		scope = namespace + "/"
	}
	prefix := s.keys.Of(record.KindSpec)
	request := kv.Range{Key: prefix + scope, End: kv.PrefixEnd(prefix + scope), Limit: limit}
	if after != (changefeed.ID{}) {
		request.Key = max(request.Key, s.keys.Spec(after)+"\x00")
	}
	specs, err := s.kv.Range(ctx, request)
	if err != nil {
		return Page{}, fmt.Errorf("epochstore: list changefeeds: %w", err)
	}
	page := Page{More: specs.More, Revision: specs.Revision, Items: make([]View, 0, len(specs.Pairs))}
	index := map[changefeed.ID]int{}
	for _, pair := range specs.Pairs {
		ref, err := s.keys.Parse(pair.Key)
		if err != nil {
			continue // no name to show it under; the watches report it
		}
		index[ref.ID] = len(page.Items)
		page.Items = append(page.Items,
			View{ID: ref.ID, Spec: seenPair[record.Spec](s.keys, pair), Revision: specs.Revision})
	}
	if len(page.Items) == 0 {
		return page, nil
	}
	first, last := page.Items[0].ID, page.Items[len(page.Items)-1].ID
	for _, kind := range []record.Kind{record.KindEpoch, record.KindStatus, record.KindHandoff} {
		result, err := s.kv.Range(ctx, kv.Range{
			Key: s.keys.Of(kind) + first.String(), End: s.keys.Of(kind) + last.String() + "\x00",
			Revision: specs.Revision,
		})
		if err != nil {
			return Page{}, fmt.Errorf("epochstore: list changefeeds: %w", err)
		}
		for _, pair := range result.Pairs {
			ref, err := s.keys.Parse(pair.Key)
			if at, found := index[ref.ID]; err == nil && found {
				page.Items[at].take(s.keys, kind, pair)
			}
		}
	}
	return page, nil
}

func (v *View) take(keys record.Keys, kind record.Kind, pair kv.Pair) {
	switch kind {
	case record.KindEpoch:
		v.Epoch = seenPair[record.Epoch](keys, pair)
	case record.KindStatus:
		v.Status = seenPair[record.Status](keys, pair)
	default:
		v.Handoff = seenPair[record.Handoff](keys, pair)
	}
}

// History reads the ownerships of a changefeed's name that have ended, newest first, at most HistoryMax.
func (s *Store) History(ctx context.Context, id changefeed.ID) ([]Seen[record.History], error) {
	pairs, _, err := s.listAll(ctx, s.keys.HistoryOf(id), 0)
	if err != nil {
		return nil, fmt.Errorf("epochstore: history of %s: %w", id, err)
	}
	slices.Reverse(pairs)
	out := make([]Seen[record.History], 0, min(len(pairs), HistoryMax))
	for _, pair := range pairs[:min(len(pairs), HistoryMax)] {
		out = append(out, seenPair[record.History](s.keys, pair))
	}
	return out, nil
}

// ClusterView is the cluster and its nodes at one revision.
type ClusterView struct {
	Meta        Seen[record.Meta]
	Nodes       []Seen[record.Node]
	Drains      map[string]Seen[record.Drain] // by name
	Coordinator Coordinator
	Revision    int64
}

// Cluster reads the cluster and its live nodes, linearizably, at one revision.
func (s *Store) Cluster(ctx context.Context) (ClusterView, error) {
	result, err := s.kv.Txn(ctx, kv.Txn{Then: []kv.Op{
		kv.Get(s.keys.Meta()), kv.GetPrefix(s.keys.Of(record.KindNode)), kv.GetPrefix(s.keys.Of(record.KindDrain)),
		kv.GetPrefix(s.keys.Of(record.KindCandidate)),
	}})
	if err != nil {
		return ClusterView{}, fmt.Errorf("epochstore: read the cluster: %w", err)
	}
	view := ClusterView{
		Meta: seenOne[record.Meta](s.keys, result.Responses[0]), Drains: map[string]Seen[record.Drain]{},
		Coordinator: firstCandidate(s.keys, result.Responses[3].Pairs), Revision: result.Revision,
	}
	for _, pair := range result.Responses[1].Pairs {
		view.Nodes = append(view.Nodes, seenPair[record.Node](s.keys, pair))
	}
	for _, pair := range result.Responses[2].Pairs {
		if ref, err := s.keys.Parse(pair.Key); err == nil {
			view.Drains[ref.Name] = seenPair[record.Drain](s.keys, pair)
		}
	}
	return view, nil
}

// Nodes reads the live nodes, linearizably, with the revision of the store. Records that do not parse are in Err.
func (s *Store) Nodes(ctx context.Context) ([]Seen[record.Node], int64, error) {
	view, err := s.Cluster(ctx)
	return view.Nodes, view.Revision, err
}

// Evictions reads all evictions of a changefeed.
func (s *Store) Evictions(ctx context.Context, uid changefeed.UID) (map[changefeed.NodeID]Seen[record.Eviction], error) {
	pairs, _, err := s.listAll(ctx, s.keys.EvictionsOf(uid), 0)
	if err != nil {
		return nil, fmt.Errorf("epochstore: evictions of %s: %w", uid, err)
	}
	out := map[changefeed.NodeID]Seen[record.Eviction]{}
	for _, pair := range pairs {
		if ref, err := s.keys.Parse(pair.Key); err == nil {
			out[ref.Node] = seenPair[record.Eviction](s.keys, pair)
		}
	}
	return out, nil
}

// listAll reads all pairs under a prefix at one revision, page by page; revision 0 is the newest. It returns the
// revision that was read.
func (s *Store) listAll(ctx context.Context, prefix string, revision int64) ([]kv.Pair, int64, error) {
	var out []kv.Pair
	request := kv.Range{Key: prefix, End: kv.PrefixEnd(prefix), Limit: listPage, Revision: revision}
	for {
		result, err := s.kv.Range(ctx, request)
		if err != nil {
			return nil, 0, err
		}
		if request.Revision == 0 {
			request.Revision = result.Revision
		}
		out = append(out, result.Pairs...)
		if !result.More || len(result.Pairs) == 0 {
			return out, request.Revision, nil
		}
		request.Key = result.Pairs[len(result.Pairs)-1].Key + "\x00"
	}
}
