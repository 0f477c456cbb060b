package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// Bounds of asking other nodes.
const (
	askMax        = 2 * time.Second
	askedAtOnce   = 16
	answerMax     = 64 << 20 // the spans of one changefeed
	forwardedMark = "X-Cdc-Forwarded"
)

func (s *Server) cluster(r *http.Request) (reply, error) {
	view, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	out := shape.Cluster{
		Cluster: s.config.Cluster, ClusterID: view.Meta.ClusterID, Version: s.config.Version, Level: view.Meta.Level,
		Nodes: s.presentNodes(r, view),
	}
	if view.Coordinator != "" {
		out.Coordinator = &shape.Coordinator{Node: view.Coordinator, Term: view.Term}
		for _, node := range view.Nodes {
			if node.ID == view.Coordinator {
				out.Coordinator.Name = node.Name
			}
		}
	}
	return reply{status: http.StatusOK, body: out}, nil
}

func (s *Server) nodes(r *http.Request) (reply, error) {
	view, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	wanted, err := parseWindow(r)
	if err != nil {
		return reply{}, err
	}
	nodes := s.presentNodes(r, view)
	slices.SortStableFunc(nodes, func(a, b shape.Node) int { return strings.Compare(string(a.ID), string(b.ID)) })
	skipped := sort.Search(len(nodes), func(i int) bool { return wanted.after == "" || string(nodes[i].ID) > wanted.after })
	return reply{status: http.StatusOK, body: page(nodes, skipped, wanted, func(node shape.Node) string { return string(node.ID) })}, nil
}

