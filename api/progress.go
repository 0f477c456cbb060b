package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

// progressMax bounds how long a list waits for owners. One that hangs costs the list its lag, not its answer.
const progressMax = time.Second

// localProgress says how far the changefeeds are that this node owns: ?first= and ?last= are the first and the last name.
func (s *Server) localProgress(r *http.Request) (reply, error) {
	query := r.URL.Query()
	first, err := parseAfter(query.Get("first"))
	if err != nil {
		return reply{}, err
	}
	last, err := parseAfter(query.Get("last"))
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: shape.List[shape.Progress]{Items: s.progressHere(first, last)}}, nil
}

// progressHere is of the changefeeds from first to last; an empty last is the end.
func (s *Server) progressHere(first, last changefeed.ID) []shape.Progress {
	out := []shape.Progress{}
	for _, one := range s.backend.Progress() {
		if one.ID().Compare(first) >= 0 && (last == changefeed.ID{} || one.ID().Compare(last) <= 0) {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b shape.Progress) int { return a.ID().Compare(b.ID()) })
	return out
}

// addProgress adds to changefeeds, which are sorted by name, what only their owners know: lag, and what was written.
// Whoever can't be asked is left out: the records have the rest.
func (s *Server) addProgress(r *http.Request, items []shape.Changefeed) {
	if len(items) == 0 || r.Header.Get(forwardedMark) != "" {
		return
	}
	owned := map[changefeed.NodeID]bool{}
	for i := range items {
		owned[items[i].Owner] = items[i].Owner != ""
	}
	ctx, cancel := context.WithTimeout(r.Context(), progressMax)
	defer cancel()
	found := map[changefeed.ID]shape.Progress{}
	for _, list := range s.askOwners(r.WithContext(ctx), owned, items[0].ID(), items[len(items)-1].ID()) {
		for _, one := range list {
			found[one.ID()] = one
		}
	}
	for i := range items {
		if one, known := found[items[i].ID()]; known && one.Epoch == items[i].Epoch {
			items[i].Changes, items[i].Bytes = &one.Changes, &one.Bytes
			if items[i].Checkpoint != nil {
				items[i].LagSeconds = one.LagSeconds
			}
		}
	}
}

// askOwners asks the owners, all at once.
func (s *Server) askOwners(r *http.Request, owned map[changefeed.NodeID]bool, first, last changefeed.ID) [][]shape.Progress {
	var out [][]shape.Progress
	if owned[s.backend.Self()] {
		out = append(out, s.progressHere(first, last))
		owned[s.backend.Self()] = false
	}
	var others []record.Node
	if slices.ContainsFunc(slices.Collect(maps.Values(owned)), func(asked bool) bool { return asked }) {
		cluster, err := s.backend.Cluster(r.Context())
		if err != nil {
			return out
		}
		others = slices.DeleteFunc(cluster.Nodes, func(node record.Node) bool { return !owned[node.ID] })
	}
	answers := make([][]shape.Progress, len(others))
	query := url.Values{"first": {first.String()}, "last": {last.String()}}.Encode()
	var group errgroup.Group
	group.SetLimit(askedAtOnce)
	for i, node := range others {
		group.Go(func() error {
			list, err := ask[shape.List[shape.Progress]](s, r, node, "/api/v1/local/progress?"+query)
			if err == nil {
				answers[i] = list.Items
			}
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the work returns none
	return append(out, answers...)
}
