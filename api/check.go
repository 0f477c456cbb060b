package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/record"
)

// Bounds of a check.
const (
	checkMax       = 2 * time.Minute
	sinksAtOnce    = 8               // that are read
	sinkReadMax    = 5 * time.Second // of one
	settleDefault  = 3 * time.Second
	clockOffMax    = 2 * time.Second // between two nodes; far above what a time service leaves
	findingsMax    = 1000
	checksAtOnce   = 1
	nodeSilentCure = "see that it runs, and that this node can reach the address that it advertises"
)

// checking does one check at a time: each reads every sink.
type checking struct{ running sync.Mutex }

// check reads the records, the nodes and the sinks' claims, and says what is inconsistent. What time may settle, such
// as a takeover under way, is looked at twice.
func (s *Server) check(r *http.Request) (reply, error) {
	if !s.checks.running.TryLock() {
		return reply{}, refuse(http.StatusTooManyRequests, &changefeed.Fault{
			Code: changefeed.CodeLimitExceeded, Field: "check", Detail: fmt.Sprintf("runs %d times already", checksAtOnce),
			Cure: "wait until it is done, or ask another node",
		})
	}
	defer s.checks.running.Unlock()
	before, err := s.readFacts(r)
	if err != nil {
		return reply{}, err
	}
	before.holdings = s.readSinks(r.Context(), before)
	after, err := s.readFacts(r)
	if err != nil {
		return reply{}, err
	}
	found := findings(before, after)
	if len(found) > 0 {
		if !wait.For(r.Context(), s.config.Settle) {
			return reply{}, r.Context().Err()
		}
		if after, err = s.readFacts(r); err != nil {
			return reply{}, err
		}
		found = both(found, findings(before, after))
	}
	return reply{status: http.StatusOK, body: shape.List[shape.Finding]{Items: found[:min(len(found), findingsMax)]}}, nil
}

// both returns what was found twice, as it was found the second time.
func both(first, second []shape.Finding) []shape.Finding {
	type key struct{ code, subject string }
	seen := map[key]bool{}
	for _, f := range first {
		seen[key{f.Code, f.Subject}] = true
	}
	out := []shape.Finding{}
	for _, f := range second {
		if seen[key{f.Code, f.Subject}] {
			out = append(out, f)
		}
	}
	return out
}

// readFacts reads all records, and asks each node how it is.
func (s *Server) readFacts(r *http.Request) (facts, error) {
	keys, err := record.NewKeys(s.config.Cluster)
	if err != nil {
		return facts{}, err
	}
	stored, err := s.backend.Dump(r.Context())
	if err != nil {
		return facts{}, err
	}
	out := newFacts(keys, stored)
	out.answers = make([]nodeAnswer, len(out.nodes))
	var group errgroup.Group
	group.SetLimit(askedAtOnce)
	for i, node := range out.nodes {
		group.Go(func() error {
			sent := time.Now()
			local, err := s.localOf(r, node)
			taken := time.Since(sent)
			if err == nil && local.Node != node.ID {
				err = fmt.Errorf("another node answers there")
			}
			out.answers[i] = nodeAnswer{err: err}
			if !local.Now.IsZero() { // a version before this one does not say
				out.answers[i].slack, out.answers[i].off = taken/2, local.Now.Sub(sent.Add(taken/2))
			}
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the work returns none
	return out, nil
}

// readSinks reads what each sink keeps.
func (s *Server) readSinks(ctx context.Context, of facts) map[changefeed.ID]sinkAnswer {
	var mu sync.Mutex
	out := map[changefeed.ID]sinkAnswer{}
	var group errgroup.Group
	group.SetLimit(sinksAtOnce)
	for id, feed := range of.feeds {
		if feed.spec == nil || feed.spec.Desired == changefeed.DesiredRemoved {
			continue
		}
		spec := *feed.spec
		group.Go(func() error {
			bounded, cancel := context.WithTimeout(ctx, sinkReadMax)
			defer cancel()
			holding, err := s.backend.Holding(bounded, spec)
			mu.Lock()
			defer mu.Unlock()
			out[id] = sinkAnswer{holding: holding, err: err}
			return nil
		})
	}
	_ = group.Wait() //nolint:errcheck // the work returns none
	return out
}