// presentNodes asks each node for what only it knows; one that doesn't answer is shown without.
func (s *Server) presentNodes(r *http.Request, view ClusterView) []shape.Node {
	out := make([]shape.Node, len(view.Nodes))
	var group errgroup.Group
	group.SetLimit(askedAtOnce)
	for i, node := range view.Nodes {
		out[i] = presentNode(node)
		out[i].Coordinator = node.ID == view.Coordinator
		group.Go(func() error {
			local, err := s.localOf(r, node)
			if err == nil && local.Node == node.ID {
				out[i].Maintainers, out[i].Dispatchers = &local.Maintainers, &local.Dispatchers
			}
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the work returns none
	return out
}

func presentNode(node record.Node) shape.Node {
	out := shape.Node{
		ID: node.ID, Name: node.Name, HTTP: node.HTTP, Peer: node.Peer, Version: node.Version, Level: node.Level,
		Started: node.Started, Liveness: node.Liveness, Unreachable: node.Unreachable,
	}
	if out.Unreachable == nil {
		out.Unreachable = []changefeed.NodeID{}
	}
	return out
}

func (s *Server) localOf(r *http.Request, node record.Node) (shape.Local, error) {
	if node.ID == s.backend.Self() {
		return s.here(), nil
	}
	return ask[shape.Local](s, r, node, "/api/v1/local")
}

func (s *Server) here() shape.Local {
	maintainers, dispatchers := s.backend.Loads()
	return shape.Local{Node: s.backend.Self(), Maintainers: maintainers, Dispatchers: dispatchers, Now: time.Now().UTC()}
}

func (s *Server) local(*http.Request) (reply, error) {
	return reply{status: http.StatusOK, body: s.here()}, nil
}

// ask asks another node, with the caller's own authority.
func ask[T any](s *Server, r *http.Request, node record.Node, path string) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(r.Context(), askMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Scheme+"://"+node.HTTP+path, nil)
	if err != nil {
		return out, fmt.Errorf("api: ask node %s: %w", node.Name, err)
	}
	request.Header.Set("Authorization", s.authority(r))
	request.Header.Set(forwardedMark, string(s.backend.Self()))
	response, err := s.config.Client.Do(request)
	if err != nil {
		return out, fmt.Errorf("api: ask node %s: %w", node.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return out, fmt.Errorf("api: ask node %s: status %d", node.Name, response.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, answerMax)).Decode(&out); err != nil {
		return out, fmt.Errorf("api: ask node %s: %w", node.Name, err)
	}
	return out, nil
}

// spans shows the cover, which the owner knows: another node asks it.
func (s *Server) spans(r *http.Request) (reply, error) {
	view, err := s.viewOf(r)
	if err != nil {
		return reply{}, err
	}
	wanted, err := parseWindow(r)
	if err != nil {
		return reply{}, err
	}
	out, err := s.cover(r, view)
	if err != nil {
		return reply{}, err
	}
	if r.Header.Get(forwardedMark) != "" { // a node needs all of them
		return reply{status: http.StatusOK, body: out}, nil
	}
	after, err := changefeed.ParseKey(wanted.after)
	if err != nil {
		return reply{}, badAfter(wanted.after)
	}
	skipped := sort.Search(len(out.Items), func(i int) bool { return bytes.Compare(out.Items[i].Start, after) >= 0 })
	return reply{status: http.StatusOK, body: page(out.Items, skipped, wanted, func(span shape.Span) string { return span.End.Word() })}, nil
}

// cover returns the spans of a changefeed; none while nobody owns it.
func (s *Server) cover(r *http.Request, view View) (shape.List[shape.Span], error) {
	empty := shape.List[shape.Span]{Items: []shape.Span{}}
	cluster, err := s.backend.Cluster(r.Context())
	if err != nil {
		return empty, err
	}
	names := make(map[changefeed.NodeID]string, len(cluster.Nodes))
	for _, node := range cluster.Nodes {
		names[node.ID] = node.Name
	}
	if spans, owned := s.backend.Spans(r.Context(), view.ID); owned {
		out := shape.List[shape.Span]{Items: make([]shape.Span, len(spans))}
		for i, span := range spans {
			out.Items[i] = presentSpan(span, names)
		}
		return out, nil
	}
	if view.Epoch.Value == nil || view.Epoch.Value.Owner == "" || r.Header.Get(forwardedMark) != "" {
		return empty, nil
	}
	for _, node := range cluster.Nodes {
		if node.ID != view.Epoch.Value.Owner || node.ID == s.backend.Self() {
			continue
		}
		out, err := ask[shape.List[shape.Span]](s, r, node, "/api/v1/changefeeds/"+pathOf(view.ID)+"/spans")
		if err != nil {
			return empty, refuse(http.StatusServiceUnavailable, &changefeed.Fault{
				Code: changefeed.CodeTimeout, Field: "node", Value: node.Name,
				Detail: "owns the changefeed and can't be asked for its spans", Err: err, Cure: "look at that node, and try again",
			})
		}
		return out, nil
	}
	return empty, nil
}

func pathOf(id changefeed.ID) string {
	return url.PathEscape(id.Namespace) + "/" + url.PathEscape(id.Name)
}

// head says where the source is now, so that somebody can wait until the checkpoint is there.
func (s *Server) head(r *http.Request) (reply, error) {
	view, err := s.readable(r)
	if err != nil {
		return reply{}, err
	}
	uri, err := endpoint.Parse(view.Spec.Value.Source, endpoint.Policy{Field: "source", Literals: endpoint.AllowLiterals})
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookMax)
	defer cancel()
	look, err := s.backend.Look(ctx, uri, view.Spec.Value.Options)
	if err != nil {
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeSourceUnreachable, Field: "source", Value: uri.String(),
			Detail: "can't be asked where it is", Err: err, Cure: "look at the source, and try again",
		}
	}
	return reply{status: http.StatusOK, body: shape.Head{Head: look.Head}}, nil
}

func (s *Server) resign(r *http.Request) (reply, error) {
	if err := s.backend.Resign(r.Context()); err != nil {
		return reply{}, err
	}
	out, err := s.cluster(r)
	out.status = http.StatusAccepted
	return out, err
}

func (s *Server) logLevel(r *http.Request) (reply, error) {
	var request shape.LogLevel
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	level, err := zapcore.ParseLevel(request.Level)
	if err != nil || level > zapcore.ErrorLevel {
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "level", Value: fmt.Sprintf("%.100q", request.Level),
			Detail: "is no level", Cure: "give debug, info, warn or error",
		}
	}
	s.config.Level.SetLevel(level)
	return reply{status: http.StatusOK, body: shape.LogLevel{Level: level.String()}}, nil
}
