package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"fencerow/internal/wait"
	"fencerow/record"
)

// Bounds of following another node.
const (
	followPause   = 2 * time.Second // before a node is asked again
	eventBytesMax = 64 << 10
)

// running waits for what runs for one stream. What fails ends all of it.
type running struct {
	group sync.WaitGroup
	end   context.CancelFunc
}

func newRunning(end context.CancelFunc) *running { return &running{end: end} }

func (r *running) run(do func() error) {
	r.group.Go(func() {
		if err := do(); err != nil {
			r.end()
		}
	})
}

func (r *running) wait() { r.group.Wait() }

// followFences passes on what the fences of another node refuse, and asks again when it is cut off.
func (s *Server) followFences(ctx context.Context, r *http.Request, node record.Node, out chan<- event) error {
	for ctx.Err() == nil {
		s.followOnce(ctx, r, node, out)
		wait.For(ctx, followPause)
	}
	return nil
}

func (s *Server) followOnce(ctx context.Context, r *http.Request, node record.Node, out chan<- event) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Scheme+"://"+node.HTTP+"/api/v1/events", http.NoBody)
	if err != nil {
		return
	}
	request.Header.Set("Authorization", s.authority(r))
	request.Header.Set(forwardedMark, string(s.backend.Self()))
	response, err := s.config.Client.Do(request)
	if err != nil {
		return
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, eventBytesMax)
	var one event
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			one.kind = value
		case "id":
			one.id = value
		case "data":
			if json.Unmarshal([]byte(value), &one.data) == nil && one.kind == "fence" {
				select {
				case out <- one:
				default:
				}
			}
			one = event{}
		}
	}
}
